"""imbalanced-learn: its Pipeline, whose samplers are for fit alone, and the ensembles that resample for every member.

In comes a fitted estimator of imbalanced-learn, out goes what the scikit-learn estimator it derives from gives for new
rows. The library is not imported.
"""

from __future__ import annotations

from typing import Any

from edgeml.converters.block import Block
from edgeml.converters.compose import through
from edgeml.converters.registry import CONVERTERS, Conversion, Convert, Outputs, converter, refuse_estimator
from edgeml.converters.trees import _FOREST_GROWTH, tree_classifier

_SAMPLING = ("sampling_strategy", "replacement", "sampler", "n_jobs", "random_state", "verbose", "warm_start")


@converter("imblearn.Pipeline", honours=("steps",), ignores=("memory", "verbose", "transform_input"))
def resampling_pipeline(c: Conversion, est: Any, X: Block) -> Outputs:
    """The steps without those that resample, as imbalanced-learn itself leaves them out of predict and transform."""
    return through(c, [(name, step) for name, step in est.steps if not hasattr(step, "fit_resample")], X)


converter(
    "imblearn.BalancedRandomForestClassifier",
    ignores=(*_FOREST_GROWTH, "sampling_strategy", "replacement"),
    note="one output: predict_proba of several is a list of arrays",
)(tree_classifier)


def _as(key: str) -> Convert:
    """The converter of the scikit-learn estimator that another derives from."""

    def convert(c: Conversion, est: Any, X: Block) -> Outputs:
        if key not in CONVERTERS:
            raise refuse_estimator(c, est, f"there is none for {key}, from which it derives")
        return CONVERTERS[key].convert(c, est, X)

    return convert


_MEMBERS = ("estimator", "n_estimators", "max_samples", "max_features", "bootstrap", "bootstrap_features", "oob_score")

converter("imblearn.BalancedBaggingClassifier", honours=_MEMBERS, ignores=_SAMPLING)(_as("sklearn.BaggingClassifier"))
converter("imblearn.EasyEnsembleClassifier", honours=_MEMBERS, ignores=_SAMPLING)(_as("sklearn.BaggingClassifier"))
converter(
    "imblearn.RUSBoostClassifier",
    honours=("estimator", "learning_rate", "algorithm"),
    ignores=("n_estimators", *_SAMPLING),
)(_as("sklearn.AdaBoostClassifier"))
