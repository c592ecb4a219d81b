"""OneHotEncoder and OrdinalEncoder against scikit-learn: known, unknown, rare and missing categories."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from edgeml.converters import to_program
from edgeml.errors import NonFiniteError, SampleError, UnknownCategoryError, UnsupportedParameterError
from edgeml.ir import interpreter
from tests.oracle import assert_same, columns_of, converted, schema_of

pytestmark = pytest.mark.filterwarnings("ignore:Found unknown categories")
NAN = np.nan


def frame(rows=80, seed=0, *, unseen=False):
    """A column of every kind; with ``unseen``, cells that are not in the other frame."""
    rng = np.random.default_rng(seed)

    def column(seen, more, dtype=None):
        cells = np.array([*seen, *(more if unseen else [])], dtype=object)
        return pd.Series(rng.choice(cells, rows), dtype=dtype or object)

    return pd.DataFrame(
        {
            "str": column(["a", "b", "", "😀é", "a\x00b"], ["A", "é😀", " a", NAN], "str"),
            "nan": column(["a", "b", NAN], ["c", ""], "str"),
            "mixed": column(["x", "y", None, NAN], ["w", ""]),
            "none": column(["x", "y", None], ["z", NAN]),
            "plain": column(["x", "y"], [None, NAN, "z"]),
            "int": column([-3, 0, 1, 7], [2, -(2**40)], "int64"),
            "id": column([2**53, 2**53 + 1, 2**62, -(2**62)], [2**53 + 2, 2**62 + 1], "int64"),
            "bool": rng.random(rows) < 0.3,
            "float": column([-0.0, 1.5, np.nextafter(1.5, 2), NAN], [0.0, -1.5, 1e300, 5e-324], "float64"),
            "full": column([0.1, 0.2], [0.3, NAN], "float64"),
            "float32": column([0.1, 0.2, NAN], [0.3], "float32"),
            "category": pd.Categorical(column(["k", "l", "m", NAN], [])),
            "number": pd.Categorical(column([1, 2, 30], [])),
            "nullable": pd.array(column([1, 2, None], []), dtype="Int64"),
            "flag": pd.array(column([True, False, None], []), dtype="boolean"),
            "objects": column([1, 2, 2**60 + 1], [3]),
            "single": "same",
        }
    )


X, UNSEEN = frame(), frame(60, seed=5, unseen=True)

ONE_HOT = [
    {},
    {"drop": "first"},
    {"drop": "if_binary"},
    {"min_frequency": 20},
    {"min_frequency": 0.3},
    {"max_categories": 2},
    {"max_categories": 1},
    {"max_categories": 3, "drop": "if_binary"},
    {"min_frequency": 20, "drop": "first"},
    {"dtype": np.float32},
    {"dtype": np.int8},
    {"dtype": np.int64, "sparse_output": False},
    {"dtype": bool},
    {"feature_name_combiner": lambda name, category: f"{name}={category}"},
]


@pytest.mark.parametrize("unknown", ["error", "ignore", "infrequent_if_exist", "warn"])
@pytest.mark.parametrize("options", ONE_HOT, ids=str)
def test_one_hot(options, unknown):
    encoder = OneHotEncoder(handle_unknown=unknown, **options).fit(X)
    assert_same(encoder, X, X if unknown == "error" else UNSEEN, rtol=0, atol=0)


def test_one_hot_with_given_drops():
    drops = {
        "str": "",
        "nan": NAN,
        "none": None,
        "int": 1,
        "id": 2**53 + 1,
        "bool": True,
        "float": 1.5,
        "full": 0.2,
    }
    A, rows = X[list(drops)], UNSEEN[list(drops)]
    for options in ({}, {"min_frequency": 3}):
        encoder = OneHotEncoder(drop=list(drops.values()), handle_unknown="ignore", **options).fit(A)
        assert_same(encoder, A, rows, rtol=0, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"unknown_value": -1},
        {"unknown_value": NAN},
        {"unknown_value": 99, "encoded_missing_value": -7, "dtype": np.int32},
        {"unknown_value": -1, "encoded_missing_value": -1, "dtype": np.int8},
        {"encoded_missing_value": 100, "dtype": np.float32},
        {"unknown_value": -1, "min_frequency": 20},
        {"unknown_value": NAN, "max_categories": 2, "encoded_missing_value": -2},
        {"unknown_value": 50, "max_categories": 1, "dtype": np.int64, "encoded_missing_value": 60},
    ],
    ids=str,
)
def test_ordinal(options):
    unknown = "use_encoded_value" if "unknown_value" in options else "error"
    encoder = OrdinalEncoder(handle_unknown=unknown, **options).fit(X)
    assert_same(encoder, X, X if unknown == "error" else UNSEEN, rtol=0, atol=0)


def test_given_categories():
    given_categories = [["b", "a", None, NAN], [-5, 0, 1, 7], [False, True], [0.1, 0.2, NAN]]
    A = X[["plain", "int", "bool", "full"]].replace({"plain": {"x": "a", "y": "b"}})
    rows = UNSEEN[list(A)]
    assert_same(OneHotEncoder(categories=given_categories, handle_unknown="ignore").fit(A), A, rows)
    encoder = OrdinalEncoder(categories=given_categories[1:], handle_unknown="use_encoded_value", unknown_value=-9)
    A, rows = A.drop(columns="plain").assign(int=1), rows.drop(columns="plain")
    rows["int"] = 7
    assert_same(encoder.fit(A), A, rows)


@pytest.mark.parametrize(
    ("fitted", "rows"),
    [
        (np.array([[1, 2], [3, 2]]), np.array([[1.0, 2.0], [1.5, NAN]])),
        (np.array([[1.0, NAN], [2.5, 2.0]]), np.array([[1, 2], [2, 3]])),
        (np.array([[0.1, 0.5]]), np.array([[0.1, 0.5]], dtype="float32")),
        (np.array([[0.1, 0.5]], dtype="float32"), np.array([[0.1, 0.5], [np.float32(0.1), NAN]])),
        (np.array([[0, 1]]), np.array([[False, True], [True, True]])),
        (np.array([[False, True], [True, True]]), np.array([[0, 1], [2, 0]])),
        (np.array([[2**53 + 1], [2**53 + 2]]), np.array([[2.0**53], [2.0**53 + 2]])),
        (np.array([[1, 2], [3, 4]], dtype="uint8"), np.array([[1, 4], [3, 2], [255, 256]])),
    ],
    ids=str,
)
def test_numbers_of_another_dtype_than_in_fit(fitted, rows):
    assert_same(OneHotEncoder(handle_unknown="ignore").fit(fitted), rows, rtol=0, atol=0)
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    assert_same(ordinal.fit(fitted), rows, rtol=0, atol=0)


def test_arrays_of_strings_and_of_objects():
    for cells in (
        np.array([["a", "bb"], ["", "b"]]),
        np.array([["a", 1.5], [None, NAN], ["b", 2]], dtype=object),
    ):
        fitted = OneHotEncoder(handle_unknown="ignore").fit(cells)
        A = pd.DataFrame({f"x{i}": pd.Series(cells[:, i], dtype=object) for i in range(2)})
        want = fitted.transform(cells).toarray()
        program = to_program(fitted, schema_of(A), {"transform": ("matrix", "float64")})
        np.testing.assert_array_equal(interpreter.run(program, columns_of(A, schema_of(A)))["transform"], want)


def test_small_integers_promote_to_float32_beside_it():
    ct = ColumnTransformer([("one", OneHotEncoder(dtype=np.int8), ["str"]), ("num", "passthrough", ["float32"])])
    assert_same(make_pipeline(ct, StandardScaler(with_mean=False)).fit(X), X, rtol=0, atol=0)


@settings(max_examples=40, deadline=None)
@given(
    seen=st.lists(st.sampled_from(["", "a", "b", "😀", "\x00", None, NAN]), min_size=1, max_size=12),
    rows=st.lists(st.sampled_from(["", "a", "c", "😀", "\U0001f601", None, NAN]), min_size=1, max_size=8),
    drop=st.sampled_from([None, "first", "if_binary"]),
    most=st.sampled_from([None, 2, 3]),
    unknown=st.sampled_from(["ignore", "infrequent_if_exist"]),
)  # fmt: skip
def test_any_strings(seen, rows, drop, most, unknown):
    # A column with a string in the sample is one of strings.
    A = pd.DataFrame({"s": pd.Series([*seen, "a"], dtype=object)})
    B = pd.DataFrame({"s": pd.Series(rows, dtype=object)})
    # A second column leaves no encoder without columns.
    C, D = A.assign(t=np.arange(len(A)) % 3), B.assign(t=0)
    one_hot = OneHotEncoder(drop=drop, max_categories=most, handle_unknown=unknown)
    assert_same(one_hot.fit(C), C, D)
    codes = OrdinalEncoder(max_categories=most, handle_unknown="use_encoded_value", unknown_value=-1)
    assert_same(codes.fit(A), A, B)


# --- rows that are refused ----------------------------------------------------------------------------
@pytest.mark.parametrize("encoder", [OneHotEncoder(), OneHotEncoder(drop="first"), OrdinalEncoder()], ids=repr)
@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("str", "new"), ("str", NAN), ("nan", "c"), ("nan", None), ("none", NAN), ("plain", None),
        ("plain", NAN), ("int", 2), ("id", 2**53 + 2), ("full", NAN), ("full", 0.3), ("float", 2.0),
        ("float32", np.float32(0.3)), ("objects", 3),
    ],
)  # fmt: skip
def test_unknown_categories_are_refused_by_column(encoder, column, cell):
    A = X[["bool", column]]
    rows = A.head(4).reset_index(drop=True)
    # Any cell may come in a column of strings or objects, None included.
    free = A[column].dtype == object or A[column].dtype == "str"
    rows[column] = pd.Series([*A[column].head(3), cell], dtype=object if free else A[column].dtype)
    program = converted(encoder.fit(A), A)
    with pytest.raises(ValueError, match="Found unknown categories"):
        encoder.transform(rows)
    with pytest.raises(UnknownCategoryError, match=rf"row 3: column '{column}' has a category"):
        interpreter.run(program, columns_of(rows, schema_of(A)))


def test_the_column_is_named_behind_an_imputer_too():
    from sklearn.impute import SimpleImputer

    ct = ColumnTransformer(
        [("cat", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["nan", "plain"])]
    )
    program = converted(ct.fit(X), X)
    rows = X.head(2).assign(plain=["x", "?"])
    with pytest.raises(UnknownCategoryError, match=r"row 1: column 'plain' has .* OneHotEncoder .*cat/onehotencoder"):
        interpreter.run(program, columns_of(rows, schema_of(X)))


def test_infinity_is_refused_in_numbers_and_unknown_in_objects():
    A = X[["full"]]
    rows = pd.DataFrame({"full": [0.1, -np.inf]})
    for encoder in (OneHotEncoder(handle_unknown="ignore"), OrdinalEncoder()):
        with pytest.raises(ValueError, match="contains infinity"):
            encoder.fit(A).transform(rows)
        with pytest.raises(NonFiniteError, match="column 'full'"):
            interpreter.run(converted(encoder, A), columns_of(rows, schema_of(A)))
    stacked = make_pipeline(
        ColumnTransformer([("p", "passthrough", ["full", "str"])]), OneHotEncoder(handle_unknown="ignore")
    )
    A = X[["full", "str"]]
    assert_same(stacked.fit(A), A, A.head(2).assign(full=[0.1, np.inf]))


# --- what is refused at compile time ------------------------------------------------------------------
def refusal(encoder, A, match, sample=None):
    with pytest.raises(UnsupportedParameterError, match=match):
        to_program(encoder.fit(A), schema_of(A if sample is None else sample), {"transform": ("matrix", "float64")})


def test_none_among_numbers():
    A = pd.DataFrame({"n": pd.Series([1.5, 2.5, None], dtype=object)})
    assert_same(OneHotEncoder().fit(A), A)
    refusal(
        OneHotEncoder(handle_unknown="ignore"),
        A,
        r"OneHotEncoder\(handle_unknown='ignore'\).*\n.*column 'n' of numbers has None",
    )
    A = pd.DataFrame({"n": pd.Series([1.5, NAN, None], dtype=object)})
    refusal(OrdinalEncoder(), A, r"OrdinalEncoder\(handle_unknown='error'\)")
    whole = pd.DataFrame({"n": pd.Series([1, 2, 3], dtype=object)})
    encoder = OneHotEncoder(categories=[[1, 2, None]], handle_unknown="ignore").fit(whole)
    assert_same(encoder, whole)  # whole numbers have no missing cells


def test_a_sample_of_another_kind():
    refusal(
        OneHotEncoder(),
        X[["int"]],
        r"OneHotEncoder\(categories=\"?'?column 'int': int",
        X[["str"]].rename(columns={"str": "int"}),
    )
    refusal(
        OrdinalEncoder(),
        X[["str"]],
        r"OrdinalEncoder\(categories=.*column 'str': .*str",
        X[["int"]].rename(columns={"int": "str"}),
    )
    dates = pd.DataFrame({"d": pd.to_datetime(["2024-01-01", "2024-01-02"])})
    refusal(OneHotEncoder(), dates, r"OneHotEncoder\(categories=")
    with pytest.raises(SampleError, match="fitted on 1 columns, and is given 2"):
        to_program(
            OneHotEncoder().fit(X[["str"]]),
            schema_of(X[["str", "int"]]),
            {"transform": ("matrix", "float64")},
        )


@pytest.mark.parametrize("dtype", [np.float16, np.complex128, np.longdouble])
def test_dtypes_without_a_place_in_a_program(dtype):
    refusal(OneHotEncoder(dtype=dtype), X[["str"]], r"OneHotEncoder\(dtype=")
    if dtype != np.complex128:
        refusal(OrdinalEncoder(dtype=dtype), X[["str"]], r"OrdinalEncoder\(dtype=")


# --- the program is as short as it can be -------------------------------------------------------------
def test_a_dropped_category_costs_no_operation():
    for options in ({}, {"drop": "first"}):
        program = converted(OneHotEncoder(handle_unknown="ignore", **options).fit(X[["str"]]), X[["str"]])
        assert [node.op for node in program.nodes] == ["Lookup", "OneHot"]
    ordinal = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1).fit(X[["str"]])
    assert [node.op for node in converted(ordinal, X[["str"]]).nodes] == ["Lookup", "Cast"]
