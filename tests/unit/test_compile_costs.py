"""What keeps a compilation short: precisions are computed once, and few rows are asked of models with wide values."""

import threading

import numpy as np
import pytest
from sklearn.decomposition import PCA, FactorAnalysis, _factor_analysis, _pca

import edgeml
from edgeml.compiler.source import PARITY_CELLS, WIDER, rows_within
from edgeml.ir import Builder
from edgeml.parity.precisions import remembered_precisions, remembering


def counted(function, calls):
    def call(x):
        calls.append(x)
        return function(x)

    return call


@pytest.mark.parametrize(("estimator", "module"), [(PCA(3), _pca), (FactorAnalysis(3), _factor_analysis)])
def test_a_compilation_computes_a_precision_and_its_determinant_once(estimator, module, tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(60, 8))
    estimator.fit(X)
    calls, inverted = [], []
    ours = counted(module.fast_logdet, calls)
    monkeypatch.setattr(module, "fast_logdet", ours)
    owner = next(c for c in type(estimator).__mro__ if "get_precision" in vars(c))
    inverse = counted(owner.get_precision, inverted)
    monkeypatch.setattr(owner, "get_precision", inverse)
    edgeml.compile(estimator, X, output=tmp_path / "m.edgeml", formats=["native"])
    assert (len(calls), len(inverted)) == (1, 1)
    assert module.fast_logdet is ours
    assert owner.get_precision is inverse


def test_what_is_remembered_is_known_by_its_cells():
    calls, x = [], np.eye(2)
    answer = remembering(counted(np.linalg.det, calls))
    assert (answer(x), answer(x.copy())) == (1.0, 1.0)
    x[0, 0] = 3.0
    assert answer(x) == pytest.approx(3.0)
    assert len(calls) == 2


def test_the_last_thread_to_leave_puts_the_function_back():
    before, inside, leave = _pca.fast_logdet, threading.Event(), threading.Event()

    def stay():
        with remembered_precisions():
            inside.set()
            leave.wait(10)

    other = threading.Thread(target=stay)
    other.start()
    inside.wait(10)
    with remembered_precisions():
        assert _pca.fast_logdet is not before
    assert _pca.fast_logdet is not before
    leave.set()
    other.join()
    assert _pca.fast_logdet is before


def wide(width):
    """A program whose answer has one column, and one value ``width``."""
    b = Builder()
    x = b.input("X", "float64", 1)
    many = b.op("Linear", x, weight=np.ones((1, width)), bias=np.zeros(width))
    b.output("predict", [b.op("ReduceSum", many)], "vector", "float64")
    return b.finish()


def test_rows_are_few_where_a_value_on_the_way_is_wide():
    assert rows_within(wide(2), PARITY_CELLS) == PARITY_CELLS
    assert rows_within(wide(44_850), PARITY_CELLS) == pytest.approx(WIDER * PARITY_CELLS / 44_850, rel=0.01)
    assert rows_within(wide(44_850), 1200, values=False) == 1200
