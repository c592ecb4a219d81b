"""What the monitor exports is what it counted: every window once, late ones too, over restarts and refusals."""

import json
import time

import pytest

from edgeml.fleet import tables
from edgeml.fleet.otlp_export import NAME, OtlpExport, start_otlp
from edgeml.telemetry.otlp_settings import settings
from tests.fleet_tools import T0, fleet, profile, window
from tests.otlp_receiver import Receiver, collector, rotel
from tests.waiting import PATIENCE

NOW = T0 + 5000


def exporter(some, receiver, **options):
    return OtlpExport(
        some.store, settings(receiver if isinstance(receiver, str) else receiver.url, environment={}, **options)
    )


def once(some, receiver, now, **options):
    """One round of a server that starts, exports and stops."""
    export = exporter(some, receiver, **options)
    try:
        wait = export.export(now)
    finally:
        export._release()
        export.stop()
    return wait


def send(some, sender, *windows):
    reply = some.send(sender, sender.items(*windows), profiles={profile()["sha256"]: profile()})
    assert {result for result, _ in reply.body["results"]} == {"accepted"}


def test_what_grew_since_the_last_time_is_exported_once(database):
    with fleet(database) as some, Receiver() as receiver:
        one, two = some.sender(), some.sender("till-8")
        once(some, receiver, NOW)  # there is no window yet: the export begins here
        assert receiver.requests == []
        send(some, one, window(profile(), 10), window(profile(), 5, end=120.0))
        send(some, two, window(profile(), 7))
        once(some, receiver, NOW + 60)
        assert receiver.total("edgeml.model.rows") == 22
        assert receiver.total("edgeml.telemetry.windows") == 3
        assert receiver.total("edgeml.model.calls", edgeml__call__kind="batch") == 3
        assert receiver.total("edgeml.model.errors", error__type="ShapeError") == 3
        for n, end in receiver.values().items():
            if n[0] == "edgeml.model.feature.value":
                assert sum(end[1]) == 22
        once(some, receiver, NOW + 120)  # another process, and nothing new
        assert len(receiver.requests) == 1
        # A day older, and a second feature of the same model: late windows are exported when they come.
        send(some, two, window(profile(), 3, end=60.0, wall=T0 - 90_000))
        once(some, receiver, NOW + 180)
        assert receiver.total("edgeml.model.rows") == 25
        ((start, end),) = {
            (p[3].start_time_unix_nano, p[3].time_unix_nano)
            for key, p in receiver.points.items()
            if p[0] == "sum" and key[3] > (NOW + 120) * 10**9
        }
        assert end == (NOW + 180) * 10**9
        assert start >= (NOW + 60) * 10**9
        resources = {dict(key[0])["edgeml.model.name"] for key in receiver.points}
        assert resources == {"churn"}
        assert all(p[1] in ("delta", None) for p in receiver.points.values())


def test_history_is_not_sent_as_news(database):
    with fleet(database) as some, Receiver() as receiver:
        sender = some.sender()
        send(some, sender, window(profile(), 1000))
        once(some, receiver, NOW)
        assert receiver.requests == []
        send(some, sender, window(profile(), 4, end=120.0))
        once(some, receiver, NOW + 60)
        assert receiver.total("edgeml.model.rows") == 4


def test_what_a_collector_did_not_take_comes_again(database):
    with fleet(database) as some, Receiver([(503, {"Retry-After": "9"}, b""), None]) as receiver:
        sender = some.sender()
        once(some, receiver, NOW)
        for n in range(3):
            send(some, sender, window(profile(), 1, end=60.0 + 60 * n))
            wait = once(some, receiver, NOW + 60 * n)
            assert n > 0 or wait >= 9  # as it asked
        assert receiver.total("edgeml.model.rows") == 3


def test_what_a_collector_refuses_is_dropped_and_said(database, caplog):
    with fleet(database) as some, Receiver([(400, {}, b"bad tenant")]) as receiver:
        sender = some.sender()
        once(some, receiver, NOW)
        send(some, sender, window(profile(), 5))
        export = exporter(some, receiver)
        export.export(NOW + 60)
        assert export.dropped == 1
        assert "bad tenant" in caplog.text
        send(some, sender, window(profile(), 2, end=120.0))
        export.export(NOW + 120)
        export.stop()
        assert receiver.total("edgeml.model.rows") == 2


def test_two_servers_take_turns(database):
    with fleet(database) as some, Receiver() as receiver:
        sender = some.sender()
        first, second = exporter(some, receiver), exporter(some, receiver)
        first.export(NOW)
        send(some, sender, window(profile(), 5))
        second.export(NOW + 1)
        assert receiver.requests == []
        first.export(NOW + 2)
        assert receiver.total("edgeml.model.rows") == 5
        send(some, sender, window(profile(), 6, end=120.0))
        second.export(NOW + 3600)  # the first was not heard of for an hour
        assert receiver.total("edgeml.model.rows") == 11
        first.stop()
        second.stop()


def test_cumulative_totals(database):
    answers = []
    with fleet(database) as some, Receiver(answers) as receiver:
        sender = some.sender()
        export = exporter(some, receiver, temporality="cumulative")
        export.export(NOW)
        seen = []
        for n in range(3):
            send(some, sender, window(profile(), 10, end=60.0 + 60 * n))
            if n == 1:
                receiver.answers.append((503, {}, b""))
            export.export(NOW + 60 * (n + 1))
            points = [p for key, p in receiver.points.items() if key[1] == "edgeml.model.rows"]
            seen.append(sorted(p[-1] for p in points))
        assert seen == [[10], [10], [10, 30]]
        assert len({p[3].start_time_unix_nano for p in points}) == 1
        # Nothing new, but a total that the collector did not take is owed.
        receiver.answers.append((503, {}, b""))
        send(some, sender, window(profile(), 1, end=600.0))
        export.export(NOW + 600)
        export.export(NOW + 660)
        assert max(p[-1] for key, p in receiver.points.items() if key[1] == "edgeml.model.rows") == 31
        count = len(receiver.requests)
        export.export(NOW + 720)
        assert len(receiver.requests) == count  # nothing is new, and nothing is owed
        export.stop()


def test_feedback_and_figures_of_devices(database):
    feedback = {"rows": 4, "correct": 3, "unmatched": 0, "confusion": {"no": {"no": 3, "yes": 1}}}
    with fleet(database) as some, Receiver() as receiver:
        sender = some.sender()
        once(some, receiver, NOW)
        for n, cpu in enumerate((10.0, 30.0, 90.0)):
            more = {"feedback": feedback, "system": {"cpu_percent": cpu}}
            send(some, sender, window(profile(), 10, end=60.0 + 60 * n, **more))
            if n:
                once(some, receiver, NOW + 60 * n)
        assert receiver.total("edgeml.model.feedback.rows", edgeml__feedback__outcome="correct") == 9
        wrong = {"edgeml__label__true": "no", "edgeml__label__predicted": "yes"}
        assert receiver.total("edgeml.model.feedback.confusion", **wrong) == 3
        gauges = sorted((key[3], p[-1]) for key, p in receiver.points.items() if p[0] == "gauge")
        assert [value for _, value in gauges] == pytest.approx([0.2, 0.9])  # means of what was new


def test_models_and_projects_are_resources_of_their_own(database):
    fraud, bare = ({"name": name, "version": 2, "manifest_sha256": "b" * 64} for name in ("fraud", "bare"))
    with fleet(database) as some, Receiver() as receiver:
        sender = some.sender()
        once(some, receiver, NOW)
        send(some, sender, window(profile(), 10), window(profile(), 4, model=fraud), window(None, 3, model=bare))
        with fleet(database, project="2" * 32) as foreign:
            send(foreign, foreign.sender(), window(profile(), 100))
        once(some, receiver, NOW + 60)
        found = {}
        for (resource, name, _, _), point in receiver.points.items():
            if name == "edgeml.model.rows":
                known = dict(resource)
                names = ("project.name", "model.name", "model.version")
                found[tuple(known[f"edgeml.{name}"] for name in names)] = point[-1]
        assert found == {
            ("project 1111", "churn", 1): 10,
            ("project 1111", "fraud", 2): 4,
            ("project 1111", "bare", 2): 3,
            ("project 2222", "churn", 1): 100,
        }


def test_copies_of_deleted_days_are_deleted(database):
    with fleet(database) as some, Receiver() as receiver:
        sender = some.sender()
        once(some, receiver, NOW)
        send(some, sender, window(profile(), 5))
        once(some, receiver, NOW + 60)
        assert len(some.rows(tables.exported_days)) == 1
        with some.store.write() as connection:
            connection.execute(tables.rollups.delete())
        once(some, receiver, NOW + 120)
        assert some.rows(tables.exported_days) == []
        assert len(receiver.requests) == 1


def test_the_thread_exports_by_itself_and_gives_its_lease_back(database):
    with fleet(database) as some, Receiver() as receiver:
        sender = some.sender()
        often = {"OTEL_METRIC_EXPORT_INTERVAL": "20"}
        export = start_otlp(some.store, settings(receiver.url, environment=often))
        try:
            deadline = time.monotonic() + PATIENCE
            while not some.rows(tables.exporters):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            send(some, sender, window(profile(), 5))
            receiver.wait(lambda: receiver.total("edgeml.model.rows") == 5)
        finally:
            export.stop()
        (row,) = some.rows(tables.exporters)
        assert (row["name"], row["until"]) == (NAME, 0.0)
        assert not export._thread.is_alive()


@pytest.mark.skipif(rotel() is None, reason="the collector is not installed: pip install rotel")
def test_a_real_collector_takes_the_monitors_figures(tmp_path):
    with fleet(f"sqlite:///{tmp_path}/m.db") as some, Receiver() as receiver, collector(receiver) as url:
        sender = some.sender()
        once(some, url, NOW)
        send(some, sender, window(profile(), 5), window(profile(), 6, end=120.0))
        once(some, url, NOW + 60)
        receiver.wait(lambda: receiver.total("edgeml.model.rows") == 11)
        json.dumps([key[1] for key in receiver.points])
