"""The small models whose instructions are counted: every family of kernels that matters, in a few seconds of fitting.

``write`` compiles them into a folder, a bundle and a file of rows each; instructions.py does so before it starts
valgrind, in which only ``ask`` runs: NumPy and the runtime, neither scikit-learn nor pandas. Most are the tests' own
cases; a baseline is as comparable as the fits are, which a seed makes equal for one version of scikit-learn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BATCHES = (256, 1024)
ONE = "1 row"


def _case(name: str) -> Callable[[], tuple[Any, Any]]:
    from tests.conformance.cases import CASES

    return next(case.fit for case in CASES if case.name == name)


def _numbers(make: Callable[[], Any], columns: int = 30) -> Callable[[], tuple[Any, Any]]:
    """A classifier on an array of floats."""

    def fit() -> tuple[Any, Any]:
        import numpy as np

        rng = np.random.default_rng(5)
        X = rng.normal(size=(2000, columns)).round(3)
        y = (X[:, :8].sum(axis=1) + np.sin(3 * X[:, 8]) + rng.normal(size=2000) > 0).astype(int)
        return make().fit(X, y), X

    return fit


def _estimators() -> dict[str, Callable[[], Any]]:
    from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.neural_network import MLPClassifier

    return {
        "RF": lambda: RandomForestClassifier(50, max_depth=8, random_state=0),
        "GB": lambda: GradientBoostingClassifier(n_estimators=50, max_depth=4, random_state=0),
        "HGB": lambda: HistGradientBoostingClassifier(max_iter=50, early_stopping=False, random_state=0),
        "MLP": lambda: MLPClassifier((64, 32), max_iter=20, random_state=0),
    }


def models() -> Iterator[tuple[str, Callable[[], tuple[Any, Any]], str]]:
    """(name, function that gives pipeline and rows, value of ``quantize``)."""
    for name in (
        "logistic binary", "logistic normalizer", "mlp binary", "forest binary", "boosting binary",
        "hist boosting native categories", "calibrated isotonic", "k-means", "pca logistic",
    ):  # fmt: skip
        yield name, _case(name), "none"
    for name, make in _estimators().items():
        yield f"{name} on numbers", _numbers(make), "none"
    yield "RF on numbers, lossless", _numbers(_estimators()["RF"]), "lossless"
    yield "HGB on numbers, lossless", _numbers(_estimators()["HGB"]), "lossless"
    yield "RF on numbers, int8", _numbers(_estimators()["RF"]), "int8"
    yield "MLP on numbers, int8", _numbers(_estimators()["MLP"]), "int8"


def write(folder: Path, pattern: str = "") -> None:
    """Compile every model whose name holds ``pattern`` into ``folder``."""
    import warnings

    import edgeml

    # The answers' speed is what counts here: a model may be quantised as roughly as it likes.
    loose = edgeml.Budget(label_flips=1.0, metric_drop=1.0)
    names = []
    for name, fit, quantize in (m for m in models() if pattern in m[0]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pipeline, X = fit()
            path = folder / f"{len(names)}.edgeml"
            budget = loose if quantize == "int8" else None
            edgeml.compile(pipeline, X, output=path, formats=["native"], quantize=quantize, budget=budget).close()
        (folder / f"{len(names)}.json").write_text(json.dumps(_plain(X)))
        names.append(name)
    (folder / "names.json").write_text(json.dumps(names))


def _plain(X: Any) -> Any:
    """Rows as JSON: a list of lists, or columns with their dtypes. NaN stays NaN, which Python's JSON knows."""
    if not hasattr(X, "columns"):
        return X.tolist()
    keep = [c for c in X.columns if X[c].dtype.kind != "M"]
    cells = {c: [None if x is None else x for x in X[c].tolist()] for c in keep}
    return {c: [X[c].dtype.kind if X[c].dtype.kind in "fib" else "O", cells[c]] for c in keep}


# --- what runs in valgrind -------------------------------------------------------------------------------------
def ask(folder: Path, mark: Callable[[str], None]) -> None:
    """Ask every model for a row and for batches; ``mark(label)`` is called before each."""
    import numpy as np

    import edgeml

    for at, name in enumerate(json.loads((folder / "names.json").read_text())):
        stored = json.loads((folder / f"{at}.json").read_text())
        if isinstance(stored, list):
            X: Any = np.array(stored)
            batches = [X[np.arange(n) % len(X)] for n in BATCHES]
            row: Any = stored[0]
        else:
            kinds = {"f": np.float64, "i": np.int64, "b": np.bool_, "O": object}
            columns = {c: np.array(cells, dtype=kinds[kind]) for c, (kind, cells) in stored.items()}
            batches = [{c: x[np.arange(n) % len(x)] for c, x in columns.items()} for n in BATCHES]
            row = {c: cells[0] for c, (_, cells) in stored.items()}
        model: Any = edgeml.load(folder / f"{at}.edgeml", engine="native")
        method = next(m for m in ("predict_proba", "predict") if hasattr(model, m))
        one, batch = getattr(model, method + "_one"), getattr(model, method)
        mark(f"{name}/{ONE}")
        one(row)
        for rows, X in zip(BATCHES, batches, strict=True):
            mark(f"{name}/{rows} rows")
            batch(X)
    mark("")
