import pytest

from edgeml.converters.lazy import LazyOutputs
from edgeml.converters.registry import Conversion
from edgeml.ir import Builder


def test_functions_run_when_asked_once_and_in_their_step():
    c = Conversion(Builder())
    x = c.builder.input("x", "float64")
    calls = []

    def double():
        calls.append(c.builder.origin)
        return x + x

    with c.builder.step("outer"), c.builder.step("inner"):
        outputs = LazyOutputs(c, {"predict": double, "transform": lambda: x})
    assert list(outputs) == ["predict", "transform"]
    assert len(outputs) == 2
    assert "predict" in outputs
    assert "score" not in outputs
    assert calls == []
    with c.builder.step("elsewhere"):
        assert outputs["predict"] is outputs["predict"]
        assert c.builder.origin == "elsewhere"
    assert calls == ["outer/inner"]
    with pytest.raises(KeyError):
        outputs["score"]
