"""One against one: labels and scores of classes from those of the classifiers that tell two classes apart.

In come the scores of all pairs of classes side by side, in the order (0, 1), (0, 2), ..., (1, 2), ...; out go votes or
scores, one column a class. Called by the converters of support vector classifiers and of meta-estimators.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.registry import Conversion
from edgeml.ir import Value


def by_class(c: Conversion, first: Value, second: Value, classes: int) -> Value:
    """For every class the sum over its pairs, in their order: of ``first`` where it is a pair's first, else ``second``.

    ``first`` and ``second`` have one column a pair.
    """
    i, j = np.triu_indices(classes, 1)
    pairs = len(i)
    place = np.zeros((classes, classes), dtype=np.int64)
    place[i, j] = np.arange(pairs)
    place[j, i] = np.arange(pairs) + pairs
    wanted = place[~np.eye(classes, dtype=bool)]
    return c.builder.op("SumGroups", c.builder.concat([first, second]).select(wanted), size=classes - 1)


def votes(c: Conversion, first_wins: Value, classes: int) -> Value:
    """How many pairs each class wins, float64, given in which pairs the first one wins."""
    return by_class(c, first_wins.cast("float64"), (~first_wins).cast("float64"), classes)


def one_vs_rest(c: Conversion, second_wins: Value, confidences: Value, classes: int) -> Value:
    """sklearn.utils.multiclass._ovr_decision_function: votes, and sums of confidences in the second class below 1/3."""
    sums = by_class(c, -confidences, confidences, classes)
    return votes(c, ~second_wins, classes) + sums / (3.0 * (c.builder.abs(sums) + 1.0))


def pair_sums(c: Conversion, values: Value, coefficients: Any, counts: Any, bias: Any, most_cells: int) -> Value:
    """libsvm's decision values: for each pair the products of ``values`` and coefficients of its two classes' points.

    ``values`` has one column a point, the ``counts`` points of the first class first; row j - 1 of ``coefficients``
    (classes - 1, points) has those of class i against j, row i those of class j against i, for i < j. One matrix of all
    pairs adds in libsvm's order; where it would hold more than ``most_cells``, each class has a matrix of its own.
    """
    builder, classes = c.builder, len(counts)
    starts = np.cumsum([0, *counts])
    i, j = np.triu_indices(classes, 1)
    if coefficients.shape[1] * len(i) <= most_cells:
        weight = np.zeros((coefficients.shape[1], len(i)))
        for pair, (one, two) in enumerate(zip(i.tolist(), j.tolist(), strict=True)):
            weight[starts[one] : starts[one + 1], pair] = coefficients[two - 1, starts[one] : starts[one + 1]]
            weight[starts[two] : starts[two + 1], pair] = coefficients[one, starts[two] : starts[two + 1]]
        return builder.linear(values, weight, bias)
    blocks = [
        builder.linear(values.select(slice(starts[k], starts[k + 1])), coefficients[:, starts[k] : starts[k + 1]].T)
        for k in range(classes)
    ]
    sums = builder.concat(blocks)  # column k (classes - 1) + m: class k by row m of the coefficients
    width = classes - 1
    return sums.select(i * width + j - 1) + sums.select(j * width + i) + np.asarray(bias)
