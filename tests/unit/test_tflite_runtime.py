"""What ``make old-runtime`` asks of a bundle, tried here: right answers pass, others are named, refusals are too."""

import numpy as np
import pytest

from edgeml.runtimes import tflite
from tests.old_runtime import write
from tests.stock import device


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return folder, [write(folder, i, name) for i, name in enumerate(("k-means", "hist boosting native categories"))]


def test_the_answers_of_the_same_runtime(made):
    folder, models = made
    assert [device.check(folder, model) for model in models] == [None, None]


def test_other_answers_are_named(made):
    folder, (model, _) = made
    path = folder / model["file"]
    stored = dict(np.load(path.with_suffix(".npz")))
    stored["predict"][0] += 1
    stored["transform"] = stored["transform"] * (1 + 1e-4)
    np.savez(folder / "other.npz", **stored)
    for suffix in (".edgeml", ".json"):
        (folder / "other").with_suffix(suffix).write_bytes(path.with_suffix(suffix).read_bytes())
    said = device.check(folder, model | {"file": "other"})
    assert said.startswith("not the answers of ai-edge-litert: predict 0.0067, transform ")


def test_a_runtime_that_refuses_the_model(made, monkeypatch):
    folder, (model, _) = made

    class Old:
        __name__ = "tflite_runtime.interpreter"

        @staticmethod
        def Interpreter(**arguments):
            raise ValueError("Didn't find op for builtin opcode 'FULLY_CONNECTED' version '12'")

    assert device.check(folder, model | {"refused": "version '12'"}) == (
        "answered, and should be refused with \"version '12'\""
    )
    monkeypatch.setattr(tflite, "load_runtime", Old)
    assert device.check(folder, model | {"refused": "version '12'"}) is None
    assert "version '12'" in device.check(folder, model)


def test_infinite_answers_must_be_equal():
    assert device.furthest(np.array([-np.inf, np.nan, 2.0]), np.array([-np.inf, np.nan, 2.2])) == pytest.approx(0.1)
    assert device.furthest(np.array([-np.inf, 2.0]), np.array([-1e30, 2.0])) == np.inf
