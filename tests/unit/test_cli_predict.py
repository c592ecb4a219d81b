"""``edgeml predict``: files of every kind in and out, batches, and mistakes that are named."""

import json

import numpy as np
import pandas as pd
import pytest

from edgeml.cli import data as data_files
from edgeml.cli.batches import Reader
from edgeml.schema import Column, Schema
from tests.cli_tools import answers, run


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_predict_writes_every_format(work, tmp_path, suffix):
    out = tmp_path / f"answers{suffix}"
    done = run(
        "predict", work / "model.edgeml", work / "test.csv", "--method", "predict_proba", "--keep", "visits", "-o", out
    )
    assert done.exit_code == 0, done.output
    assert "50 rows" in done.stderr
    got = data_files.read_frame(out)
    assert list(got.columns) == ["visits", "predict_proba_0", "predict_proba_1"]
    np.testing.assert_allclose(got[["predict_proba_0", "predict_proba_1"]], answers(work), rtol=1e-12)
    assert list(tmp_path.iterdir()) == [out], "nothing is left aside"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".tsv"])
def test_predict_reads_every_format(work, tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    rows = pd.read_csv(work / "test.csv", keep_default_na=False, na_values=[""])
    if suffix == ".parquet":
        rows.to_parquet(path)
    elif suffix == ".tsv":
        rows.to_csv(path, sep="\t", index=False)
    else:
        rows.to_json(path, orient="records", lines=True)
    done = run("predict", work / "model.edgeml", path, "--method", "predict_proba")
    assert done.exit_code == 0, done.output
    got = np.array([line.split(",") for line in done.stdout.splitlines()[1:]], dtype=float)
    np.testing.assert_allclose(got, answers(work), rtol=1e-12)


def test_predict_prints_csv_or_json_lines(work):
    done = run("predict", work / "model.edgeml", work / "test.csv")
    assert done.stdout.splitlines()[0] == "predict"
    assert set(done.stdout.splitlines()[1:]) == {"0", "1"}
    lines = run("predict", work / "model.edgeml", work / "test.csv", "--json").stdout.splitlines()
    assert [json.loads(line)["predict"] for line in lines] == [int(v) for v in done.stdout.splitlines()[1:]]


def test_predict_goes_in_batches(work, tmp_path):
    whole = run("predict", work / "model.edgeml", work / "test.csv", "--method", "predict_proba").stdout
    args = ("predict", work / "model.edgeml", work / "test.csv", "--batch-rows", 7)
    assert run(*args, "--method", "predict_proba").stdout == whole
    out = tmp_path / "a.parquet"
    report = json.loads(run(*args, "-o", out, "--json").stdout)
    assert report["rows"] == 50
    assert len(pd.read_parquet(out)) == 50


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("age,visits,town\n", "has no rows"),
        ("age,visits\n1,2\n", "column 'town' is missing"),
        ("age,age,visits,town\n1,1,2,Bern\n", "two columns are called 'age'"),
        ("age,visits,town\n1,2,Bern\nx,2,Bern\n", "column 'age' holds 'x' (FILE row 2), where a number is due"),
        ("age,visits,town\n1,,Bern\n", "column 'visits' holds '' (FILE row 1), where a whole number is due"),
        ("age,visits,town\n1,2.5,Bern\n", "where a whole number is due"),
        ("age,visits,town\n1,2\n", "FILE row 1: 2 cells, the header names 3 columns"),
        ('age,visits,town\n1,2,"Bern\n', "FILE line 2"),
        ("age,visits,town\ninf,2,Bern\n", "which scikit-learn refuses too"),
    ],
)
def test_predict_names_what_is_wrong_and_writes_nothing(work, tmp_path, text, message):
    path, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    path.write_text(text)
    done = run("predict", work / "model.edgeml", path, "-o", out)
    assert done.exit_code == 2, done.output
    assert message.replace("FILE", str(path)) in done.stderr
    assert list(tmp_path.iterdir()) == [path]


def test_predict_refuses_other_mistakes(work, tmp_path):
    bundle, rows = work / "model.edgeml", work / "test.csv"
    for args, message in [
        ((bundle, rows, "--method", "transform"), "the model has no method 'transform'"),
        ((bundle, rows, "--engine", "warp"), "there is no engine 'warp'"),
        ((bundle, rows, "--keep", "nope"), "has no column 'nope'"),
        ((bundle, rows, "-o", tmp_path / "out.xlsx"), "a data file ends in"),
        ((bundle, rows, "-o", tmp_path / "no" / "out.csv"), "out.csv: No such file"),
        ((bundle, rows, "-o", rows), "is an input file"),
        ((tmp_path / "no.edgeml", rows), "no.edgeml"),
        ((rows, rows), "test.csv"),
    ]:
        done = run("predict", *args)
        assert done.exit_code == 2, args
        assert message in done.stderr
    path = tmp_path / "latin.csv"
    path.write_bytes("age,visits,town\n1,2,Zürich\n".encode("latin-1"))
    assert "is not UTF-8 text" in run("predict", bundle, path).stderr
    path = tmp_path / "odd.parquet"
    path.write_bytes(b"PAR1 but no more")
    assert "cannot be read as Parquet" in run("predict", bundle, path).stderr
    path = tmp_path / "odd.jsonl"
    path.write_text('{"age": 1, "visits": 2, "town": "Bern"}\n[1, 2]\n')
    assert f"{path} line 2: a JSON list, not an object" in run("predict", bundle, path).stderr


def test_an_array_model_takes_named_columns_by_position(tmp_path):
    schema = Schema("matrix", tuple(Column(f"x{i}", "float64") for i in range(2)))
    path = tmp_path / "rows.csv"
    path.write_text("length,width\n1.5,2\n,4\n")
    (rows,) = Reader(path, schema)
    assert list(rows.inputs) == [0, 1]
    np.testing.assert_array_equal(rows.inputs[0], [1.5, np.nan])
