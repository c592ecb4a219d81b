"""What the judge makes of answers: flips, errors, metrics, margins, and what it cannot judge."""

import json

import numpy as np
import pytest
from sklearn.metrics import r2_score, roc_auc_score

from edgeml.compare import r2
from edgeml.jsonutil import dumps
from edgeml.quantize.budget import Budget
from edgeml.quantize.judge import Limit, judge, plot_data
from edgeml.quantize.margins import estimated_flips
from edgeml.quantize.metrics import dropped, pooled_r2, typical_r2
from edgeml.quantize.truth import Truth


@pytest.fixture
def classifier():
    rng = np.random.default_rng(1)
    p = rng.random((4000, 1))
    proba = np.hstack([1 - p, p])
    labels = np.where(p[:, 0] > 0.5, "yes", "no")
    targets = np.where(rng.random(4000) < p[:, 0], "yes", "no")
    return Truth({"predict": labels, "predict_proba": proba}, targets, np.array(["no", "yes"]))


def test_equal_answers_keep_everything(classifier):
    verdict = judge(classifier, classifier.outputs, Budget(max_abs_error=0.0))
    assert verdict.kept
    assert verdict.sure
    assert verdict.error == 0
    assert {limit.name for limit in verdict.limits} == {"label_flips", "metric_drop", "max_abs_error"}
    assert verdict.metrics["roc_auc"]["float"] == pytest.approx(
        roc_auc_score(classifier.targets, classifier.outputs["predict_proba"][:, 1])
    )


def test_flips_are_counted_and_bounded(classifier):
    labels = classifier.outputs["predict"].copy()
    labels[:3] = np.where(labels[:3] == "yes", "no", "yes")
    verdict = judge(classifier, {**classifier.outputs, "predict": labels}, Budget())
    flips = next(limit for limit in verdict.limits if limit.name == "label_flips")
    assert flips.measured == 3 / 4000
    assert flips.kept
    assert flips.bound > 0.001
    assert not verdict.sure
    labels[:5] = "no"
    labels[5:10] = "yes"
    assert judge(classifier, {**classifier.outputs, "predict": labels}, Budget()).broken()[0].startswith("label_flips")


def test_a_broken_score_is_seen_without_a_flip(classifier):
    scores = np.random.default_rng(0).permutation(classifier.outputs["predict_proba"])
    verdict = judge(classifier, {**classifier.outputs, "predict_proba": scores}, Budget())
    broken = [limit for limit in verdict.limits if not limit.kept]
    assert [limit.name for limit in broken] == ["metric_drop", "metric_drop"]
    assert "of roc auc" in broken[0].note
    assert "r2 against scikit-learn's predict_proba" in broken[1].note


def test_probabilities_that_drift_together_are_seen(classifier):
    """No label and no rank changes, and no target is known: 0.8 times the distance from a half."""
    truth = Truth(classifier.outputs, None, classifier.classes)
    drifted = 0.5 + 0.8 * (classifier.outputs["predict_proba"] - 0.5)
    verdict = judge(truth, {**classifier.outputs, "predict_proba": drifted}, Budget())
    assert [limit.name for limit in verdict.limits if not limit.kept] == ["metric_drop"]
    rare = np.concatenate([classifier.outputs["predict_proba"], np.full((4000, 1), 1e-6)], axis=1)
    off = rare + np.array([0.0, 0.0, 1e-6])  # of a class that hardly occurs nothing is left, and nobody minds
    assert pooled_r2(rare, off) > 0.999999
    assert pooled_r2(rare, rare * np.nan) == -np.inf
    assert pooled_r2(np.ones((5, 2)), np.ones((5, 2))) == 1
    assert pooled_r2(np.ones((5, 2)), np.full((5, 2), 1.5)) == -np.inf


def test_an_answer_that_is_not_finite_breaks_a_limit(classifier):
    scores = classifier.outputs["predict_proba"].copy()
    scores[5, 1] = np.nan
    verdict = judge(classifier, {**classifier.outputs, "predict_proba": scores}, Budget(max_abs_error=1.0))
    assert not verdict.kept
    assert {limit.name for limit in verdict.limits if not limit.kept} == {"max_abs_error", "metric_drop"}
    assert verdict.error > 1e100  # a search that compares with it goes elsewhere
    assert verdict.metrics["roc_auc"]["quantized"] is None


def test_how_far_a_limit_is_used_up():
    excess = [Limit("", *pair).excess for pair in ((0.5, 1.0), (0.0, 0.0), (-1.0, 1.0), (1.0, 0.0), (3.0, 2.0))]
    assert excess == [0.5, 0.0, 0.0, np.inf, 1.5]


def test_a_missing_label_is_a_label_of_its_own():
    for labels in (np.array(["a", np.nan, "b"], dtype=object), np.array([1.0, np.nan, 2.0])):
        truth = Truth({"predict": labels}, None, labels[[0, 2]])
        assert judge(truth, {"predict": labels.copy()}, Budget()).methods["predict"]["flips"] == 0
        assert judge(truth, {"predict": labels[::-1]}, Budget()).methods["predict"]["flips"] == 2
        other = np.where(np.arange(3) == 1, labels[0], labels)
        assert judge(truth, {"predict": other}, Budget()).methods["predict"]["flips"] == 1


def test_of_few_rows_twice_the_flips_must_do():
    truth = Truth({"predict": np.zeros(100, dtype=int)}, None, np.arange(2))
    one = np.eye(1, 100, dtype=int)[0]
    for limit, sure in ((0.015, False), (0.02, True)):
        flips = judge(truth, {"predict": one}, Budget(label_flips=limit)).limits[0]
        assert (flips.kept, flips.bound, flips.sure) == (True, 0.02, sure)


def test_a_flip_counts_whatever_margins_tell():
    """One of 100 labels differs, and the scores moved by nothing at all."""
    score = np.linspace(-1, 1, 100)
    truth = Truth({"predict": score > 0, "decision_function": score}, None, np.array([False, True]))
    flipped = truth.outputs["predict"] ^ (np.arange(100) == 0)
    verdict = judge(truth, truth.outputs | {"predict": flipped}, Budget(label_flips=0.015))
    assert verdict.limits[0].bound == 0.02


def test_labels_that_are_floats_are_labels():
    labels = np.array([1.0, 2.0] * 50)
    truth = Truth({"predict": labels}, None, np.array([1.0, 2.0]))
    verdict = judge(truth, {"predict": labels + 1e-9}, Budget())
    assert verdict.methods["predict"]["flips"] == 100


@pytest.mark.parametrize("size", [1e6, 1e-6, 1.0, 1e200])
def test_r2_is_scikit_learns_at_every_size(size):
    rng = np.random.default_rng(2)
    y = rng.normal(size=300) * size
    answers = y + 0.3 * size * rng.normal(size=300)
    if size < 1e100:
        assert r2(y, answers) == pytest.approx(r2_score(y, answers))
    assert 0.8 < r2(y, answers) < 1


def test_r2_of_constant_columns():
    ones = np.ones((50, 1))
    assert r2(ones, ones) == 1
    assert r2(ones, ones * 1.5) == -np.inf
    assert r2(ones, ones * np.nan) == -np.inf


def test_typical_r2():
    """Of two columns the worse; a median of errors that is no number is none that passes."""
    own = np.random.default_rng(0).normal(size=(301, 2))
    spread = np.median(np.abs(own[:, 1] - np.median(own[:, 1])))
    assert typical_r2(own, own + np.array([0.0, 0.5 * spread])) == pytest.approx(0.75)
    assert typical_r2(own, np.where(np.arange(301)[:, None] < 151, np.nan, own)) == -np.inf
    assert typical_r2(np.where(own > 0, np.nan, own), own) == 1
    assert typical_r2(np.full((5, 1), np.nan), np.zeros((5, 1))) == 1


def test_a_drop_of_r2_below_zero_is_a_share():
    assert dropped(0.9, 0.8) == pytest.approx(0.1)
    assert dropped(-1e10, -1.0001e10) == pytest.approx(1e-4)
    assert dropped(0.9, -np.inf) == np.inf
    assert dropped(-np.inf, -np.inf) == 0


def test_without_targets_a_regressor_is_measured_against_itself():
    y = np.random.default_rng(0).normal(size=(500,)) * 1e-6
    truth = Truth({"predict": y})
    assert judge(truth, {"predict": y}, Budget()).kept
    verdict = judge(truth, {"predict": y + 1e-7 * np.sign(y)}, Budget())
    assert {limit.name for limit in verdict.limits} == {"metric_drop"}
    assert not verdict.kept


def test_what_numbers_of_few_rows_lose_counts_twice():
    rng = np.random.default_rng(0)
    for rows, sure in ((500, False), (5000, True)):
        own = rng.normal(size=rows)
        verdict = judge(Truth({"predict": own}), {"predict": own + 0.037 * rng.normal(size=rows)}, Budget())
        assert verdict.kept
        assert verdict.sure == sure


def test_heavy_tails_hide_nothing():
    """One row of 1e9 makes R2 perfect, whatever the others are; the usual row is looked at too."""
    y = np.random.default_rng(0).normal(size=500)
    y[0] = 1e9
    answers = np.where(y > 1e6, y, 0.0)
    assert r2(y, answers) > 0.999999
    verdict = judge(Truth({"predict": y}, y), {"predict": answers}, Budget())
    assert [limit.kept for limit in verdict.limits] == [True, True, False]
    assert "typical r2" in verdict.limits[2].note


def test_answers_count_where_targets_tell_little():
    """A model that explains nothing: its answers may all change, and R2 against the targets hardly does."""
    rng = np.random.default_rng(0)
    y, own = rng.normal(size=2000), 0.05 * rng.normal(size=2000)
    other = own + 0.02 * rng.normal(size=2000)
    verdict = judge(Truth({"predict": own}, y), {"predict": other}, Budget())
    assert [limit.kept for limit in verdict.limits] == [True, False, False]
    constant = judge(Truth({"predict": own}, np.full(2000, 3.5)), {"predict": own}, Budget())
    assert constant.kept
    assert list(constant.metrics) == ["r2 against scikit-learn's predict", "typical r2 against scikit-learn's predict"]


def test_plot_points(classifier):
    data = plot_data(classifier, classifier.outputs)
    assert data["method"] == "predict_proba"
    assert len(data["float"]) == len(data["quantized"]) == 400
    assert sum(data["histogram"]["counts"]) == 4000
    assert plot_data(Truth({"predict": np.array(["a"])}, None, np.array(["a"])), {"predict": np.array(["a"])}) is None


def test_errors_count_in_units_of_the_spread_of_finite_cells():
    """A transformer may pass NaN on; the search compares errors, and NaN compares with nothing."""
    expected = np.array([[0.0, 5.0, np.nan], [2.0, 5.0, np.inf], [np.nan, 5.0, np.nan]])
    truth = Truth({"transform": expected})
    assert judge(truth, {"transform": expected}, Budget()).error == 0
    off = expected + np.array([0.5, 0.5, 0.0])  # half a deviation, and a tenth of a constant
    assert judge(truth, {"transform": off}, Budget()).error == pytest.approx(np.sqrt((2 * 0.25 + 3 * 0.01) / 9))
    tiny = Truth({"transform": np.array([[1e-200], [3e-200]])})
    assert judge(tiny, {"transform": np.array([[1e-200], [4e-200]])}, Budget()).error == pytest.approx(np.sqrt(0.5))


# --- what is not judged ---------------------------------------------------------------------------------------------
def test_a_limit_that_is_not_judged_is_told(classifier):
    def unjudged(truth, budget, answers=None):
        verdict = judge(truth, answers or truth.outputs, budget)
        assert verdict.to_json()["not_judged"] == verdict.unjudged
        return verdict.unjudged

    assert unjudged(classifier, Budget(max_abs_error=1.0)) == {}
    without_y = Truth(classifier.outputs, None, classifier.classes)
    assert unjudged(without_y, Budget()) == {}
    labels = Truth({"predict": classifier.outputs["predict"]}, None, classifier.classes)
    assert unjudged(labels, Budget()) == {"metric_drop": "metrics of a classifier without scores need y"}
    numbers = Truth({"predict": np.arange(50.0)})
    assert unjudged(numbers, Budget()) == {"label_flips": "the pipeline predicts no labels"}
    names = Truth({"predict": np.arange(50)})
    assert unjudged(names, Budget(max_abs_error=1.0)).keys() == {"metric_drop", "max_abs_error"}
    assert unjudged(names, Budget(metric_drop=None)) == {}
    one = Truth(classifier.outputs, np.full(4000, "no"), classifier.classes)
    assert unjudged(one, Budget()) == {"roc_auc": "the judged rows have targets of one class alone"}
    none = Truth(classifier.outputs, np.full(4000, "other"), classifier.classes)
    assert unjudged(none, Budget()).keys() == {"accuracy", "roc_auc", "balanced_accuracy"}
    missing = Truth({"predict": np.arange(50.0)}, np.full(50, np.nan))
    assert unjudged(missing, Budget())["r2"] == "no target among the judged rows is a finite number"


@pytest.mark.parametrize("known", [["no", "yes"], [False, True], [0, 1], [0.0, 2.0]])
@pytest.mark.parametrize("as_objects", [False, True])
def test_targets_that_are_no_class_count_for_no_metric(known, as_objects, classifier):
    """Missing targets, and labels that the pipeline never saw, of every dtype."""
    labels = np.array(known)
    yes = classifier.targets == "yes"
    predicted = labels[(classifier.outputs["predict"] == "yes").astype(int)]
    targets = labels[yes.astype(int)].astype(object)
    whole = Truth(classifier.outputs | {"predict": predicted}, targets, labels)
    targets = targets.copy()
    targets[:100], targets[100:150], targets[150:200] = None, np.nan, "never seen"
    if as_objects:
        predicted, labels = predicted.astype(object), labels.astype(object)
    truth = Truth(classifier.outputs | {"predict": predicted}, targets, labels)
    rest = slice(200, None)
    verdict = judge(truth, truth.outputs, Budget(), intervals=False)
    score = classifier.outputs["predict_proba"][:, 1]
    assert verdict.metrics["roc_auc"]["float"] == pytest.approx(roc_auc_score(yes[rest], score[rest]))
    right = (classifier.outputs["predict"] == classifier.targets)[rest]
    assert verdict.metrics["accuracy"]["float"] == pytest.approx(right.mean())
    assert judge(whole, whole.outputs, Budget(), intervals=False).metrics["accuracy"]["float"] == pytest.approx(
        (classifier.outputs["predict"] == classifier.targets).mean()
    )
    each = [(right & (yes[rest] == side)).sum() / (yes[rest] == side).sum() for side in (False, True)]
    assert verdict.metrics["balanced_accuracy"]["float"] == pytest.approx(np.mean(each))


def test_roc_auc_of_several_classes():
    rng = np.random.default_rng(0)
    scores, targets = rng.dirichlet(np.ones(3), 500), rng.integers(0, 3, 500)
    truth = Truth({"predict": scores.argmax(axis=1), "predict_proba": scores}, targets, np.arange(3))
    found = judge(truth, truth.outputs, Budget(), intervals=False).metrics["roc_auc"]["float"]
    assert found == pytest.approx(roc_auc_score(targets, scores, multi_class="ovr"))
    pairs = Truth({"predict": targets, "decision_function": rng.normal(size=(500, 6))}, targets, np.arange(4))
    assert judge(pairs, pairs.outputs, Budget()).unjudged == {"roc_auc": "the scores are of pairs of classes"}


def test_roc_auc_of_scores_that_tie():
    rng = np.random.default_rng(1)
    score, targets = rng.integers(0, 4, 400) / 4, rng.integers(0, 2, 400)
    for scores in (score, score[:, None]):
        truth = Truth({"predict": targets, "decision_function": scores}, targets, np.arange(2))
        found = judge(truth, truth.outputs, Budget(), intervals=False).metrics["roc_auc"]["float"]
        assert found == pytest.approx(roc_auc_score(targets, score))


def test_missing_targets_of_a_regressor():
    y = np.random.default_rng(0).normal(size=300)
    targets = np.where(np.arange(300) % 3 == 0, np.nan, y + 0.1)
    verdict = judge(Truth({"predict": y}, targets), {"predict": y + 0.01}, Budget())
    assert verdict.metrics["r2"]["float"] == pytest.approx(r2_score(targets[1::3], y[1::3]), abs=0.01)


# --- margins ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("classes", [2, 4])
def test_margins_tell_flips_that_counting_few_rows_does_not(classes):
    """The estimate from 300 rows is near the share of flips among 300,000; a count of 300 rows would be 0 or 0.33 %."""
    rng = np.random.default_rng(classes)
    names = np.arange(classes)

    def answers(rows):
        scores = rng.normal(size=(rows, classes))
        noisy = scores + 0.004 * rng.normal(size=scores.shape)
        return [{"predict": s.argmax(axis=1), "predict_proba": s} for s in (scores, noisy)]

    own, other = answers(300_000)
    true = (own["predict"] != other["predict"]).mean()
    estimates = []
    for _ in range(20):
        few, rounded = answers(300)
        estimates.append(estimated_flips(Truth(few, None, names), rounded))
    assert 0.5 * true < np.mean(estimates) < 2 * true
    assert np.std(estimates) < 0.5 * true


def test_without_scores_there_is_no_estimate():
    labels = {"predict": np.array([0, 1, 1])}
    assert estimated_flips(Truth(labels, None, np.array([0, 1])), labels) is None
    pairs = labels | {"decision_function": np.zeros((3, 3))}
    assert estimated_flips(Truth(pairs, None, np.arange(4)), pairs) is None


def test_without_labels_that_follow_from_scores_there_is_no_estimate():
    """Three classes have three pairs; and a label may have a threshold of its own."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(1000, 3))
    names = np.array(["a", "b", "c"])
    others = {"predict": names[scores.argmin(axis=1)], "decision_function": scores}
    assert estimated_flips(Truth(others, None, names), others) is None
    follow = {"predict": names[scores.argmax(axis=1)], "decision_function": scores}
    assert estimated_flips(Truth(follow, None, names), follow) == 0
    low = {"predict": names[(scores[:, 0] > -0.5).astype(int)], "decision_function": scores[:, 0]}
    assert estimated_flips(Truth(low, None, names[:2]), low) is None
    near = {"predict": (-scores).argmax(axis=1), "transform": scores}
    assert estimated_flips(Truth(near), near) == 0
    merged = {"predict": near["predict"] % 2, "transform": scores}
    assert estimated_flips(Truth(merged), merged) is None


def test_margins_of_zero_flip_by_whatever_narrows_them():
    scores = np.zeros((40, 2))
    scores[20:] = [0.0, 9.0]
    truth = Truth({"predict": np.repeat([0, 1], 20), "decision_function": scores}, None, np.arange(2))
    moved = scores + [[0.1, 0.0]] * (np.arange(40)[:, None] % 4 == 0)
    assert estimated_flips(truth, truth.outputs) == 0
    only = Truth({m: a[:20] for m, a in truth.outputs.items()}, None, np.arange(2))
    assert estimated_flips(only, {"predict": only.outputs["predict"], "decision_function": scores[:20]}) == 0
    assert estimated_flips(only, {"predict": only.outputs["predict"], "decision_function": moved[:20]}) == 0.25


def test_the_estimate_stands_in_for_a_bound_that_few_rows_cannot_give():
    rng = np.random.default_rng(0)
    score = rng.normal(size=400)
    score = np.where(np.abs(score) < 0.01, 0.02, score)
    truth = Truth({"predict": score > 0, "decision_function": score}, None, np.array([False, True]))
    rough = score + 0.009 * rng.choice([-1, 1], 400)  # none of these 400 labels differs, of others 0.4 % would
    verdict = judge(truth, {"predict": rough > 0, "decision_function": rough}, Budget())
    assert verdict.kept
    assert not verdict.sure
    assert "by margins" in verdict.limits[0].note
    away = score + 0.05 * np.sign(score)
    assert judge(truth, {"predict": away > 0, "decision_function": away}, Budget(metric_drop=None)).sure


def test_an_infinite_error_of_a_column_that_hardly_varies_is_a_figure_that_json_holds():
    scores = -1e-12 * np.arange(1.0, 41.0)[:, None]
    answers = {"decision_function": np.where(scores < -2e-11, -np.inf, scores)}
    verdict = judge(Truth({"decision_function": scores}), answers, Budget())
    assert 1e100 < verdict.error < np.inf
    assert json.loads(dumps(verdict.to_json()))["methods"]["decision_function"]["max_abs"] is None
