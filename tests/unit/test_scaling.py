import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from edgeml.ir.printer import to_text
from tests.oracle import assert_same


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("options", [{}, {"with_mean": False}, {"with_std": False}])
def test_standard_scaler(dtype, options):
    X = (np.random.default_rng(0).normal(size=(50, 4)) * 100).astype(dtype)
    program = assert_same(StandardScaler(**options).fit(X), X)
    assert "StandardScaler" in to_text(program) or "Div" in to_text(program) or "Sub" in to_text(program)
