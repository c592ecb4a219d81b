"""What an answer means for a batch: a table of answers, and that no answer at all raises or settles by mistake."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.telemetry.agent_answers import (
    MAX_PAUSE_SECONDS,
    OUTCOMES,
    Action,
    error_of,
    judge_batch,
    printable,
    read_enrolment,
)
from edgeml.telemetry.transport import Reply
from tests.hostile_json import values


def said(status, code, **more):
    return Reply(status, {"error": code, "cause": "the cause", "remedy": "the remedy", **more}, retry_after=7.0)


def taken(results, **more):
    return Reply(200, {"results": results, "need_profiles": [], "server_time": 1.7e9, "pause": None, **more})


@pytest.mark.parametrize(
    ("reply", "action"),
    [
        (taken([["accepted", ""], ["duplicate", ""]]), Action.SETTLE),
        (taken([["refused", "why"], ["deferred", "profile"]], need_profiles=["a" * 64]), Action.SETTLE),
        (said(400, "malformed"), Action.SPLIT),
        (said(413, "too_large"), Action.SPLIT),
        (said(422, "malformed"), Action.SPLIT),
        (said(401, "unknown_device"), Action.ENROL),
        (said(401, "bad_signature"), Action.LATER),
        (said(403, "device_revoked"), Action.REVOKED),
        (said(409, "chain_conflict", why="forked"), Action.RESTART),
        (said(415, "unsupported"), Action.LATER),
        (said(429, "too_many"), Action.LATER),
        # From here on nobody knows whether the batch was taken.
        (said(403, "forbidden"), Action.AGAIN),
        (said(409, "other"), Action.AGAIN),
        (said(500, "internal"), Action.AGAIN),
        (said(503, "busy"), Action.AGAIN),
        (said(404, "not_found"), Action.AGAIN),
        (said(204, "x"), Action.AGAIN),
        (Reply(0, problem="no network", reached=False), Action.AGAIN),
        (Reply(200, None, "html"), Action.AGAIN),
        (Reply(413, None, "html of a proxy"), Action.AGAIN),
        (Reply(422, {"detail": "another framework's"}), Action.AGAIN),
        (Reply(401, {"error": "unknown_device"}), Action.AGAIN),
        (taken([["accepted", ""]]), Action.AGAIN),
        (taken([["accepted", ""]] * 3), Action.AGAIN),
        (taken([["accepted", ""], ["eaten", ""]]), Action.AGAIN),
        (taken([["accepted", ""], "accepted"]), Action.AGAIN),
        (taken([["accepted", ""], ["accepted", None]]), Action.AGAIN),
        (taken([["accepted", ""], [["accepted"], ""]]), Action.AGAIN),
        (taken([["accepted", ""], ["duplicate", ""]], need_profiles=5), Action.AGAIN),
        (Reply(200, {}), Action.AGAIN),
    ],
)
def test_table_of_answers(reply, action):
    verdict = judge_batch(reply, 2)
    assert verdict.action is action
    assert bool(verdict.problem) == (action is not Action.SETTLE)
    assert verdict.wait == reply.retry_after


def test_words_of_a_server_are_fit_to_show():
    code, problem = error_of(Reply(400, {"error": "x", "cause": "a\x1b[2Jb\n" + "c" * 900, "remedy": 5}))
    assert code == "x"
    assert problem.startswith("a?[2Jb?ccc")
    assert problem.endswith("(400 x)")
    assert len(problem) < 400
    assert printable(None, 5) == ""
    verdict = judge_batch(taken([["refused", "x\x00" + "y" * 900]]), 1)
    assert verdict.results[0][1] == ("x?" + "y" * 900)[:200]
    assert judge_batch(said(409, "chain_conflict", why=["x"]), 1).why == "chain conflict"


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        (None, 0),
        (30, 30),
        (-5, 0),
        (1e300, MAX_PAUSE_SECONDS),
        ("9", 0),
        (float("inf"), MAX_PAUSE_SECONDS),
        (float("nan"), 0),
        (True, 0),
        (10**400, MAX_PAUSE_SECONDS),
    ],
)
def test_a_pause_is_bounded(asked, seconds):
    assert judge_batch(taken([], pause=asked), 0).pause == seconds


@given(st.integers(0, 999), st.none() | st.dictionaries(st.text(max_size=8), values, max_size=6), st.integers(0, 3))
def test_any_answer_has_a_meaning(status, fields, items):
    verdict = judge_batch(Reply(status, fields, "problem" if fields is None else ""), items)
    if verdict.action is Action.SETTLE:
        assert status == 200
        assert len(verdict.results) == items


@given(values, values, values, st.integers(0, 3))
def test_settles_only_with_one_outcome_an_item(results, need, pause, items):
    verdict = judge_batch(Reply(200, {"results": results, "need_profiles": need, "pause": pause}), items)
    if verdict.action is Action.SETTLE:
        assert len(verdict.results) == items
        assert all(outcome in OUTCOMES for outcome, _ in verdict.results)
        assert 0 <= verdict.pause <= MAX_PAUSE_SECONDS


def test_enrolments():
    good = {"device": "a" * 32, "project": "b" * 32}
    assert read_enrolment(Reply(201, good)) == ("a" * 32, "b" * 32)
    assert read_enrolment(Reply(200, good)) == ("a" * 32, "b" * 32)
    for reply in (
        Reply(202, good),
        Reply(200, None),
        Reply(200, good | {"device": "A"}),
        Reply(200, {"device": "a" * 32}),
    ):
        assert read_enrolment(reply) is None
