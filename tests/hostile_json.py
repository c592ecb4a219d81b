"""JSON values for tests of readers: any value, hostile ones, and a known value with one of its parts replaced."""

from hypothesis import strategies as st

leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    leaves | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def places(value, path=()):
    """Paths to every value within a JSON value."""
    yield path
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield from places(inner, (*path, step))


def replaced(value, path, new):
    """The value with the part at ``path`` replaced."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], new)
    return copy


HOSTILE = st.sampled_from(
    [None, True, False, -1, 2**53, 10**19, 1.0, 0.5, "", "x", "A" * 32, "a" * 32, "\x00", "\ud800", "é" * 300, [], {},
     [[]], {"": 0}, [None] * 6, "window", "\u202e" * 40]
)  # fmt: skip
