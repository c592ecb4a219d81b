"""Golden rows come back bit for bit, and a malformed file is refused by name."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml.compare import bound, compare
from edgeml.errors import ArrayError, BundleError, ManifestError, ProgramError, SampleError
from edgeml.golden import Golden, read_golden, write_golden
from edgeml.jsonutil import dumps, loads

NAN = float("nan")
ODD_NAN = struct.unpack("<d", b"\x01\x00\x00\x00\x00\x00\xf8\xff")[0]


class Parts:
    """The two golden members, as a bundle hands them out."""

    def __init__(self, description, blob):
        self._json, self._blob = dumps(description), blob

    def json(self, name):
        assert name == "golden.json"
        return loads(self._json, name)

    def member(self, name):
        assert name == "golden.bin"
        return memoryview(self._blob)


def objects(cells):
    return np.fromiter(cells, dtype=object, count=len(cells))


def there_and_back(columns, outputs, refused) -> Golden:
    return read_golden(Parts(*write_golden(columns, outputs, np.array(refused, dtype=bool))))


def same_array(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    if a.dtype == object:
        for x, y in zip(a.flat, b.flat, strict=True):
            assert type(x) is type(y)
            assert struct.pack("<d", x) == struct.pack("<d", y) if isinstance(x, float) else x == y
    else:
        assert a.tobytes() == b.tobytes()


CELLS = [
    "",
    "\U0001f600",
    "\ud83d",
    "\ud83d\ude00",
    "a\0b",
    "\x00",
    "é" * 300,
    None,
    NAN,
    ODD_NAN,
    -0.0,
    5e-324,
]


@pytest.mark.parametrize(
    "array",
    [
        np.array([NAN, ODD_NAN, np.inf, -np.inf, -0.0, 5e-324]),
        np.array([[1.5, NAN], [0.1, -0.0]], dtype=np.float32),
        np.array([-(2**63), 2**63 - 1]),
        np.array([1, 255], dtype=np.uint8),
        np.array([True, False]),
        np.array([[1, 2], [3, 4]]).T,
        np.array([1.5, 2.5], dtype=">f8").astype("<f8"),
        objects([*CELLS, 7, 2**80, -3, True, False]),
        np.array([["a", 1.5], [None, NAN]], dtype=object),
        np.array(["no", "yes", "\U0001f600"], dtype="<U12"),
        np.array([["a", "bc"]]),
        np.zeros((3, 0)),
    ],
)
def test_every_bit_comes_back(array):
    refused = [False] * len(array)
    golden = there_and_back({"column": array}, {"predict": array}, refused)
    assert golden.rows == len(array)
    same_array(golden.columns["column"], array)
    same_array(golden.outputs["predict"], array)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.text(st.characters()), st.none(), st.floats(), st.integers(), st.booleans())))
def test_any_cells_come_back(cells):
    golden = there_and_back({"c": objects(cells)}, {"transform": objects(cells)}, [False] * len(cells))
    same_array(golden.columns["c"], objects(cells))


def test_refused_rows_have_inputs_and_no_answers():
    golden = there_and_back({"x": np.arange(4.0)}, {"predict": np.array([1, 3])}, [False, True, False, True])
    assert golden.refused.tolist() == [False, True, False, True]
    assert golden.take(golden.refused)["x"].tolist() == [1.0, 3.0]
    assert golden.outputs["predict"].tolist() == [1, 3]


def test_numpy_scalars_become_python_cells():
    cells = objects([np.str_("a"), np.float32(0.1), np.int8(3), np.bool_(True)])
    got = there_and_back({"c": cells}, {}, [False] * 4).columns["c"]
    same_array(got, objects(["a", float(np.float32(0.1)), 3, True]))


def test_what_cannot_be_stored_is_named():
    with pytest.raises(SampleError, match=r"column 'c' holds b'x', a bytes"):
        write_golden({"c": objects([b"x"])}, {}, np.array([False]))
    with pytest.raises(SampleError, match=r"method 'predict' has 2 rows, not 1"):
        write_golden({}, {"predict": np.array([1, 2])}, np.array([False, True]))
    with pytest.raises(ArrayError, match="complex128"):
        write_golden({"c": np.array([1j])}, {}, np.array([False]))


def good():
    return write_golden(
        {"x": np.array([1.0, 2.0]), "c": objects(["a", None])},
        {"predict": np.array(["no"])},
        np.array([False, True]),
    )


@pytest.mark.parametrize(
    "edit",
    [
        lambda d: d.pop("refused"),
        lambda d: d.update(rows=3),
        lambda d: d.update(rows=-1),
        lambda d: d.update(rows=True),
        lambda d: d.update(columns={}),
        lambda d: d["columns"].append(d["columns"][0]),
        lambda d: d["columns"][0].pop("name"),
        lambda d: d["columns"][0].pop("parts"),
        lambda d: d["columns"][0].update(parts=[99]),
        lambda d: d["columns"][0].update(parts=[-1]),
        lambda d: d["columns"][0].update(parts=["0"]),
        lambda d: d["columns"][0].update(dtype="<f4"),
        lambda d: d["columns"][0].update(dtype="nonsense"),
        lambda d: d["columns"][0].update(dtype="V8"),
        lambda d: d["columns"][0].update(shape=[2, 1]),
        lambda d: d["columns"][0].update(shape=["2"]),
        lambda d: d["columns"][0].update(shape=[]),
        lambda d: d["columns"][1].update(shape=[3]),
        lambda d: d["columns"][1].update(parts=[1, 2]),
        lambda d: d["columns"][1].update(parts=[0, 0, 0]),
        lambda d: d["columns"][1].update(parts=[2, 1, 3]),
        lambda d: d["columns"][1].update(dtype="<U1"),
        lambda d: d["outputs"][0].update(dtype="<U20000"),
        lambda d: d["outputs"][0].update(dtype="<U1000000000"),
        lambda d: d["outputs"][0].update(parts=d["columns"][1]["parts"]),
        lambda d: d["refused"].update(parts=[0]),
        lambda d: d.update(refused=d["columns"][0]),
        lambda d: d.update(arrays=d["arrays"][:-1]),
    ],
)
def test_a_malformed_description_is_a_named_error(edit):
    description, blob = good()
    assert read_golden(Parts(description, blob)).rows == 2
    edit(description)
    with pytest.raises((ManifestError, ArrayError)):
        read_golden(Parts(description, blob))


def test_malformed_cells_are_named_errors():
    description, blob = good()
    for position in range(len(blob)):
        spoiled = bytearray(blob)
        spoiled[position] ^= 0xFF
        try:
            read_golden(Parts(description, bytes(spoiled)))
        except BundleError:
            continue


@pytest.mark.parametrize(("kind", "payload"), [(0, b"\xff"), (1, b"x"), (2, b"1234"), (3, b"x"), (4, b"\2"), (9, b"")])
def test_a_malformed_cell_is_an_array_error(kind, payload):
    from edgeml.bundle.arrays import pack

    description, _ = write_golden({"c": objects(["a"])}, {}, np.array([False]))
    parts = [
        np.array([kind], np.uint8),
        np.array([len(payload)]),
        np.frombuffer(payload, np.uint8),
        np.array([False]),
    ]
    description["arrays"], blob = pack(parts)
    with pytest.raises(ArrayError, match="column 'c': cell 0 is malformed"):
        read_golden(Parts(description, blob))


@pytest.mark.parametrize("ends", [[1, 0, 2], [-1, 1, 2], [0, 1, 1], [0, 1, 3]])
def test_cells_that_do_not_follow_one_another_are_an_array_error(ends):
    from edgeml.bundle.arrays import pack

    description, _ = write_golden({"c": objects(["", "a", "b"])}, {}, np.array([False] * 3))
    kinds, data = np.zeros(3, np.uint8), np.frombuffer(b"ab", np.uint8)
    description["arrays"], blob = pack([kinds, np.array(ends), data, np.zeros(3, dtype=bool)])
    with pytest.raises(ArrayError, match="do not follow one another"):
        read_golden(Parts(description, blob))


# --- compare
def test_equal_results():
    for x in (np.array([1.0, NAN, np.inf, -np.inf, 0.0]), np.array(["a"]), objects(["a", NAN, None, 1.5])):
        d = compare(x, x.copy())
        assert (d.flips, d.max_abs, d.max_rel, d.p999_rel, d.rows) == (0, 0.0, 0.0, 0.0, len(x))


def test_labels():
    assert compare(np.array(["a", "b", "c"]), np.array(["a", "x", "y"])).flips == 2
    assert compare(np.array([1, 2]), np.array([1, 3])).flips == 1
    assert compare(np.array([True, False]), np.array([True, True])).flips == 1
    assert compare(np.array([[1, 2], [3, 4]]), np.array([[0, 0], [3, 4]])).flips == 1
    assert compare(objects(["a", 1]), objects(["a", True])).flips == 1


def test_relative_error_of_a_regression():
    b = np.array([100.0, 200.0, 1e-9])
    d = compare(b, b * [1 + 1e-6, 1, 1])
    assert d.max_rel == pytest.approx(1e-6)
    assert d.max_abs == pytest.approx(1e-4)
    # 1e-9 is a zero crossing of a column whose usual size is 100: a thousandth of that is the measure.
    assert compare(b, b + np.array([0, 0, 1e-10])).max_rel == pytest.approx(1e-10 / 0.1)


def test_zeros_do_not_hide_the_size_of_a_column():
    b = np.array([[0.0]] * 90 + [[2.0]] * 10)
    assert compare(b, b + 1e-12).max_rel == pytest.approx(1e-12 / 2e-3)


def test_columns_are_measured_each_by_itself():
    b = np.array([[1e9, 1.0], [1e9, 0.0], [1e9, 1.0]])
    off = b.copy()
    off[1, 1] = 1e-6
    assert compare(b, off).max_rel == pytest.approx(1e-3)


def test_probabilities_are_compared_strictly():
    b = np.array([[0.5, 1e-9]] * 3)
    off = b * [1, 1 + 1e-6]
    assert compare(b, off, "predict_proba").max_rel == pytest.approx(1e-6)
    tail = np.array([[1e-300]])
    assert compare(tail, tail * 2, "predict_proba").max_rel == pytest.approx(1e-288)


def test_log_probabilities_are_compared_as_the_probabilities_they_are():
    b = np.array([[-1e-16, -40.0]])
    assert compare(b, np.array([[0.0, -40.0]]), "predict_log_proba").max_rel == pytest.approx(1e-16)
    assert compare(b, b * [1, 1 + 1e-6], "predict_log_proba").max_rel == pytest.approx(1e-6)


@pytest.mark.parametrize(("a", "b"), [(NAN, 1.0), (1.0, NAN), (np.inf, 1e308), (np.inf, -np.inf), (NAN, np.inf)])
def test_nan_and_infinity_never_pass_for_something_else(a, b):
    d = compare(np.array([a, 1.0]), np.array([b, 1.0]))
    assert d.max_abs == d.max_rel == np.inf
    assert compare(objects([a, 1.0]), objects([b, 1.0])).max_rel == np.inf


def test_p999_leaves_the_worst_out():
    b = np.ones(10_000)
    off = b.copy()
    off[0] += 1e-3
    d = compare(b, off)
    assert d.max_rel == pytest.approx(1e-3)
    assert d.p999_rel == 0.0


def test_object_cells_that_are_floats():
    b, a = (
        np.array([["a", 1.0], ["b", 2.0]], dtype=object),
        np.array([["a", 1.0], ["c", 2.0 + 1e-6]], dtype=object),
    )
    d = compare(b, a)
    assert d.flips == 1
    assert d.max_rel == pytest.approx(5e-7)


def test_bounds_and_shapes():
    assert bound(np.dtype("float64")) == bound(np.dtype("<U3")) == 1e-9
    assert bound(np.dtype("float32")) == 1e-5
    assert compare(np.zeros((0, 3)), np.zeros((0, 3))).rows == 0
    with pytest.raises(ProgramError, match=r"predict: shape \(2, 1\) cannot be compared with \(2,\)"):
        compare(np.zeros(2), np.zeros((2, 1)), "predict")
