"""Linear and quadratic discriminant analysis by every solver."""

from __future__ import annotations

from sklearn.covariance import OAS, LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.conformance.estimators.data import apart32, float32, iris, iris_names, scaled, two_classes, two_names
from tests.conformance.estimators.naive_bayes import one_number
from tests.conformance.estimators.table import variant

VARIANTS = (
    variant(LinearDiscriminantAnalysis(), iris_names),
    variant(LinearDiscriminantAnalysis(), two_names),
    variant(LinearDiscriminantAnalysis(), float32),
    variant(LinearDiscriminantAnalysis(), one_number),
    variant(LinearDiscriminantAnalysis(), scaled),
    variant(LinearDiscriminantAnalysis(n_components=1), iris),
    variant(LinearDiscriminantAnalysis(priors=[0.2, 0.3, 0.5]), iris),
    variant(LinearDiscriminantAnalysis(tol=0.5, store_covariance=True), iris),
    variant(LinearDiscriminantAnalysis(solver="lsqr"), iris),
    variant(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), two_classes),
    variant(LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=OAS()), iris),
    variant(LinearDiscriminantAnalysis(solver="eigen"), iris),
    variant(LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.4, n_components=1), iris_names),
    variant(make_pipeline(LinearDiscriminantAnalysis(solver="eigen"), StandardScaler()), iris,
            of="LinearDiscriminantAnalysis"),
    variant(QuadraticDiscriminantAnalysis(), iris_names),
    variant(QuadraticDiscriminantAnalysis(), two_names),
    variant(QuadraticDiscriminantAnalysis(), apart32),
    variant(QuadraticDiscriminantAnalysis(), one_number),
    variant(QuadraticDiscriminantAnalysis(reg_param=0.3), scaled),
    variant(QuadraticDiscriminantAnalysis(priors=[0.2, 0.3, 0.5], store_covariance=True), iris),
    variant(QuadraticDiscriminantAnalysis(solver="eigen"), iris),
    variant(QuadraticDiscriminantAnalysis(solver="eigen", shrinkage="auto"), two_classes),
    variant(QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.3, tol=1e-3), iris),
    variant(QuadraticDiscriminantAnalysis(solver="eigen", covariance_estimator=LedoitWolf()), iris),
)  # fmt: skip
