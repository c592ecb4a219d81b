"""What the tests of the command share: how to run it, raw rows, a pipeline fitted on them."""

from pathlib import Path

import numpy as np
import pandas as pd
from click.testing import CliRunner
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from edgeml.cli.app import cli
from edgeml.cli.load_pipeline import load_pipeline

ROOT = Path(__file__).parents[1]


def run(*args, **options):
    """The result of a command; its stdout and stderr apart."""
    return CliRunner().invoke(cli, [str(a) for a in args], **options)


def frame(rows=300, seed=0):
    """Raw rows with a target: numbers with missing cells, integers, strings with missing cells."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "age": rng.normal(40, 12, rows).round(2),
            "visits": rng.integers(0, 9, rows),
            "town": rng.choice(["Bern", "Chur", "NA"], rows),
        }
    )
    table.loc[rng.random(rows) < 0.1, "age"] = np.nan
    table.loc[rng.random(rows) < 0.1, "town"] = np.nan
    table["late"] = (table["age"].fillna(40) + 4 * table["visits"] + rng.normal(0, 8, rows) > 56).astype(int)
    return table


def fitted(table):
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    prepare = ColumnTransformer([("numbers", numbers, ["age", "visits"]), ("words", words, ["town"])])
    return make_pipeline(prepare, LogisticRegression()).fit(table.drop(columns="late"), table["late"])


def compile_to(folder, path, *more):
    return run(
        "compile", folder / "model.skops", "--data", folder / "train.csv", "--target-column", "late", "-o", path, *more
    )


def answers(work):
    return load_pipeline(work / "model.skops").predict_proba(
        pd.read_csv(work / "test.csv", keep_default_na=False, na_values=[""])
    )
