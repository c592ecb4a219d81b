"""What the tests of tables and of their cells share: a schema of one column, and cells compared by type too."""

from edgeml.schema import Column, Schema

NAN = float("nan")


def one(kind, null="nan"):
    """A schema with the one column ``a``."""
    return Schema("columns", (Column("a", kind, True, null),))


def same_cells(actual, expected):
    """Equal cells of equal types; NaN is equal to itself."""
    assert actual.dtype == object
    assert len(actual) == len(expected)
    for got, want in zip(actual, expected, strict=True):
        assert type(got) is type(want)
        assert got == want or (got != got and want != want)
