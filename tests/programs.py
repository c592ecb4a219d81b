"""Two programs for tests of what is done with programs: an everyday pipeline, and a small forest."""

import numpy as np

from edgeml.ir import Builder


def everyday():
    b = Builder()
    age, town = b.input("age", "float64"), b.input("town", "string")
    with b.step("prep"):
        with b.step("num"):
            x = b.check_finite(age, "prep/num", allow_nan=True)
            x = b.where(b.is_nan(x), 31.5, x)
        with b.step("cat"):
            code = b.lookup(town, ("Bern", "Genf", "Chur", None, float("nan")))
            y = b.one_hot(code, 5)
    with b.step("model"):
        z = b.sigmoid(b.linear(b.concat([x, y]), np.arange(6.0)[:, None] / 8, [0.25]))
        index = (z > 0.5).cast("int64")
    b.output("predict", [b.take(index, ("no", "yes"))], "vector", "<U3")
    b.output("predict_proba", [1 - z, z], "matrix", "<f8")
    return b.finish()


def small_forest():
    b = Builder()
    x = b.input("X", "float64", 2)
    attrs = {
        "roots": np.array([0, 3], np.int32),
        "feature": np.array([1, -1, -1, -1], np.int32),
        "threshold": np.array([0.5, 0, 0, 0]),
        "left": np.array([1, 0, 1, 2], np.int32),
        "right": np.array([2, 0, 0, 0], np.int32),
        "missing_left": np.array([1, 0, 0, 0], np.uint8),
        "category_set": np.full(4, -1, np.int32),
        "categories": np.zeros((0, 8), np.uint32),
        "leaf_values": np.array([[1.0], [2.0], [10.0]]),
        "target": np.array([0, 0], np.int32),
        "base": np.array([0.5]),
    }
    b.output("predict", [b.op("TreeEnsemble", x, **attrs)], "vector", "<f8")
    return b.finish()
