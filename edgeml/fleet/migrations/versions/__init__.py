"""One file a revision of the schema, numbered in their order."""
