"""Power cuts: the spool runs on SQLite, whose every write is recorded; a cut leaves what a disk could have kept."""
