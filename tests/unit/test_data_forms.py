"""Rows as they come: sparse matrices, decimals of every library, columns too many where scikit-learn takes them."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, OneHotEncoder, StandardScaler

import edgeml
from edgeml.errors import (
    ColumnTypeError,
    ExtraColumnError,
    ManifestError,
    SampleError,
    UnsupportedParameterError,
)
from edgeml.runtimes import sparse as runtime_sparse
from edgeml.runtimes.frames import read_columns as read
from edgeml.schema import Schema
from tests.cli_tools import run

ENGINES = ("native", "onnx", "tflite")
RNG = np.random.default_rng(0)
X = np.where(RNG.random((200, 6)) < 0.7, 0.0, RNG.normal(size=(200, 6)))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)


# --- sparse
@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array, sparse.coo_array])
def test_sparse_samples_and_rows(form, tmp_path):
    rows = form(X)
    model = make_pipeline(MaxAbsScaler(), LogisticRegression()).fit(rows, Y)
    edgeml.compile(model, rows, output=tmp_path / "m.edgeml").close()
    want = model.predict_proba(rows)
    for engine in ENGINES:
        with edgeml.load(tmp_path / "m.edgeml", engine=engine) as compiled:
            for given in (rows, X):
                np.testing.assert_allclose(
                    compiled.predict_proba(given), want, rtol=1e-5 if engine == "tflite" else 1e-9
                )


def test_the_pipeline_is_asked_with_a_sparse_matrix(tmp_path):
    """StandardScaler centres dense rows alone: what refuses a sparse matrix refuses it at compile time."""
    model = StandardScaler().fit(X)
    with pytest.raises(SampleError, match="Cannot center sparse matrices"):
        edgeml.compile(model, sparse.csr_matrix(X), output=tmp_path / "m.edgeml")
    assert not (tmp_path / "m.edgeml").exists()


def test_large_sparse_rows_are_read_in_parts(tmp_path, monkeypatch):
    model = LogisticRegression().fit(X, Y)
    edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native"]).close()
    monkeypatch.setattr(runtime_sparse, "MOST_CELLS", 7 * 6)
    parts = list(runtime_sparse.dense_parts(sparse.csc_matrix(X)))
    assert [len(p) for p in parts] == [7] * 28 + [4]
    with edgeml.load(tmp_path / "m.edgeml") as compiled:
        np.testing.assert_array_equal(compiled.predict_proba(sparse.csc_matrix(X)), compiled.predict_proba(X))
        seen = []

        def counted(rows, *more):
            seen.append(len(rows))
            return read(rows, *more)

        monkeypatch.setattr("edgeml.runtimes.recording.read_columns", counted)
        compiled.record_to(tmp_path / "spool")
        compiled.predict_proba(sparse.csc_matrix(X))
        assert seen == [7] * 28 + [4]  # recorded, too


def test_a_wide_sparse_sample_does_not_become_gigabytes(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeml.sparse_rows.MOST_CELLS", 300)
    model = LogisticRegression().fit(X, Y)
    with edgeml.compile(model, sparse.csr_matrix(X), output=tmp_path / "m.edgeml", formats=["native"]) as bundle:
        assert bundle.json("report.json")["sample_rows"] == 50


# --- decimals
def decimals():
    cells = [Decimal(repr(round(float(v), 4))) for v in RNG.normal(size=100)]
    cells[3] = None
    return pd.DataFrame({"a": pd.Series(cells, dtype=object), "b": RNG.normal(size=100)})


def test_decimals_of_every_library(tmp_path):
    frame = decimals()
    table = pa.table({"a": pa.array(list(frame.a), type=pa.decimal128(10, 4)), "b": frame.b})
    model = make_pipeline(SimpleImputer(), Ridge()).fit(frame, frame.b)
    want = model.predict(frame)
    same = (frame, table, pl.from_arrow(table), frame.to_dict("records"), frame.to_numpy())
    for sample in (frame, table, pl.from_arrow(table), table.to_pandas(types_mapper=pd.ArrowDtype)):
        edgeml.compile(model, sample, output=tmp_path / "m.edgeml").close()
    for engine in ENGINES:
        tolerance = {"rtol": 1e-5, "atol": 1e-6} if engine == "tflite" else {"rtol": 1e-9}
        with edgeml.load(tmp_path / "m.edgeml", engine=engine) as compiled:
            for rows in same:
                np.testing.assert_allclose(compiled.predict(rows), want, **tolerance)
            one = compiled.predict_one({"a": Decimal("0.25"), "b": 1.0})
            assert one == compiled.predict(pd.DataFrame({"a": [0.25], "b": [1.0]}))[0]


def test_a_decimal_is_no_integer_and_no_string(tmp_path):
    frame = pd.DataFrame({"n": range(50), "b": RNG.normal(size=50)})
    model = Ridge().fit(frame, frame.b)
    edgeml.compile(model, frame, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with (
        edgeml.load(tmp_path / "m.edgeml") as compiled,
        pytest.raises(ColumnTypeError, match=r"'n', row 0: Decimal\('1'\) is a Decimal"),
    ):
        compiled.predict({"n": [Decimal(1)], "b": [0.0]})


# --- columns too many
def test_columns_too_many_as_scikit_learn_takes_them(tmp_path):
    frame = pd.DataFrame(X[:, :3], columns=list("abc"))
    by_name = make_pipeline(make_column_transformer((StandardScaler(), ["a", "c"])), LogisticRegression()).fit(frame, Y)
    strict = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, Y)
    more = frame.assign(target=Y)[["target", "c", "b", "a"]]
    for name, model in (("by_name", by_name), ("strict", strict)):
        edgeml.compile(model, frame, output=tmp_path / f"{name}.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "by_name.edgeml") as compiled:
        np.testing.assert_allclose(compiled.predict_proba(more), by_name.predict_proba(more), rtol=1e-12)
        row = more.iloc[0].to_dict()
        np.testing.assert_array_equal(compiled.predict_proba_one(row), compiled.predict_proba(more)[0])
    with pytest.raises(ValueError, match="unseen at fit time"):
        strict.predict(more)
    with edgeml.load(tmp_path / "strict.edgeml") as compiled:
        with pytest.raises(ExtraColumnError, match="'target'"):
            compiled.predict(more)
        with pytest.raises(ExtraColumnError, match="'target'"):
            compiled.predict_one(row)


# --- dates and times
def dated(rows=120):
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(RNG.integers(0, 4, rows), unit="D")
    times = pd.Timestamp("2020-01-01") + pd.to_timedelta(RNG.integers(0, 10**6, rows), unit="s")
    return pd.DataFrame({"day": days, "time": times, "a": RNG.normal(size=rows)})


def on_dates():
    prep = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["day"]), (StandardScaler(), ["time"]), ("passthrough", ["a"])
    )
    frame = dated()
    return make_pipeline(prep, LogisticRegression()).fit(frame, frame.a > 0), frame


@pytest.fixture(scope="module")
def dated_model(tmp_path_factory):
    model, frame = on_dates()
    path = tmp_path_factory.mktemp("dates") / "m.edgeml"
    edgeml.compile(model, frame, output=path).close()
    return model, frame, path


FORMS = {
    "pandas": lambda f: f,
    "nanoseconds": lambda f: f.astype({"day": "M8[ns]", "time": "M8[ns]"}),
    "polars": pl.from_pandas,
    "arrow": pa.Table.from_pandas,
    "arrow dtypes": lambda f: f.convert_dtypes(dtype_backend="pyarrow"),
    "an index": lambda f: {**dict(f), "day": pd.DatetimeIndex(f.day)},
    "timestamps": lambda f: f.to_dict("records"),
    "datetime objects": lambda f: {**dict(f), "time": [t.to_pydatetime() for t in f.time]},
    "dates": lambda f: {**dict(f), "day": [t.date() for t in f.day]},
    "ISO 8601": lambda f: f.astype({"day": str, "time": str}),
}


@pytest.mark.parametrize("form", FORMS)
def test_dates_of_every_library(form, dated_model):
    model, frame, path = dated_model
    want = model.predict_proba(frame)
    for engine in ENGINES:
        with edgeml.load(path, engine=engine) as compiled:
            got = compiled.predict_proba(FORMS[form](frame))
            np.testing.assert_allclose(got, want, rtol=1e-5 if engine == "tflite" else 1e-9)
            one = compiled.predict_proba_one(frame.iloc[3].to_dict())
            np.testing.assert_allclose(one, want[3], rtol=1e-5 if engine == "tflite" else 1e-9)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (3, "row 0: 3 is no date or time"),
        ("yesterday", "row 0: 'yesterday' is no date or time"),
        ("today", "row 0: 'today' is no date or time"),
        ("2020-02-30", "row 0: '2020-02-30' is no date or time"),
        ("2020-01-01T00:00:00Z", "is no date or time"),
        (pd.Timestamp("2020-01-01", tz="UTC"), "is no date or time"),
        (pd.Timestamp("2020-01-01T00:00:00.000000001"), "is not a whole number of units"),
    ],
)
def test_what_is_no_date_is_refused(cell, said, dated_model):
    with edgeml.load(dated_model[2]) as compiled:
        with pytest.raises(ColumnTypeError, match=said):
            compiled.predict([{"day": cell, "time": "2020-01-01", "a": 0.0}])
        with pytest.raises(ColumnTypeError, match=said):
            compiled.predict_one({"day": cell, "time": "2020-01-01", "a": 0.0})


def test_a_time_zone_is_refused(dated_model):
    _, frame, path = dated_model
    aware = frame.assign(day=frame.day.dt.tz_localize("UTC"))
    with edgeml.load(path) as compiled:
        arrow_dtypes = aware.convert_dtypes(dtype_backend="pyarrow")
        for rows in (aware, pa.Table.from_pandas(aware), pl.from_pandas(aware), arrow_dtypes):
            with pytest.raises(ColumnTypeError, match="column 'day' has the time zone UTC"):
                compiled.predict(rows)


def test_a_missing_date_is_not_a_time(dated_model):
    """NaT is int64's smallest number to scikit-learn's scalers, and to us."""
    model, frame, path = dated_model
    rows = frame.assign(time=frame.time.where(np.arange(len(frame)) > 3))
    with edgeml.load(path) as compiled:
        np.testing.assert_allclose(compiled.predict_proba(rows), model.predict_proba(rows), rtol=1e-9)


@pytest.mark.parametrize("file", ["rows.csv", "rows.parquet"])
def test_the_command_reads_dates(file, dated_model, tmp_path):
    model, frame, path = dated_model
    rows = tmp_path / file
    frame.to_csv(rows, index=False) if file.endswith("csv") else frame.to_parquet(rows)
    done = run("predict", str(path), str(rows), "-o", str(tmp_path / "out.csv"))
    assert done.exit_code == 0, done.output
    assert (pd.read_csv(tmp_path / "out.csv").iloc[:, 0] == model.predict(frame)).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [({"unit": "fortnight"}, "malformed column"), ({"unit": "s", "kind": "float64"}, "malformed column")],
)
def test_a_schema_with_a_unit_that_is_none_is_refused(change, said):
    column = {"name": "day", "kind": "int64", "used": True, "null": "nan"} | change
    with pytest.raises(ManifestError, match=said):
        Schema.from_json({"form": "columns", "columns": [column]})
    with pytest.raises(ManifestError, match="extra must be"):
        Schema.from_json({"form": "columns", "columns": [column], "extra": "kept"})


def test_float32_of_polars_is_float64_to_scikit_learn(tmp_path):
    """check_array keeps float32 of pandas and NumPy, of polars it makes float64."""
    frame = pl.DataFrame({"a": RNG.normal(size=200), "b": RNG.normal(size=200)}).cast(pl.Float32)
    model = make_pipeline(SimpleImputer(), StandardScaler(), Ridge()).fit(frame, Y)
    edgeml.compile(model, frame, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as compiled:
        assert [c.kind for c in compiled.schema.columns] == ["float64", "float64"]
        for rows in (frame, frame.to_pandas(), frame.to_arrow(), frame.to_dicts()):
            np.testing.assert_allclose(compiled.predict(rows), model.predict(frame), rtol=1e-9)


def test_python_integers_beyond_int64_are_refused_by_name():
    frame = pd.DataFrame({"n": pd.Series([2**70 + i % 3 for i in range(60)], dtype=object)})
    for step in (StandardScaler(), OneHotEncoder()):
        model = make_column_transformer((step, ["n"])).fit(frame)
        with pytest.raises(UnsupportedParameterError, match="'n'"):
            edgeml.compile(model, frame)
