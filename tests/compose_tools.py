"""A frame with columns of every kind, a target for it and an encoder: for the tests of pipelines and their parts."""

import numpy as np
import pandas as pd
from sklearn.preprocessing import OneHotEncoder

NUMBERS, STRINGS = ["f", "g", "i"], ["s", "o"]


def frame(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "s": pd.Series(rng.choice(["a", "b", "", "😀é"], rows)),
            "f": rng.choice([1.5, -0.0, np.nan, 250.25, -3.0], rows),
            "i": rng.integers(-5, 5, rows),
            "o": pd.Series(rng.choice(np.array(["x", "y", None, np.nan], dtype=object), rows), dtype=object),
            "b": rng.random(rows) < 0.5,
            "g": rng.normal(size=rows) * 1e3,
            "h": rng.normal(size=rows).astype("float32"),
        }
    )


X = frame()
y = (X["g"].to_numpy() + 500 * X["i"].to_numpy() + 100 * np.random.default_rng(1).normal(size=len(X)) > 0).astype(int)
encode = OneHotEncoder(handle_unknown="ignore")
