"""The monitor's fast way through JSON reads what ``jsonutil`` reads, refuses what it refuses, with the same words."""

import json
import random

import numpy as np
import pytest

from edgeml import jsonutil
from edgeml.errors import JSONError
from edgeml.fleet import fast_json
from edgeml.fleet.simulate_windows import built_in_model, templates

ATOMS = [
    '1', '-1', '0', '-0', '01', '1.5', '.5', '5.', '1e5', '1E400', '-1e999', '1e', '1.7976931348623157e308', '1e-05',
    '12345678901234567890', '18446744073709551616', '123456789012345678901', '99999999999999999999.5', '0.' + '1' * 70,
    'NaN', 'Infinity', '-Infinity', 'null', 'true', 'tru', '"a"', '"[{"', '"\\""', '"\\\\"', '"é"', '"\\u00e9"',
    '"\\ud800"', '"\\ud83d\\ude00"', '[', ']', '{', '}', ',', ':', '"k":', '{"a":1,"a":2}', '{"a":1,"b":2}',
    '{"b":2,"a":1}', '{"a":[1,2]}', '[1,2.5,[3]]', ' ', '\n', '"', '\\', '\ufeff',
]  # fmt: skip


def outcome(loads, data):
    try:
        # Values that are equal but not the same: 1 and 1.0, 0.0 and -0.0.
        return repr(loads(data, "x", limit=500))
    except JSONError as error:
        return type(error).__name__, error.cause


def test_the_same_as_the_slow_way():
    rng = random.Random(0)
    read = 0
    for _ in range(60_000):
        text = "".join(rng.choice(ATOMS) for _ in range(rng.randint(1, 6)))
        if rng.random() < 0.5:
            text = "[" + ",".join(rng.choice(ATOMS) for _ in range(rng.randint(0, 5))) + "]"
        if rng.random() < 0.02:
            text = "[" * rng.randint(28, 40) + text + "]" * rng.randint(28, 40)
        data = (text + "\n" * (rng.random() < 0.8)).encode("utf-8", "surrogatepass")
        expected = outcome(jsonutil.loads, data)
        assert outcome(fast_json.loads, data) == expected, data
        read += isinstance(expected, str)
    assert read > 5000


@pytest.mark.parametrize("data", [b"\xff", b'"\xed\xa0\x80"', b"", b"[" * 100_000, b'{"a":' * 40 + b"1" + b"}" * 40])
def test_bytes_that_are_no_json(data):
    assert outcome(fast_json.loads, data) == outcome(jsonutil.loads, data)
    assert isinstance(outcome(fast_json.loads, data), tuple)


def test_a_window_takes_the_fast_way(monkeypatch):
    model = built_in_model("fast")
    (template,) = templates(model, np.random.default_rng(0), 1)
    payload = template.fill(start=1.5, end=61.25, wall=1.7e9 + 0.125, pid=1, boot_id="b")
    expected = jsonutil.loads(payload, "x")
    monkeypatch.setattr(jsonutil, "loads", None)
    assert fast_json.loads(payload, "x", limit=10_000) == expected


def test_writing():
    assert fast_json.dumps({"b": 1, "a": [1.5, "é"]}) == '{"a":[1.5,"é"],"b":1}'.encode()
    for value in ({"a": "\ud800"}, {"a": 2**70}):
        assert json.loads(fast_json.dumps(value)) == value
