"""FunctionTransformer with functions of the user's: what is refused, how it is told, and which rows are."""

from __future__ import annotations

import math
from functools import partial

import numba
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

import edgeml
from edgeml.converters import to_program
from edgeml.errors import InputError, UnsupportedEstimatorError, UnsupportedParameterError
from tests import function_docs
from tests.function_tools import FRAME, X, answers, program, run
from tests.oracle import converted, schema_of


# --- what depends on other rows, on cells, or is unknown -----------------------------------------------------------
def mean_of_column(X):
    return X - X.mean(axis=0)


def by_length(X):
    return X / len(X)


def by_rows(X):
    return X * (X.shape[0] + 1)


def sorted_rows(X):
    return np.sort(X, axis=0)


def first_row(X):
    return X - X[0]


def some_rows(X):
    return X[X[:, 0] > 0]


def running_total(X):
    out, total = np.zeros(len(X)), 0.0
    for i in range(len(X)):
        total += X[i, 0]
        out[i] = total
    return out


def branch_on_array(X):
    if (X > 0).all():
        return X
    return -X


def changes_argument(X):
    X[X < 0] = 0
    return X


def changes_view(X):
    X = X.copy()
    column = X[:, 0]
    column[:] = 1.0
    return X


def swallows(X):
    try:
        return np.unique(X)
    except Exception:  # whatever the function of the user raises
        return X


def unknown_function(X):
    return np.fft.fft(X, axis=1)


def pairs(X):
    return X[:, 0] * X[:, :1]


def nothing(X):
    return 3.0


def half(X):
    return X.astype(np.float16)


def unbounded(X):
    def steps(x):
        while x > 1:
            x = x / 2
        return x

    return np.vectorize(steps)(X)


def mixed_types(X):
    return np.vectorize(lambda x: 1 if x > 0 else 0.5)(X)


def sometimes_nothing(X):
    def positive(x):
        if x > 0:
            return x

    return np.vectorize(positive)(X)


def one_side_only(X):
    def positive(x):
        if x > 0:
            y = x
        return y

    return np.vectorize(positive)(X)


def tries(X):
    def guarded(x):
        try:
            return 1 / x
        except ZeroDivisionError:
            return 0.0

    return np.vectorize(guarded)(X)


REFUSED = {
    mean_of_column: ("line 2 of mean_of_column: mean with axis=0 depends on the other rows", "axis=1"),
    by_length: ("number of rows depends on the other rows", "axis=1"),
    by_rows: ("number of rows depends on the other rows", "axis=1"),
    sorted_rows: ("sort with axis=0 depends on the other rows", "axis=1"),
    first_row: (r"rows by position \[0\]", "axis=1"),
    some_rows: ("a mask that drops rows", "axis=1"),
    running_total: ("line 4 of running_total: total is carried from row to row", "every case"),
    branch_on_array: ("all with axis=None", "axis=1"),
    changes_argument: ("changes the function's argument", r"X = X.copy\(\)"),
    changes_view: ("view changes the array", "copy"),
    swallows: ("numpy.unique is not in the vocabulary|try cannot be translated", ""),
    unknown_function: ("numpy.fft.fft is not in the vocabulary", "documented vocabulary"),
    pairs: ("pairs every row with every other", "axis=1"),
    nothing: ("it gives float", "one row for each row"),
    half: (r"astype\(float16\)", "float64, float32"),
    unbounded: ("line 3 of steps: while goes on", "range"),
    mixed_types: ("whole numbers in one case and floats in another", "otypes"),
    sometimes_nothing: ("in one case and None in another|in another", "number in every case"),
    one_side_only: ("y is assigned on one side of an if only", "every case"),
    tries: ("try cannot be translated", "assignments, if, for"),
}


@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_a_function_that_no_program_computes_is_refused_by_name(function):
    cause, remedy = REFUSED[function]
    with pytest.raises(UnsupportedParameterError, match=cause) as caught:
        program(function, np.abs(X) + 0.1)
    assert f"step pipeline: FunctionTransformer(func='{function.__name__}') cannot be compiled" in caught.value.cause
    assert remedy.replace("\\", "") in caught.value.remedy or not remedy


@pytest.mark.parametrize(
    ("function", "cause"),
    [
        (lambda F: F[F["a"] > 0], "choice of rows"),
        (lambda F: F[["a"]] / F[["a"]].mean(), "mean over rows depends"),
        (lambda F: F["s"].str.upper().to_frame(), r"\.str of pandas"),
        (lambda F: F.sort_values("a"), r"\.sort_values of pandas"),
        (lambda F: F[["a"]] * F["b"], "a frame and a column"),
        (lambda F: F[["s"]] + "z", "strings or objects|an operand"),
        (lambda F: F.to_numpy(), "columns of several types"),
    ],
)
def test_a_function_of_a_frame_is_refused_by_what_it_does(function, cause):
    with pytest.raises(UnsupportedParameterError, match=cause):
        converted(FunctionTransformer(function), FRAME)


def test_objects_and_sparse_matrices():
    parts = ColumnTransformer([("all", "passthrough", ["a", "s"])]).fit(FRAME)
    made = make_pipeline(parts, FunctionTransformer(lambda X: X[:, :1]))
    with pytest.raises(UnsupportedParameterError, match="objects of several types"):
        converted(made, FRAME)
    scaled = make_pipeline(OneHotEncoder().fit(FRAME[["s"]]), FunctionTransformer(lambda X: X.multiply(2)))
    with pytest.raises(UnsupportedParameterError, match=r"\.multiply of a sparse matrix"):
        to_program(scaled, schema_of(FRAME[["s"]]), {"transform": ("matrix", "float64")})
    dense = make_pipeline(OneHotEncoder(), FunctionTransformer(lambda X: X.toarray() * 2)).fit(FRAME[["s"]])
    assert np.array_equal(run(converted(dense, FRAME[["s"]]), FRAME[["s"]]), dense.transform(FRAME[["s"]]))
    with pytest.raises(UnsupportedParameterError, match="float16"):
        converted(FunctionTransformer(lambda F: np.exp(F)), FRAME[["a"]].astype(np.int8))


def test_a_function_without_source_cannot_be_translated():
    space = {"np": np}
    exec("def f(X):\n    return X if X[0, 0] > 0 else -X", space)  # a function typed into a console
    with pytest.raises(UnsupportedParameterError, match=r"rows by position"):
        program(space["f"])


# --- rows for which Python raises -----------------------------------------------------------------------------------
def inverse(x):
    if x == 5.0:
        raise ValueError(x)
    assert x != 6.0
    return math.log(x) if x > 1 else 1 / x


@pytest.mark.parametrize("bad", [0.0, 5.0, 6.0])
def test_rows_for_which_the_function_raises_are_refused(bad):
    made = program(np.vectorize(inverse), np.abs(X) + 0.1)
    rows = np.full((2, 3), 2.0)
    assert np.allclose(run(made, rows), np.log(2.0))
    rows[1, 2] = bad
    with pytest.raises(InputError, match="inverse"):
        run(made, rows)


def test_a_branch_that_is_not_taken_refuses_nothing():
    def safe(x):
        return 0.0 if x == 0 or 1 / x < 0 else math.sqrt(x)

    rows = np.array([[0.0, -1.0, 4.0]])
    assert np.array_equal(answers(np.vectorize(safe), rows), [[0.0, 0.0, 2.0]])


@numba.njit
def divided(X):
    return np.array([row[0] / row[1] for row in X]).reshape(-1, 1)


def test_numba_raises_where_python_does():
    with pytest.raises(InputError, match="divides by zero"):
        run(program(divided), np.array([[1.0, 0.0, 0.0]]))


@numba.guvectorize(["void(float64[:], float64[:])"], "(n)->(n)")
def next_to(x, out):  # pragma: no cover - compiled
    for i in range(len(x)):
        out[i] = x[i] + 1


def test_a_guvectorized_function_is_refused_by_name():
    with pytest.raises(UnsupportedParameterError, match=r"func='next_to'.*numba\.guvectorize"):
        program(next_to)


def kept_and_renamed(X):
    Y = X.filter(regex="^[ab]$").copy()
    Y.insert(1, "twice", X["c"] * 2)
    Y.loc[Y["a"] > 0.5, "b"] = -1.0
    Y["z"] = Y.pop("a")
    return Y.pipe(lambda frame, by: frame * by, by=3.0).reindex(columns=["z", "twice", "b"])


@pytest.mark.parametrize(
    "function",
    [
        kept_and_renamed,
        lambda X: X.select_dtypes("number"),
        lambda X: X.select_dtypes(exclude=[bool]).drop(columns="s"),
        lambda X: X.filter(items=["b", "none", "a"]),
        lambda X: X[["a", "c"]].map(lambda v: v if v > 0 else -2.0 * v),
    ],
)
def test_columns_are_chosen_as_pandas_does(function):
    np.testing.assert_array_equal(answers(function, FRAME), function(FRAME.copy()).to_numpy())


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda X: X.pop("a").to_frame(), "changes the function's argument"),
        (lambda X: X.select_dtypes("float64"), "select_dtypes by 'float64'"),
        (lambda X: X.reindex(columns=["a", "none"]), "reindex with columns that are not there"),
        (lambda X: X.filter(["a"], axis=0), "filter by other than"),
    ],
)
def test_other_choices_of_columns_are_refused(function, said):
    with pytest.raises(UnsupportedParameterError, match=said):
        program(function, FRAME)


def test_a_function_that_returns_a_list_is_refused_by_name(tmp_path):
    model = FunctionTransformer(lambda X: [[float(x)] for x in X[:, 0]]).fit(X)
    with pytest.raises(UnsupportedEstimatorError, match="returns a list of list"):
        edgeml.compile(model, X, output=tmp_path / "m.edgeml")


def test_a_numpy_matrix_is_an_array(tmp_path):
    rows = X.view(np.matrix)
    edgeml.compile(
        FunctionTransformer(np.abs).fit(rows), rows, output=tmp_path / "m.edgeml", formats=["native"]
    ).close()
    with edgeml.load(tmp_path / "m.edgeml") as compiled:
        assert np.array_equal(compiled.transform(X), np.abs(X))


def test_dtypes_are_numpys():
    single = X.astype(np.float32)
    for function in (np.exp, lambda X: X * 2, lambda X: X * np.float64(2), lambda X: X > 1, lambda X: X.argmax(axis=1)):
        assert answers(function, single).dtype == function(single).dtype


def test_keywords_partials_and_closures():
    def scaled(X, by, shift=1.0):
        return X * by + shift

    assert np.array_equal(answers(scaled, by=3.0), X * 3.0 + 1.0)
    assert np.array_equal(answers(partial(scaled, by=3.0, shift=0.0)), X * 3.0)


def test_nothing_of_the_function_is_in_the_program():
    made = program(np.vectorize(inverse), np.abs(X) + 0.1)
    assert all(node.op != "Constant" or not isinstance(node.attrs["value"], tuple) for node in made.nodes)


def test_the_documented_vocabulary_is_the_one_there_is():
    text = function_docs.PAGE.read_text()
    assert function_docs.page(text) == text, "python -m tests.function_docs"
