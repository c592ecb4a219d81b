"""Data files of the command: what a cell of CSV is, and frames that come back from every format."""

import numpy as np
import pandas as pd
import pytest

from edgeml.cli import data as data_files
from edgeml.cli.cells import infer, parse
from edgeml.errors import ColumnTypeError
from tests.cli_tools import frame


@pytest.mark.parametrize(
    ("cells", "expected", "dtype"),
    [
        (["1", "-2", "+3"], [1, -2, 3], "int64"),
        (["1", "", "3"], [1, np.nan, 3], "float64"),
        (["1", "NA", "3"], [1, np.nan, 3], "float64"),
        (["1", "2.5", "1e3", ".5", "-inf", "nan"], [1, 2.5, 1000, 0.5, -np.inf, np.nan], "float64"),
        (["0.1", "0.30000000000000004"], [0.1, 0.30000000000000004], "float64"),
        (["007", "123"], ["007", "123"], object),
        (["NA", "CH", ""], ["NA", "CH", np.nan], object),
        (["1_000", "2"], ["1_000", "2"], object),
        (["\u0661", "2"], ["\u0661", "2"], object),
        (["12345678901234567890", "1"], ["12345678901234567890", "1"], object),
        (["9223372036854775807", "-9223372036854775808"], [2**63 - 1, -(2**63)], "int64"),
        (["true", "False"], [True, False], "bool"),
        (["true", ""], [True, np.nan], object),
        (["", ""], [np.nan, np.nan], "float64"),
        ([" 1", "2 "], [1, 2], "int64"),
        ([" a", "b "], [" a", "b "], object),
    ],
)
def test_cells_of_a_sample_by_their_looks(cells, expected, dtype):
    got = infer(cells)
    assert got.dtype == dtype
    for a, b in zip(got.tolist(), expected, strict=True):
        assert a == b or (a != a and b != b)


@pytest.mark.parametrize(
    ("cells", "kind", "expected"),
    [
        (["1", "", "NaN", "02.50"], "float64", [1, np.nan, np.nan, 2.5]),
        (["007", "3.0", "-1"], "int64", [7, 3, -1]),
        (["true", "0", "FALSE", "1"], "bool", [True, False, False, True]),
        (["NA", "1", ""], "string", ["NA", "1", None]),
    ],
)
def test_cells_by_the_schema(cells, kind, expected):
    got = parse(cells, kind, "c", null=None)
    for a, b in zip(got.tolist(), expected, strict=True):
        assert a == b or (a != a and b != b)


@pytest.mark.parametrize(
    ("cell", "kind"),
    [("x", "float64"), ("1_0", "float64"), ("", "int64"), ("1e30", "int64"), ("yes", "bool"), ("", "bool")],
)
def test_cells_that_are_not_of_their_kind(cell, kind):
    with pytest.raises(ColumnTypeError, match=r"column 'c' holds .* \(row 1\)"):
        parse(["1", cell], kind, "c")


def test_a_csv_frame_round_trips(tmp_path):
    table = frame()
    table.to_csv(tmp_path / "t.csv", index=False)
    again = data_files.read_frame(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(again, table)


def test_json_lines_and_parquet_frames(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": 1, "b": "x"}\n\n{"a": 2, "b": null}\n{"a": 3}\n')
    again = data_files.read_frame(tmp_path / "t.jsonl")
    assert again["a"].tolist() == [1, 2, 3]
    assert again["b"].isna().tolist() == [False, True, True]
    frame().to_parquet(tmp_path / "t.parquet")
    pd.testing.assert_frame_equal(data_files.read_frame(tmp_path / "t.parquet"), frame())
    indexed = frame().set_index("town")
    indexed.to_parquet(tmp_path / "i.parquet")
    assert list(next(data_files.read_batches(tmp_path / "i.parquet", 10)).columns) == ["age", "visits", "late"]
