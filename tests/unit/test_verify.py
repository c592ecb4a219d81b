"""verify on a small bundle: what it compares, with the golden rows and with a live pipeline, and every refusal."""

import numpy as np
import pytest

import edgeml
from edgeml.bundle import open_bundle
from edgeml.errors import InputError, ManifestError, VerificationError
from edgeml.jsonutil import dumps
from tests import small_bundle
from tests.small_bundle import ROWS, YES

pytestmark = pytest.mark.usefixtures("interpreted")


def test_verify(any_path):
    result = edgeml.verify(any_path)
    assert result.passed
    assert result.live is None
    assert (result.golden.rows, result.golden.refused, result.golden.refused_equal) == (6, 1, True)
    assert set(result.golden.methods) == {"predict", "predict_proba"}
    assert result.golden.bounds["predict_proba"] == 1e-9
    assert result.versions["numpy"] == np.__version__
    assert dumps(result.to_json())


def rewrite_golden(path, tmp_path, edit, report=None):
    """The bundle at path with its golden columns, outputs and refused marks edited."""
    from edgeml.golden import read_golden, write_golden

    with open_bundle(path) as bundle:
        golden = read_golden(bundle)
    parts = {"columns": dict(golden.columns), "outputs": {k: v.copy() for k, v in golden.outputs.items()}}
    parts["refused"] = golden.refused.copy()
    edit(parts)

    def change(manifest, members):
        description, blob = write_golden(**parts)
        members["golden.json"], members["golden.bin"] = dumps(description), blob
        if report is not None:
            members["report.json"] = dumps(report)

    return small_bundle.write(tmp_path / "edited.edgeml", change=change)


def nudge(parts):
    parts["outputs"]["predict_proba"][0, 0] *= 1 + 1e-7


def test_verify_names_a_number_that_is_off(path, tmp_path):
    edited = rewrite_golden(path, tmp_path, nudge)
    with pytest.raises(VerificationError, match=r"golden rows: predict_proba: relative error 1e-07 is over 1e-09") as e:
        edgeml.verify(edited)
    assert e.value.exit_code == 1
    assert np.__version__ in e.value.remedy


def test_verify_keeps_the_bound_of_the_parity_report(path, tmp_path):
    wide = rewrite_golden(path, tmp_path, nudge, {"bounds": {"predict_proba": 1e-6}})
    assert edgeml.verify(wide).golden.bounds["predict_proba"] == 1e-6
    with pytest.raises(ManifestError, match="bounds"):
        edgeml.verify(rewrite_golden(path, tmp_path, nudge, {"bounds": {"predict_proba": "wide"}}))


def test_verify_names_a_flipped_label(path, tmp_path):
    def edit(parts):
        parts["outputs"]["predict"][:2] = parts["outputs"]["predict"][:2][::-1]

    with pytest.raises(VerificationError, match="predict: 2 of 5 rows have another answer"):
        edgeml.verify(rewrite_golden(path, tmp_path, edit))


def test_verify_names_a_row_that_should_be_refused(path, tmp_path):
    def edit(parts):
        parts["refused"][0] = True
        parts["outputs"] = {k: v[1:] for k, v in parts["outputs"].items()}

    with pytest.raises(VerificationError, match="row 0 is answered, which scikit-learn refuses"):
        edgeml.verify(rewrite_golden(path, tmp_path, edit))


def test_verify_names_a_row_that_should_be_answered(path, tmp_path):
    def edit(parts):
        parts["refused"][5] = False
        parts["outputs"] = {k: np.concatenate([v, v[:1]]) for k, v in parts["outputs"].items()}

    with pytest.raises(VerificationError, match="a row that scikit-learn answers is refused: scale was given inf"):
        edgeml.verify(rewrite_golden(path, tmp_path, edit))


def test_verify_names_another_shape(path, tmp_path):
    def edit(parts):
        parts["outputs"]["predict_proba"] = parts["outputs"]["predict_proba"][:, 1]

    with pytest.raises(VerificationError, match=r"predict_proba returns float64\[5, 2\], scikit-learn float64\[5\]"):
        edgeml.verify(rewrite_golden(path, tmp_path, edit))


def test_verify_needs_an_answer_for_every_method_and_column(path, tmp_path):
    with pytest.raises(ManifestError, match="no answers of predict"):
        edgeml.verify(rewrite_golden(path, tmp_path, lambda parts: parts["outputs"].pop("predict")))
    with pytest.raises(ManifestError, match="lacks the column 'c'"):
        edgeml.verify(rewrite_golden(path, tmp_path, lambda parts: parts["columns"].pop("c")))


def test_verify_judges_no_label_of_a_score_that_overflows(path, tmp_path):
    def edit(parts):
        parts["outputs"]["predict_proba"][0] = np.nan
        parts["outputs"]["predict"][0] = "no"

    result = edgeml.verify(rewrite_golden(path, tmp_path, edit))
    assert result.golden.unjudged == 1
    assert result.golden.methods["predict"].rows == 4


class Pipeline:
    """What verify needs of a pipeline, with the small program's own answers moved by ``off``."""

    def __init__(self, off=0.0):
        self.off = off

    def predict(self, X):
        return np.where(self.predict_proba(X)[:, 1] > 0.5, "yes", "no").astype("<U9")

    def predict_proba(self, X):
        if any(row["x"] == 99 for row in X):
            raise ValueError("no 99")
        proba = np.stack([1 - YES, YES], axis=1)[: len(X)]
        return proba * (1 + self.off)


def test_verify_against_a_live_pipeline(path):
    result = edgeml.verify(path, Pipeline(), ROWS)
    assert result.passed
    assert result.live.rows == 3
    with pytest.raises(VerificationError, match="pipeline: predict_proba: relative error 1e-06"):
        edgeml.verify(path, Pipeline(1e-6), ROWS)


def test_verify_and_what_it_is_given(path):
    for arguments in ((Pipeline(),), (None, ROWS)):
        with pytest.raises(InputError, match="a pipeline and rows for it, or neither"):
            edgeml.verify(path, *arguments)
    with pytest.raises(InputError, match="predict refuses the rows: ValueError: no 99"):
        edgeml.verify(path, Pipeline(), [{"x": 99.0, "c": "AA"}])
    with pytest.raises(InputError, match="the pipeline has no predict"):
        edgeml.verify(path, object(), ROWS)
    with pytest.raises(VerificationError, match="answers is refused"):
        edgeml.verify(path, Pipeline(), [{"x": np.inf, "c": "AA"}])
