"""Estimator -> program. Importing a module here registers its converters; ``to_program`` is the way in.

Add an estimator by writing one decorated function in the file of its kind: see registry.py.
"""

from importlib import import_module

from edgeml.converters.block import Block
from edgeml.converters.convert import Returns, to_program
from edgeml.converters.registry import CONVERTERS, Conversion, Outputs, converter

__all__ = ["CONVERTERS", "Block", "Conversion", "Outputs", "Returns", "converter", "to_program"]

# One line a file of converters; a new file is entered here.
for _module in (
    "cluster",
    "decomposition",
    "compose",
    "encoding",
    "imputing",
    "feature_selection",
    "linear",
    "linear_classifiers",
    "neural",
    "scaling",
    "trees",
    "boosting",
    "calibration",
    "ensembles",
    "model_selection",
    "refused",
    "bagging",
    "adaboost",
    "multiclass",
    "multioutput",
    "semi_supervised",
    "target",
    "svm",
    "kernel_methods",
    "gaussian_process",
    "functions",
    "factorisation",
    "sparse_coding",
    "cross_decomposition",
    "covariance",
    "iterative_imputing",
    "isotonic",
    "naive_bayes",
    "discriminant",
    "mixture",
    "dummy",
    "preprocessing",
    "splines",
    "kernel_approximation",
    "neighbors",
    "distance_models",
    "cluster_more",
    "manifold",
    "knn_imputing",
    "boosters_xgboost",
    "text",
):
    import_module(f"edgeml.converters.{_module}")
