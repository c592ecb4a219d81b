"""Every figure of a window arrives in an OTLP message under its name, with the right kind, time and temporality."""

import json
import math

import numpy as np
import pytest

from edgeml.profile import slot_names
from edgeml.telemetry.otlp import Cumulative, Reading, reading_of, resource_of, to_request
from edgeml.telemetry.otlp_figures import METRICS, SYSTEM, Figures, Histogram, figures_of, lost, metric
from edgeml.telemetry.system import SystemFigures
from edgeml.telemetry.window import LATENCY_BINS, latency_bin, latency_edges, sparse
from tests.otlp_receiver import read
from tests.otlp_tools import points_of, window_of

STREAM, DEVICE = "ab" * 16, "cd" * 16


def values_of(window, profile):
    points = points_of([reading_of(window, profile, resource_of(window, device=DEVICE, stream=STREAM))])
    return {key: point[-1] for key, point in points.items()}


def test_counts_of_a_window(profile):
    values = values_of(window_of(profile, {}, errors={"InputError": 2, "EngineError": 1}), profile)
    assert values == {
        ("edgeml.telemetry.windows", ()): 1,
        ("edgeml.model.rows", ()): 9,
        ("edgeml.model.calls", (("edgeml.call.kind", "one"),)): 4,
        ("edgeml.model.calls", (("edgeml.call.kind", "batch"),)): 1,
        ("edgeml.model.errors", (("error.type", "InputError"),)): 2,
        ("edgeml.model.errors", (("error.type", "EngineError"),)): 1,
    }


def _in_bucket(bounds, value):
    """The bucket of a value as OpenTelemetry defines it: closed on the right."""
    return next((i for i, bound in enumerate(bounds) if value <= bound), len(bounds))


@pytest.mark.parametrize("name", ["age", "visits", "dose", "big"])
def test_every_value_stands_in_the_bucket_that_holds_it(profile, columns, name):
    record = next(r for r in profile["features"] if r["name"] == name)
    edges = record["edges"]
    one_ulp = [math.nextafter(float(e), math.copysign(math.inf, s)) for e in edges for s in (-1, 1)]
    whole = columns[name].dtype.kind == "i"
    seen = np.array([*edges, *(columns[name][:50].tolist()), edges[0] - 5, edges[-1] + 5, *([] if whole else one_ulp)])
    seen = seen.astype(columns[name].dtype)
    (bounds, counts) = values_of(window_of(profile, {name: seen}), profile)[
        "edgeml.model.feature.value", (("edgeml.feature.name", name),)
    ]
    expected = [0] * len(counts)
    for value in seen.tolist():
        expected[_in_bucket(bounds, value)] += 1
    if name == "big":  # bounds are float64, which has not all of these integers
        assert sum(counts) == len(seen)
        assert len(counts) < len(edges) + 1
    else:
        assert list(counts) == expected
        assert len(counts) == len(edges) + 1


def test_states_of_numbers(profile):
    seen = np.array([np.nan, np.nan, np.inf, *[-np.inf] * 3, -1e9, 1e9, 1e9, *[40.0, 41.0] * 2])
    values = values_of(window_of(profile, {"age": seen}), profile)
    states = {dict(a)["edgeml.value.state"]: v for (n, a), v in values.items() if n == "edgeml.model.feature.count"}
    assert states == {"missing": 2, "+inf": 1, "-inf": 3, "below": 1, "above": 2, "in_range": 4}


def test_a_feature_that_the_sample_had_no_number_of(profile):
    values = values_of(window_of(profile, {"empty": np.array([1.0, 2.0, np.nan])}), profile)
    name = ("edgeml.feature.name", "empty")
    assert values["edgeml.model.feature.value", (name,)] == ((), (2,))
    assert values["edgeml.model.feature.count", (name, ("edgeml.value.state", "above"))] == 2


def test_categories_by_name_and_the_rest_by_state(profile):
    seen = {"town": ["Bern", "Bern", "other", "Oslo", None], "late": [True, False, True]}
    window = window_of(profile, {n: np.array(v, dtype=object if n == "town" else bool) for n, v in seen.items()})
    values = values_of(window, profile)
    found = {}
    for (name, attributes), value in values.items():
        if name == "edgeml.model.feature.count":
            a = dict(attributes)
            found[a["edgeml.feature.name"], a["edgeml.value.state"], a.get("edgeml.value.category")] = value
    assert found == {
        ("town", "named", "Bern"): 2,
        ("town", "named", "other"): 1,  # a category of that name, not the state
        ("town", "unseen", None): 1,
        ("town", "missing", None): 1,
        ("late", "named", "True"): 2,
        ("late", "named", "False"): 1,
    }


def test_scores_and_predictions(profile):
    scores = {"predict": np.array([0, 1, 1]), "predict_proba[1]": np.array([0.0, 0.05, 1.0])}
    values = values_of(window_of(profile, {}, scores), profile)
    bounds, counts = values["edgeml.model.score.value", (("edgeml.score.name", "predict_proba[1]"),)]
    assert [_in_bucket(bounds, v) for v in (0.0, 0.05, 1.0)] == [i for i, c in enumerate(counts) if c]
    label = (("edgeml.score.name", "predict"), ("edgeml.value.category", "1"), ("edgeml.value.state", "named"))
    assert values["edgeml.model.score.count", label] == 2


def test_latencies(profile):
    seen = [100, 600, 5_000, 80_000, 80_001, 10**12]
    counts = [0] * LATENCY_BINS
    for nanoseconds in seen:
        counts[latency_bin(nanoseconds)] += 1
    window = window_of(profile, {}, latency={"one": sparse(counts), "batch": []})
    points = points_of([reading_of(window, profile, resource_of(window, device=None, stream=None))])
    histograms = {key: p for key, p in points.items() if key[0] == "edgeml.model.call.duration"}
    (point,) = histograms.values()
    bounds, found = point[-1]
    assert list(bounds) == latency_edges()
    assert list(found) == counts
    assert metric("edgeml.model.call.duration").unit == "s"
    for nanoseconds in seen:
        assert found[_in_bucket(bounds, nanoseconds / 1e9)]


def test_figures_of_the_device(profile):
    system = {"cpu_percent": 50.0, "rss_bytes": 2**20, "temperature_celsius": None, "fan_rpm": 900}
    points = points_of([reading_of(window_of(profile, {}, system=system), profile, ())])
    gauges = {name: (point[0], point[-1]) for (name, _), point in points.items() if point[0] == "gauge"}
    assert gauges == {
        "edgeml.process.cpu.utilization": ("gauge", 0.5),
        "edgeml.process.memory.rss": ("gauge", 2**20),
        "edgeml.system.fan_rpm": ("gauge", 900.0),
    }


def test_the_recorders_figures_have_names(tmp_path):
    assert set(SYSTEM) == set(SystemFigures(str(tmp_path)).read())


def test_feedback_of_a_classifier(profile):
    confusion = {"no": {"no": 5, "yes": 1}, "yes": {"yes": 2}}
    feedback = {"rows": 8, "correct": 7, "unmatched": 3, "confusion": confusion}
    values = values_of(window_of(profile, {}, feedback=feedback), profile)
    prefix = "edgeml.model.feedback."
    assert values[prefix + "rows", (("edgeml.feedback.outcome", "correct"),)] == 7
    assert values[prefix + "rows", (("edgeml.feedback.outcome", "incorrect"),)] == 1
    assert values[prefix + "unmatched", ()] == 3
    cells = {a: v for (n, a), v in values.items() if n == prefix + "confusion"}
    of_labels = [(t, p, n) for t, row in confusion.items() for p, n in row.items()]
    assert cells == {(("edgeml.label.predicted", p), ("edgeml.label.true", t)): n for t, p, n in of_labels}


def test_feedback_of_a_regressor(profile):
    sums = {"error": -1.5, "absolute_error": 2.5, "squared_error": 4.0, "y": -9.0, "y_squared": 30.0}
    window = window_of(profile, {}, feedback={"rows": 4, "unmatched": 0, **sums})
    points = points_of([reading_of(window, profile, ())])
    for name, value in sums.items():
        kind, _, monotonic, _, found = points[f"edgeml.model.feedback.{name}", ()]
        assert (kind, found) == ("sum", value)
        assert monotonic == (name not in ("error", "y"))
    assert ("edgeml.model.feedback.unmatched", ()) not in points


def test_losses_are_counted_with_their_reason():
    figures = Figures()
    lost(figures, "window", "the spool is full", 3, 500)
    lost(figures, "window", "the spool is full", 1, 20)
    points = points_of([Reading((), 1.0, 2.0, figures)])
    why = (("edgeml.item.kind", "window"), ("edgeml.loss.reason", "the spool is full"))
    assert points["edgeml.telemetry.lost.items", why][-1] == 4
    assert points["edgeml.telemetry.lost.rows", why][-1] == 520


def test_resource_and_times(profile):
    window = window_of(profile, {})
    resource = resource_of(window, device=DEVICE, stream=STREAM, more={"service.name": "pump", "site": "Bern"})
    request = to_request([reading_of(window, profile, resource)])
    (key, *_) = read(request)
    assert dict(key[0]) == {
        "service.name": "pump",
        "site": "Bern",
        "service.instance.id": "abababab-abab-abab-abab-abababababab",
        "device.id": DEVICE,
        "telemetry.sdk.name": "edgeml",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": dict(resource)["telemetry.sdk.version"],
        "edgeml.model.name": "churn",
        "edgeml.model.version": 3,
        "edgeml.model.manifest_sha256": "0" * 64,
        "process.pid": 77,
    }
    for _, temporality, _, point, _ in read(request).values():
        assert temporality == "delta"
        assert (point.start_time_unix_nano, point.time_unix_nano) == (1_699_999_940 * 10**9, 1_700_000_000 * 10**9)


def test_a_clock_before_1970_is_sent_as_0(profile):
    window = window_of(profile, {}, wall=5.0)
    (point, *_) = [p[3] for p in points_of([reading_of(window, profile, ())]).values()]
    assert (point.start_time_unix_nano, point.time_unix_nano) == (0, 5 * 10**9)


def test_windows_of_one_stream_share_a_resource(profile):
    windows = [window_of(profile, {}, wall=1e9 + 60 * i, rows=i + 1) for i in range(3)]
    readings = [reading_of(w, profile, resource_of(w, device=None, stream=STREAM)) for w in windows]
    request = to_request([readings[2], readings[0], readings[1]])
    assert len(request.resource_metrics) == 1
    rows = next(m for m in request.resource_metrics[0].scope_metrics[0].metrics if m.name == "edgeml.model.rows")
    assert [p.as_int for p in rows.sum.data_points] == [1, 2, 3]  # in the order of time


def test_cumulative_sums_add_up_and_keep_their_start(profile):
    totals, resource = Cumulative(), (("service.name", "x"),)
    age = np.array([1.0, 40.0, np.nan])
    windows = [window_of(profile, {"age": age}, wall=1e9 + 60 * i, rows=10, errors={"E": i}) for i in range(4)]
    order = [0, 2, 1, 3]  # the second comes late
    before = 0
    for count, i in enumerate(order, 1):
        readings = totals.add([reading_of(windows[i], profile, resource)])
        points = points_of(readings, "cumulative")
        kind, temporality, monotonic, point, value = points["edgeml.model.rows", ()]
        assert (kind, temporality, monotonic, value) == ("sum", "cumulative", True, 10 * count)
        assert point.start_time_unix_nano == (10**9 - 60) * 10**9
        assert point.time_unix_nano > before  # also for the one that came late
        before = point.time_unix_nano
        missing = (("edgeml.feature.name", "age"), ("edgeml.value.state", "missing"))
        assert points["edgeml.model.feature.count", missing][-1] == count
        _, counts = points["edgeml.model.feature.value", (("edgeml.feature.name", "age"),)][-1]
        assert sum(counts) == 2 * count
    assert points["edgeml.model.errors", (("error.type", "E"),)][-1] == 6


def test_adding_leaves_the_windows_figures_alone():
    first, second = (Reading((), i, i + 1, Figures(histograms={("h", ()): Histogram((1.0,), [1, 2])})) for i in (0, 1))
    Cumulative().add([first, second])
    assert first.figures.histograms["h", ()].counts == [1, 2]


def test_totals_of_ended_streams_are_let_go():
    totals = Cumulative(forget_after=100, limit=3)
    for i in range(50):
        figures = Figures()
        figures.add("edgeml.model.rows", 1)
        totals.add([Reading((("stream", str(i)),), 10.0 * i, 10.0 * i + 1, figures)])
    assert len(totals._totals) <= 3


def test_other_bins_of_one_name_are_not_added():
    figures = Figures()
    figures.add_histogram("h", Histogram((1.0,), [1, 2]))
    figures.add_histogram("h", Histogram((2.0,), [5, 6]))
    assert figures.histograms["h", ()] == Histogram((2.0,), [5, 6])


def test_a_model_without_a_profile():
    window = json.loads(json.dumps({
        "rows": 2, "calls": {"one": 2, "batch": 0}, "latency": {"one": [], "batch": []}, "features": [], "scores": [],
        "errors": {}, "system": {}, "feedback": None,
    }))  # fmt: skip
    figures = figures_of(window, None)
    assert figures.sums["edgeml.model.rows", ()] == 2


def test_every_name_is_described():
    assert all(m.unit and m.description for m in METRICS.values())
    assert all(metric(g.name).kind == "gauge" and metric(g.name).unit == g.unit for g in SYSTEM.values())


def test_states_are_all_slots_of_a_profile(profile):
    """Every slot that ``slot_names`` knows is counted in one point at least."""
    for position, record in enumerate(profile["features"]):
        for slot, name in enumerate(slot_names(record)):
            features = [[] for _ in profile["features"]]
            features[position] = [slot, 7]
            figures = figures_of(window_of(profile, {}) | {"features": features}, profile)
            counted = [v for (n, _), v in figures.sums.items() if n == "edgeml.model.feature.count"]
            assert counted == [7], (record["name"], name)
