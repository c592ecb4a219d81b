"""What the tests of FunctionTransformer share: rows, a frame, and a function's program and its answers."""

import numpy as np
import pandas as pd
from sklearn.preprocessing import FunctionTransformer

from edgeml.ir import interpreter
from tests.oracle import columns_of, converted, schema_of

X = np.random.default_rng(0).normal(size=(40, 3)) * 2
FRAME = pd.DataFrame(X, columns=list("abc")).assign(s=np.array(["x", "y"])[np.arange(40) % 2])


def program(function, rows=X, **options):
    """The program of a FunctionTransformer of the function, with ``options`` as its keywords."""
    return converted(FunctionTransformer(function, kw_args=options or None).fit(rows), rows)


def run(made, rows):
    """What a program transforms rows into."""
    return interpreter.run(made, columns_of(rows, schema_of(rows)))["transform"]


def answers(function, rows=X, **options):
    """What the program of a function makes of the rows it was made with."""
    return run(program(function, rows, **options), rows)
