"""The reference profile: its bins, its counts, what may be added, and what it must not give away."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeml import errors
from edgeml.jsonutil import dumps
from edgeml.profile import (
    MAX_BINS,
    MAX_CATEGORIES,
    bin_counts,
    build_profile,
    check_profile,
    merge_counts,
    slot_names,
)
from edgeml.schema import Column, Schema

KINDS = {"f8": "float64", "f4": "float32", "i8": "int64", "b1": "bool", "O": "string"}


def profile(scores=None, **columns):
    """Profile of named arrays."""
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    kinds = {n: KINDS[a.dtype.str.lstrip("<|=")] for n, a in arrays.items()}
    schema = Schema("columns", tuple(Column(n, k) for n, k in kinds.items()))
    return build_profile(arrays, schema, scores or {})


def record(values):
    return profile(x=values)["features"][0]


def counts(of, values=None):
    """Counts by slot, those that are not zero."""
    numbers = of["counts"] if values is None else bin_counts(of, values)["counts"]
    return {slot: n for slot, n in zip(slot_names(of), numbers, strict=True) if n}


def strings(*cells):
    return np.array(cells, dtype=object)


def test_quantile_bins_hold_equal_numbers_of_rows():
    values = np.random.default_rng(0).lognormal(size=10_000)
    made = record(values)
    assert len(made["edges"]) == 21
    assert made["counts"] == [0, *[500] * 20, 0, 0, 0, 0]
    assert (made["edges"][0], made["edges"][-1]) == (values.min(), values.max())


@pytest.mark.parametrize(("rows", "bins"), [(30, 10), (999, 10), (1500, 15), (5000, 20)])
def test_number_of_bins(rows, bins):
    assert len(record(np.random.default_rng(0).normal(size=rows))["edges"]) == bins + 1


def test_outside_and_special_values():
    made = record(np.arange(1000.0))
    seen = [-0.5, 999.5, 1e308, np.nan, np.nan, np.inf, -np.inf, 0.0, 999.0]
    assert counts(made, seen) == {
        "below": 1, "above": 2, "nan": 2, "+inf": 1, "-inf": 1, "[0.0, 100.0)": 1, "[900.0, 999.0]": 1,
    }  # fmt: skip


def test_special_values_in_the_sample_do_not_move_the_edges():
    values = np.arange(1000.0)
    spoiled = np.concatenate([values, [np.nan, np.inf, -np.inf]])
    assert record(spoiled)["edges"] == record(values)["edges"]
    assert record(spoiled)["sha256"] == record(values)["sha256"]


def test_few_values_have_a_bin_each():
    made = record(np.array([0] * 990 + [1] * 7 + [5] * 3))
    assert made["edges"] == [0, 1, 5, 5]
    assert made["counts"] == [0, 990, 7, 3, 0, 0, 0, 0]
    assert counts(made, np.array([5, 6, -1, 4])) == {"below": 1, "[1, 5)": 1, "[5, 5]": 1, "above": 1}


def test_a_heavy_value_keeps_a_bin_of_its_own():
    rng = np.random.default_rng(0)
    at_top = np.minimum(rng.normal(size=5000), 0.0)
    assert record(at_top)["edges"][-2:] == [0.0, 0.0]
    assert counts(record(at_top))["[0.0, 0.0]"] == np.count_nonzero(at_top == 0)


def test_constant_and_nothing_finite():
    assert counts(record(np.full(9, 3.5))) == {"[3.5, 3.5]": 9}
    made = record(np.full(9, np.nan))
    assert made["edges"] == []
    assert counts(made) == {"nan": 9}
    assert counts(made, [1.0, np.inf]) == {"above": 1, "+inf": 1}


def test_large_integers_are_exact():
    values = 2**60 + np.arange(2000)
    made = record(values)
    assert made["edges"][:2] == [2**60, 2**60 + 100]
    assert counts(made, np.array([2**60 + 99, 2**60 + 100])) == {
        f"[{2**60}, {2**60 + 100})": 1,
        f"[{2**60 + 100}, {2**60 + 200})": 1,
    }


def test_float32_edges_are_exact():
    values = np.random.default_rng(0).normal(size=1000).astype("float32")
    made = record(values)
    assert np.float32(made["edges"][3]) == made["edges"][3]
    assert made["counts"][1:11] == [100] * 10


def test_negative_zero_and_row_order():
    values = np.concatenate([np.full(500, -0.0), np.full(500, 0.0), np.linspace(-1, 1, 1000)])
    made = record(values)
    for other in (values[::-1], np.random.default_rng(0).permutation(values)):
        assert dumps(record(other)) == dumps(made)
    assert dumps(record(np.where(values == 0, -0.0, values))) == dumps(made)


def test_categories():
    made = record(strings(*["a"] * 9, *["é😀"] * 9, *["b"] * 12, None, float("nan"), np.nan))
    assert made["categories"] == ["b", "a", "é😀"]
    assert made["complete"]
    assert counts(made) == {"a": 9, "b": 12, "é😀": 9, "missing": 3}
    assert counts(made, strings("a", "new", "", None)) == {"a": 1, "unseen": 2, "missing": 1}


def test_rare_and_long_categories_are_not_named():
    """The privacy promise of the module's docstring."""
    secret, essay = "Jane Doe, 12 Elm Street", "x" * 129
    made = record(strings(*["common"] * 50, *[secret] * 4, *[essay] * 40))
    text = dumps(made).decode()
    assert made["categories"] == ["common"]
    assert secret not in text
    assert essay not in text
    assert counts(made) == {"common": 50, "other": 44}
    assert counts(made, strings(secret, "new")) == {"other": 2}


def test_many_categories():
    made = record(strings(*[f"c{i:03}" for i in range(100) for _ in range(5 + i)]))
    assert made["categories"] == [f"c{i:03}" for i in range(99, 69, -1)]
    assert len(made["counts"]) == MAX_CATEGORIES + 3
    assert sum(made["counts"]) == sum(5 + i for i in range(100))


def test_booleans():
    assert counts(record(np.array([True, False, True]))) == {"False": 1, "True": 2}
    assert counts(record(np.array([True] * 3))) == {"True": 3}


def test_scores_of_a_classifier():
    rng = np.random.default_rng(0)
    positive = rng.random(400)
    made = profile(
        {
            "predict": strings(*(["no", "yes"][int(p > 0.5)] for p in positive)),
            "predict_proba": np.column_stack([1 - positive, positive]),
            "predict_log_proba": np.zeros((400, 2)),
            "decision_function": None,
        },
        x=positive,
    )
    labels, probability = made["scores"]
    assert counts(labels) == {
        "no": np.count_nonzero(positive <= 0.5),
        "yes": np.count_nonzero(positive > 0.5),
    }
    assert probability["name"] == "predict_proba[1]"
    assert probability["edges"] == [i / 20 for i in range(21)]
    np.testing.assert_array_equal(probability["counts"][1:21], np.histogram(positive, np.arange(21) / 20)[0])


def test_scores_of_several_classes_and_of_very_many():
    few = profile({"predict_proba": np.full((50, 3), 1 / 3)}, x=np.arange(50.0))
    assert [r["name"] for r in few["scores"]] == [f"predict_proba[{j}]" for j in range(3)]
    many = np.random.default_rng(0).dirichlet(np.ones(40), size=50)
    (winner,) = profile({"predict_proba": many}, x=np.arange(50.0))["scores"]
    assert winner["name"] == "predict_proba.max"
    np.testing.assert_array_equal(winner["counts"][1:21], np.histogram(many.max(axis=1), np.arange(21) / 20)[0])


@pytest.mark.parametrize(
    ("scores", "kind"),
    [
        ({"predict": np.linspace(0, 1, 50)}, "numeric"),
        ({"predict": np.arange(50) % 3}, "categories"),
        ({"predict": (np.arange(50) % 2).astype(float), "decision_function": np.zeros(50)}, "categories"),
        ({"predict": np.arange(50) % 2 == 0}, "categories"),
        ({"predict": np.array(["a", "b"] * 25)}, "categories"),
    ],
)
def test_predictions_are_labels_or_quantities(scores, kind):
    made = profile(scores, x=np.arange(50.0))
    assert made["scores"][-1]["kind"] == kind
    assert sum(made["scores"][-1]["counts"]) == 50
    check_profile(json.loads(dumps(made)))


def test_transform_is_not_profiled():
    assert profile({"transform": np.zeros((5, 2))}, x=np.arange(5.0))["scores"] == []


def test_matrix_schema():
    X = np.random.default_rng(0).normal(size=(100, 3))
    schema = Schema("matrix", tuple(Column(f"x{i}", "float64") for i in range(3)))
    made = build_profile({"X": X}, schema, {})
    assert made["n_ref"] == 100
    assert [r["name"] for r in made["features"]] == ["x0", "x1", "x2"]
    assert made["features"][2]["edges"] == record(X[:, 2])["edges"]


def test_columns_the_model_does_not_read():
    schema = Schema("columns", (Column("x", "float64"), Column("y", "any", used=False)))
    made = build_profile({"x": np.arange(5.0)}, schema, {})
    assert [r["name"] for r in made["features"]] == ["x"]


@pytest.mark.parametrize("columns", [{}, {"x": np.arange(3.0)}, {"x": np.arange(3.0), "y": np.arange(4.0)}])
def test_samples_that_do_not_fit(columns):
    schema = Schema("columns", (Column("x", "float64"), Column("y", "float64")))
    with pytest.raises(errors.SampleError):
        build_profile(columns, schema, {})


def test_empty_sample():
    with pytest.raises(errors.SampleError):
        profile(x=np.array([], dtype=float))


@pytest.mark.parametrize(
    ("reference", "values"),
    [
        (strings("a"), strings(3)),
        (strings("a"), strings(True)),
        (strings("a"), strings(["a"], "b")),
        (np.arange(3.0), strings("a")),
        (np.arange(3.0), np.array(["1"])),
    ],
)
def test_values_of_another_kind(reference, values):
    with pytest.raises(errors.ColumnTypeError, match="'x'"):
        bin_counts(record(reference), values)


def test_counts_add_up():
    made = record(np.random.default_rng(0).normal(size=1000))
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=n) for n in (0, 1, 30)]
    total = bin_counts(made, parts[0])
    for part in parts[1:]:
        total = merge_counts(total, bin_counts(made, part))
    assert total == bin_counts(made, np.concatenate(parts))
    assert json.loads(dumps(total)) == total
    both = merge_counts(made, total)["counts"]
    assert both == [a + b for a, b in zip(made["counts"], total["counts"], strict=True)]


@pytest.mark.parametrize("other", [{"x": np.arange(31.0)}, {"y": np.arange(30.0)}, {"x": np.arange(30)}])
def test_other_bins_are_not_added(other):
    first, second = record(np.arange(30.0)), profile(**other)["features"][0]
    with pytest.raises(errors.ProfileMismatchError):
        merge_counts(first, second)


def test_hash_is_of_the_bins_not_of_the_counts():
    once, twice = np.arange(5.0), np.repeat(np.arange(5.0), 2)
    assert profile(x=once)["sha256"] == profile(x=twice)["sha256"]
    assert profile(x=once)["sha256"] != profile(y=once)["sha256"]
    assert profile(x=once)["sha256"] != profile({"predict": once}, x=once)["sha256"]


def spoil(made, path, value):
    *way, last = path
    place = made
    for step in way:
        place = place[step]
    place[last] = value
    return made


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["profile_version"], 2),
        (["sha256"], "0" * 64),
        (["features"], None),
        (["features"], []),
        (["features", 0, "edges", 0], -1.0),
        (["features", 0, "dtype"], "float32"),
        (["features", 0, "counts"], [1]),
        (["features", 0, "counts", 0], -1),
        (["features", 0, "counts", 0], 1.5),
        (["features", 1, "categories", 0], "b"),
        (["features", 1, "complete"], False),
        (["features", 0], 3),
    ],
)
def test_spoiled_profiles(path, value):
    good = profile(x=np.arange(30.0), s=strings(*["a"] * 30))
    check_profile(json.loads(dumps(good)))
    with pytest.raises(errors.ProfileError):
        check_profile(spoil(json.loads(dumps(good)), path, value))


@pytest.mark.parametrize("edges", [[2.0, 1.0, 3.0], [1.0], ["a", "b"], [True, 2], [[1], [2]], {"a": 1}])
def test_bins_that_make_no_sense_are_refused_though_their_hash_is_right(edges):
    from edgeml import profile as module

    good = json.loads(dumps(profile(x=np.arange(30.0))))
    feature = good["features"][0]
    feature["edges"] = edges
    feature["sha256"] = module._sha256(feature)
    feature["counts"] = [0] * (max(len(edges) - 1, 0) + 5)
    good["sha256"] = module._whole_sha256(good["features"], [])
    with pytest.raises(errors.ProfileError):
        check_profile(good)


FLOATS = hnp.arrays(np.float64, st.integers(1, 200), elements=st.floats(width=64))


@settings(max_examples=100, deadline=None)
@given(sample=FLOATS, new=FLOATS)
def test_every_value_falls_in_one_slot(sample, new):
    made = record(sample)
    check_profile(json.loads(dumps(profile(x=sample))))
    assert len(made["edges"]) <= MAX_BINS + 1
    assert sum(made["counts"]) == len(sample)
    assert made["counts"][0] == 0
    below, *inner, above, nan, minus, plus = bin_counts(made, new)["counts"]
    finite = new[np.isfinite(new)]
    assert (nan, minus, plus) == (np.isnan(new).sum(), (new == -np.inf).sum(), (new == np.inf).sum())
    if made["edges"]:
        edges = made["edges"]
        assert below == (finite < edges[0]).sum()
        assert above == (finite > edges[-1]).sum()
        last = len(inner) - 1
        for i, n in enumerate(inner):
            inside = (finite >= edges[i]) & ((finite < edges[i + 1]) | ((i == last) & (finite <= edges[-1])))
            assert n == inside.sum()
