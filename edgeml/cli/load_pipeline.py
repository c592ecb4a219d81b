"""Reads a fitted pipeline from a file: the only place of EdgeML that may run code from a file.

A ``.skops`` file is safe: types beside scikit-learn's own are listed and refused unless the caller trusts
them by name. A ``.joblib`` or ``.pkl`` file runs whatever code it holds while it is read; the user is
told so. Used by compile, verify and bench.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeml.cli.output import note
from edgeml.errors import PipelineFileError

_SKOPS = (".skops",)
_PICKLED = (".joblib", ".pkl", ".pickle")

# What fitted estimators of scikit-learn hold beside estimators, which skops asks about all the same: classes
# whose state is arrays and numbers, and score functions by name. Reading them calls nothing of the file's
# choosing.
_HOLDERS = frozenset(
    (
        "numpy.dtype",
        "scipy.interpolate._bsplines.BSpline",
        "scipy.sparse._csr.csr_matrix",
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.calibration._TemperatureScaling",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        *(
            f"sklearn.feature_selection._univariate_selection.{name}"
            for name in ("chi2", "f_classif", "f_regression", "r_regression")
        ),
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        *(
            f"sklearn.gaussian_process.kernels.{name}"
            for name in ("CompoundKernel", "ConstantKernel", "DotProduct", "ExpSineSquared", "Exponentiation")
        ),
        *(
            f"sklearn.gaussian_process.kernels.{name}"
            for name in ("Matern", "Product", "RBF", "RationalQuadratic", "Sum", "WhiteKernel")
        ),
        "sklearn.metrics._dist_metrics.EuclideanDistance64",
        "sklearn.multiclass._ConstantPredictor",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
        "sklearn.tree._tree.Tree",
    )
)


def load_pipeline(path: Path, trust: Sequence[str] = ()) -> Any:
    """The estimator in ``path``. Raises PipelineFileError when it cannot be read or is not trusted, OSError
    as open.
    """
    suffix = path.suffix.lower()
    if suffix not in (*_SKOPS, *_PICKLED):
        raise PipelineFileError(
            f"{path}: a pipeline file ends in {', '.join((*_SKOPS, *_PICKLED))}, not in {suffix!r}",
            "save the fitted pipeline with skops.io.dump(pipeline, 'pipeline.skops')",
        )
    path.open("rb").close()  # for Python's own error where it cannot be read
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            pipeline = _load_skops(path, trust) if suffix in _SKOPS else _load_pickled(path)
        except PipelineFileError:
            raise
        except (ModuleNotFoundError, AttributeError) as error:
            raise PipelineFileError(
                f"{path} needs code that is not importable here: {error}",
                "install it, or set PYTHONPATH to the folder of the module the pipeline was made with",
            ) from error
        except Exception as error:  # a broken or foreign file can raise anything while it is read
            raise PipelineFileError(
                f"{path} cannot be read: {type(error).__name__}: {error}",
                "check that it is complete, and was saved by the same versions of Python and scikit-learn",
            ) from error
    for message in dict.fromkeys(str(w.message) for w in caught):
        note(f"warning: {message}")
    return pipeline


def _load_skops(path: Path, trust: Sequence[str]) -> Any:
    from skops import io

    asked = set(io.get_untrusted_types(file=path))
    unknown = sorted(asked - _HOLDERS - set(trust))
    if unknown:
        options = " ".join(f"--trust {name}" for name in unknown)
        raise PipelineFileError(
            f"{path} holds types that are not trusted: {', '.join(unknown)}",
            f"when you know them to be harmless, name them: {options}",
        )
    return io.load(path, trusted=sorted(asked))


def _load_pickled(path: Path) -> Any:
    import joblib

    note(f"warning: reading {path} runs the code it holds; use .skops for files you did not make yourself")
    return joblib.load(path)
