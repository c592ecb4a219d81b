"""No gaps: whatever scikit-learn lists is shown by a variant, has no method for new rows, or is refused by name."""

from __future__ import annotations

import pytest

from edgeml.converters import CONVERTERS
from edgeml.converters.registry import REFUSED
from tests.support_table import eligible, in_table, listed, totals, variants_of

ONNX_SHARE = 0.95


def test_every_estimator_is_shown():
    missing = sorted(name for name in in_table() if not variants_of(name))
    assert not missing, f"no variant shows {', '.join(missing)}"


def test_every_estimator_has_a_converter_of_ours():
    assert not sorted(n for n in eligible() if f"sklearn.{n}" not in CONVERTERS)


def test_what_is_refused_exists_and_has_reason_and_remedy():
    for key, (reason, remedy) in REFUSED.items():
        library, _, name = key.partition(".")
        assert library != "sklearn" or name in listed(), key
        assert reason, key
        assert remedy, key


@pytest.mark.parametrize("total", totals(), ids=lambda t: t.engine)
def test_shares(total):
    share = {"native": 1.0, "onnx": ONNX_SHARE, "tflite": 0.0}[total.engine]
    assert total.some >= share * total.eligible, total
