"""Samples as data comes: which dtypes reach scikit-learn's arithmetic, what a null is, what is refused by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier

import edgeml
from edgeml.errors import SampleError, UnsupportedParameterError
from edgeml.ir import interpreter
from edgeml.parity.awkward import awkward_rows
from edgeml.sample import Sample, numpy_dtypes, read_sample
from tests.oracle import columns_of, converted, schema_of

ROWS = 60
Y = np.random.default_rng(9).integers(0, 2, ROWS)


def frame(**dtypes: str) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {}
    for name, dtype in dtypes.items():
        cells = rng.integers(0, 2 if "bool" in dtype else 100, ROWS)
        values = cells + rng.random(ROWS) if "loat" in dtype else cells
        columns[name] = pd.Series(values.astype("float32") if dtype == "Float32" else values).astype(dtype)
    return pd.DataFrame(columns)


def exactly(pipeline, X):
    """The program gives scikit-learn's ``transform`` to the last bit."""
    want = np.asarray(pipeline.fit(X).transform(X))
    got = interpreter.run(converted(pipeline, X), columns_of(X, schema_of(X)))["transform"]
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)
    return want.dtype


@pytest.mark.parametrize(
    ("dtype", "meets_float32_in"),
    [
        *((d, "float32") for d in ("int8", "uint8", "int16", "uint16", "bool")),
        *((d, "float64") for d in ("int32", "uint32", "int64", "Int8", "boolean", "Float32", "object")),
    ],
)
def test_a_column_meets_float32_as_numpy_promotes_it(dtype, meets_float32_in):
    X = frame(a=dtype, b="float32")
    assert exactly(StandardScaler(), X) == meets_float32_in
    both = ColumnTransformer([("a", FunctionTransformer(), ["a"]), ("b", StandardScaler(), ["b"])])
    if dtype in ("int8", "uint16", "int32", "int64"):
        assert exactly(make_pipeline(both, MinMaxScaler()), X) == meets_float32_in


def test_pandas_own_float32_is_computed_in_float64():
    assert exactly(MinMaxScaler(), frame(a="Float32")) == "float64"


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int64])
def test_codes_of_an_encoder_promote_by_their_dtype(dtype):
    X = frame(a="int64", b="float32")
    codes = OrdinalEncoder(dtype=dtype, handle_unknown="use_encoded_value", unknown_value=111)
    parts = ColumnTransformer([("a", codes, ["a"]), ("b", StandardScaler(), ["b"])])
    assert exactly(make_pipeline(parts, StandardScaler()), X) == np.result_type(dtype, np.float32)


@pytest.mark.parametrize(
    "keeps",
    [SimpleImputer(strategy="most_frequent", add_indicator=True), FunctionTransformer(validate=True), Binarizer()],
    ids=lambda est: type(est).__name__,
)
def test_transformers_that_keep_the_dtype(keeps):
    X = frame(a="int8", b="float32")
    parts = ColumnTransformer([("a", keeps, ["a"]), ("b", StandardScaler(), ["b"])])
    assert exactly(make_pipeline(parts, StandardScaler()), X) == "float32"


@pytest.mark.parametrize(
    "first", ["passthrough", SimpleImputer(strategy="constant"), FunctionTransformer(validate=True)]
)
def test_float16_arithmetic_is_refused_by_name(first):
    X = frame(a="float16")
    pipeline = make_pipeline(first, StandardScaler()).fit(X)
    with pytest.raises(UnsupportedParameterError, match="StandardScaler computes on float16") as caught:
        converted(pipeline, X)
    assert "float32" in caught.value.remedy


def test_a_tree_takes_float16(tmp_path):
    X = frame(a="float16", b="float16")
    tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(X, Y)
    edgeml.compile(tree, X, output=tmp_path / "m.edgeml")
    with edgeml.load(tmp_path / "m.edgeml") as model:
        np.testing.assert_array_equal(model.predict(X), tree.predict(X))


# --- objects ------------------------------------------------------------------------------------------------
def test_numbers_in_an_object_array_stay_what_they_are(tmp_path):
    X = np.empty((ROWS, 3), dtype=object)
    X[:, 0], X[:, 1] = np.array(["a", "b", "c"])[np.arange(ROWS) % 3], np.linspace(0, 1, ROWS)
    X[:, 2] = np.arange(ROWS) % 5
    parts = ColumnTransformer([("a", OneHotEncoder(dtype=np.int8), [0])], remainder="passthrough").fit(X)
    want = parts.transform(X)
    assert [type(cell) for cell in want[0]] == [int, int, int, float, int]
    edgeml.compile(parts, X, output=tmp_path / "m.edgeml")
    with edgeml.load(tmp_path / "m.edgeml") as model:
        got = model.transform(X)
    assert got.tolist() == want.tolist()
    assert [type(cell) for cell in got[0]] == [type(cell) for cell in want[0]]


@pytest.mark.parametrize("make", [np.asarray, lambda cells: pd.DataFrame(cells, dtype=object)])
def test_none_in_an_object_column_is_its_missing_cell(make, tmp_path):
    cells = np.empty((ROWS, 1), dtype=object)
    cells[:, 0] = [None if i % 4 == 0 else "ab"[i % 2] for i in range(ROWS)]
    X = make(cells)
    impute = SimpleImputer(missing_values=None, strategy="most_frequent")
    pipeline = make_pipeline(impute, OneHotEncoder(), LogisticRegression()).fit(X, Y)
    edgeml.compile(pipeline, X, output=tmp_path / "m.edgeml")
    with edgeml.load(tmp_path / "m.edgeml") as model:
        assert model.predict_one([None]) == pipeline.predict(make(np.array([[None]], dtype=object)))[0]


@pytest.mark.parametrize("engine", ["native", "onnx"])
def test_none_and_nan_are_two_categories_where_the_sample_has_both(engine, tmp_path):
    X = pd.DataFrame({"s": pd.Series(["a", None, float("nan")] * (ROWS // 3), dtype=object)})
    pipeline = make_pipeline(OneHotEncoder(), DecisionTreeClassifier()).fit(X, ["a", "none", "nan"] * (ROWS // 3))
    edgeml.compile(pipeline, X, output=tmp_path / "m.edgeml")
    with edgeml.load(tmp_path / "m.edgeml", engine=engine) as model:
        for cell, label in (("a", "a"), (None, "none"), (float("nan"), "nan")):
            assert model.predict_one({"s": cell}) == model.predict_one([cell]) == label
            assert model.predict([{"s": cell}, {"s": cell}]).tolist() == [label, label]


def test_a_float_column_of_objects_with_none_is_awkward_with_none():
    X = pd.DataFrame({"a": pd.Series([None, *map(float, range(9))], dtype=object)})
    sample = read_sample(OrdinalEncoder().fit(X), X)
    cells = awkward_rows(sample, most=50).rows["a"]
    assert any(cell is None for cell in cells)
    assert not any(cell is not None and cell != cell for cell in cells)


def test_strings_beside_pandas_na_make_awkward_rows():
    rows = np.array([["a"], ["b"], [pd.NA]], dtype=object)
    sample = read_sample(FunctionTransformer().fit(rows), rows)
    assert len(awkward_rows(sample, most=50)) > 3


# --- nulls --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("in_sample", [True, False])
def test_a_null_of_arrow_is_none_as_scikit_learn_reads_it(in_sample, tmp_path):
    pa = pytest.importorskip("pyarrow")
    nulls = pa.table({"s": [None if i % 5 == 0 else "AU"[i % 2] for i in range(ROWS)]})
    X = nulls if in_sample else pa.table({"s": ["AU"[i % 2] for i in range(ROWS)]})
    pipeline = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"), LogisticRegression()
    ).fit(X, np.arange(ROWS) % 5 == 0 if in_sample else np.arange(ROWS) % 2 == 0)
    edgeml.compile(pipeline, X, output=tmp_path / "m.edgeml")
    with edgeml.load(tmp_path / "m.edgeml") as model:
        assert model.schema.columns[0].null == "none"
        np.testing.assert_array_equal(model.predict_proba(nulls), pipeline.predict_proba(nulls))


@pytest.mark.parametrize("dtype", ["string", "Float32"])
def test_a_column_of_pandas_own_without_na_compiles(dtype, tmp_path):
    # scikit-learn refuses pandas.NA here, so no parity check may ask it about one.
    cells = pd.Series(["x", "y"] * (ROWS // 2)) if dtype == "string" else pd.Series(np.linspace(0, 1, ROWS))
    X = pd.DataFrame({"a": cells.astype(dtype)})
    first = (
        make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()) if dtype == "string" else "passthrough"
    )
    pipeline = make_pipeline(ColumnTransformer([("a", first, ["a"])]), DecisionTreeClassifier()).fit(X, Y)
    edgeml.compile(pipeline, X, output=tmp_path / "m.edgeml")
    with edgeml.load(tmp_path / "m.edgeml") as model:
        np.testing.assert_array_equal(model.predict(X), pipeline.predict(X))


@pytest.mark.parametrize("dtype", ["boolean", "Int64"])
def test_pandas_own_integers_are_filled_as_floats(dtype):
    exactly(SimpleImputer(strategy="constant", add_indicator=True), frame(a=dtype))


# --- awkward rows that are all refused; warnings (errors in these tests) -------------------------------------------
def test_a_pipeline_that_refuses_every_awkward_row(tmp_path):
    X = np.array(["a", "bb", "ccc"])[np.random.default_rng(0).integers(0, 3, (ROWS, 2))]
    encoder = OrdinalEncoder().fit(X)
    edgeml.compile(encoder, X, output=tmp_path / "m.edgeml")
    with edgeml.load(tmp_path / "m.edgeml") as model:
        np.testing.assert_array_equal(model.transform(X), encoder.transform(X))


def test_compile_passes_on_no_warning_of_its_own_awkward_rows(tmp_path):
    X = frame(n="float16").assign(s=["x", "y", "z"] * (ROWS // 3))
    encode = OneHotEncoder(drop="if_binary", handle_unknown="ignore")
    parts = ColumnTransformer([("s", encode, ["s"])], remainder="passthrough")
    edgeml.compile(make_pipeline(parts, DecisionTreeClassifier()).fit(X, Y), X, output=tmp_path / "m.edgeml")
    numbers = X[["n"]].to_numpy()
    edgeml.compile(DecisionTreeClassifier().fit(numbers, Y), numbers, output=tmp_path / "n.edgeml")


# --- refusals -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("labels", [["a", "when"], [0, 1]])
@pytest.mark.parametrize("encoder", [OrdinalEncoder(), "passthrough"])
def test_dates_are_refused_by_their_name_and_dtype(encoder, labels, tmp_path):
    X = frame(a="float64").assign(when=pd.date_range("2020-01-01", periods=ROWS, tz="UTC"))
    X.columns = labels
    parts = ColumnTransformer([("d", encoder, [1])]).fit(X)
    with pytest.raises((SampleError, UnsupportedParameterError), match="datetime64") as caught:
        edgeml.compile(parts, X, output=tmp_path / "m.edgeml")
    assert f"'{labels[1]}'" in caught.value.cause


def test_dates_are_not_returned_as_they_came(tmp_path):
    X = frame(a="float64").assign(when=pd.date_range("2020-01-01", periods=ROWS))
    parts = ColumnTransformer([("d", "passthrough", ["when"])]).fit(X)
    with pytest.raises(SampleError, match="transform returns datetime64"):
        edgeml.compile(parts, X, output=tmp_path / "m.edgeml")


def test_sparse_columns_and_integers_beyond_int64_are_refused():
    sparse = pd.DataFrame({"a": pd.arrays.SparseArray([0.0, 1.0], fill_value=0.0)})
    with pytest.raises(SampleError, match=r"column 'a' is sparse \(Sparse\[float64, 0.0\]\)"):
        read_sample(StandardScaler(with_mean=False).fit(sparse), sparse)
    large = np.array([[2**63], [1]], dtype=np.uint64)
    with pytest.raises(SampleError, match="integers beyond int64"):
        read_sample(StandardScaler().fit(large), large)


def test_dtypes_of_a_sample():
    X = frame(a="int8", b="int64", c="float32", d="boolean", e="bool").assign(
        f=pd.date_range("2020-01-01", periods=ROWS), g=["x"] * ROWS
    )
    found = numpy_dtypes(Sample(X, schema_of(X)))
    assert found.pop("f").startswith("datetime64")
    assert found == {"a": "int8", "b": "int64", "c": "float32", "d": "float64"}


def test_a_column_called_x(tmp_path):
    X = frame(X="int8", b="float32")
    pipeline = make_pipeline(ColumnTransformer([("a", StandardScaler(), ["X", "b"])]), DecisionTreeClassifier())
    pipeline.fit(X, Y)
    edgeml.compile(pipeline, X[["b", "X"]], output=tmp_path / "m.edgeml")
    with edgeml.load(tmp_path / "m.edgeml") as model:
        np.testing.assert_array_equal(model.predict(X), pipeline.predict(X))


def test_parts_of_a_union_keep_their_objects():
    X = pd.DataFrame({"a": pd.Series(range(ROWS), dtype=object), "b": np.linspace(0, 1, ROWS)})
    union = FeatureUnion([("same", FunctionTransformer()), ("scaled", StandardScaler())]).fit(X)
    want = union.transform(X)
    got = interpreter.run(converted(union, X), columns_of(X, schema_of(X)))["transform"]
    assert want.dtype == got.dtype == object
    assert [type(cell) for cell in got[0]] == [type(cell) for cell in want[0]]
