"""The form of batches: what is written comes back, equal arguments are equal bytes, hostile bytes give WireError."""

import gzip
import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml.errors import WireError
from edgeml.jsonutil import dumps
from edgeml.telemetry import wire
from edgeml.telemetry.items import KINDS, Item, Loss
from tests.hostile_json import HOSTILE, places, replaced, values

HEADER = wire.Header("a" * 32, "b" * 32, 3, "c" * 64, "d" * 64, "the spool was damaged")
ITEMS = (Item("a" * 32, 0, "window", dumps({"ü": [1, 2.5, None]}), 7), Item("a" * 32, 9, "rows", dumps("x"), 0))
LOSSES = (Loss("b" * 32, 2, 5, "window", "the disk was full", 40),)
PROFILES = {"e" * 64: dumps({"features": []}), "0" * 64: dumps([])}

ids = st.text("0123456789abcdef", min_size=32, max_size=32)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
numbers = st.integers(0, 2**53 - 1)
reasons = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=200)
items = st.builds(Item, ids, numbers, st.sampled_from(KINDS), values.map(dumps), numbers)
losses = st.builds(
    lambda stream, a, b, kind, reason, rows: Loss(stream, min(a, b), max(a, b), kind, reason, rows),
    ids, numbers, numbers, st.sampled_from(KINDS), reasons, numbers,
)  # fmt: skip


@given(st.lists(items, max_size=5, unique_by=lambda i: (i.stream, i.sequence)), st.lists(losses, max_size=5),
       st.dictionaries(digests, values.map(dumps), max_size=4))  # fmt: skip
def test_a_body_comes_back_as_it_was(items, losses, profiles):
    data = wire.body_bytes(items, losses, profiles)
    body = wire.read_body(data)
    assert body.items == tuple(items)
    assert body.losses == tuple(losses)
    assert [dumps(p) for p in body.payloads] == [i.payload for i in items]
    assert {sha: dumps(p) for sha, p in body.profiles.items()} == profiles
    assert wire.decompress(wire.compress(data)) == data
    assert wire.body_bytes(body.items, body.losses, {s: dumps(p) for s, p in body.profiles.items()}) == data


def test_order_of_profiles_does_not_matter():
    turned = dict(reversed(PROFILES.items()))
    assert wire.body_bytes(ITEMS, LOSSES, PROFILES) == wire.body_bytes(ITEMS, LOSSES, turned)


@given(ids, ids, numbers, digests, digests, reasons | st.just(""))
def test_a_header_comes_back_as_it_was(device, chain, number, previous, body, restarted):
    header = wire.Header(device, chain, number, previous, body, restarted)
    assert wire.read_header(header.to_bytes()) == header
    assert len(wire.encode(header.to_bytes())) < 4096


@given(st.text("0123456789abcdef-", min_size=1, max_size=64), st.floats(0, 9e10), st.floats(-9e10, 9e10))
def test_clocks_come_back_as_they_were(boot_id, monotonic, wall):
    text = wire.Sent(boot_id, monotonic, wall).to_text()
    read = wire.read_sent(text)
    assert read.to_text() == text
    assert abs(read.monotonic - monotonic) <= 1e-3 + monotonic * 1e-15


@given(st.binary(max_size=300))
def test_base64_comes_back_and_has_one_form(data):
    text = wire.encode(data)
    assert wire.decode(text, "it") == data
    for other in (text + "=", text + "\n", " " + text):
        with pytest.raises(WireError):
            wire.decode(other, "it")


@pytest.mark.parametrize("text", ["AB", "A", "+/+/", "é", "A" * 5000, "AA==", "AA\nAA"])
def test_what_is_no_base64_of_ours(text):
    with pytest.raises(WireError, match="it"):
        wire.decode(text, "it")


@given(st.binary(max_size=400))
def test_random_bytes_are_refused_by_name(data):
    for read in (wire.read_header, wire.read_body, wire.decompress):
        with pytest.raises(WireError):
            read(data)
    with pytest.raises(WireError):
        wire.read_sent(data.decode("latin-1"))


HEADER_FIELDS = json.loads(HEADER.to_bytes())
BODY_FIELDS = json.loads(wire.body_bytes(ITEMS, LOSSES, PROFILES))


@settings(max_examples=400)
@given(st.sampled_from(list(places(HEADER_FIELDS))), HOSTILE | values)
def test_a_header_with_one_hostile_value(path, value):
    data = dumps(replaced(HEADER_FIELDS, path, value))
    try:
        header = wire.read_header(data)
    except WireError:
        return
    assert header.to_bytes() == data
    assert asdict(header).items() >= {"chain": header.chain}.items()


@settings(max_examples=600)
@given(st.sampled_from(list(places(BODY_FIELDS))), HOSTILE | values)
def test_a_body_with_one_hostile_value(path, value):
    try:
        body = wire.read_body(dumps(replaced(BODY_FIELDS, path, value)))
    except WireError:
        return
    for item in body.items:
        assert len(item.stream) == 32
        assert item.kind in KINDS
        assert 0 <= item.sequence < 2**53
        assert 0 <= item.rows < 2**53
    for loss in body.losses:
        assert 0 <= loss.first <= loss.last < 2**53
        assert loss.reason.isprintable()
        assert 0 < len(loss.reason) <= wire.MAX_REASON


@pytest.mark.parametrize(
    "change",
    [{"device": "A" * 32}, {"device": "a" * 31}, {"chain": 5}, {"number": -1}, {"number": True}, {"number": 2**53},
     {"number": 1.0}, {"previous": "c" * 63}, {"body_sha256": None}, {"restarted": "x" * 201}, {"restarted": "a\nb"},
     {"restarted": None}],
)  # fmt: skip
def test_every_field_of_a_header_is_checked(change):
    with pytest.raises(WireError, match=next(iter(change))):
        wire.read_header(replace(HEADER, **change).to_bytes())


@pytest.mark.parametrize(
    "data",
    [HEADER.to_bytes()[:-1], HEADER.to_bytes() + b"\n", b" " + HEADER.to_bytes(), b"", b"[]", b"null", b"\xff\xfe{}",
     HEADER.to_bytes().replace(b'"batch_version":1', b'"batch_version":1.0'),
     HEADER.to_bytes().replace(b'"batch_version":1', b'"batch_version":true'),
     HEADER.to_bytes().replace(b'"batch_version":1', b'"batch_version":2'),
     HEADER.to_bytes().replace(b'"number":3', b'"number":3,"more":1'),
     HEADER.to_bytes().replace(b'"number":3', b'"number":3,"number":3'),
     HEADER.to_bytes().replace(b'"number":3,', b""),
     b'{"restarted":"' + b"x" * 3000 + b'"}'],
)  # fmt: skip
def test_a_header_has_one_form(data):
    with pytest.raises(WireError, match="batch header"):
        wire.read_header(data)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a 1.000", "a 1.000 2.000 3.000", "a nan 1.000", "a inf 1.000", "a -1.000 1.000", "a 1.000 nan",
     "a 1.000 -inf", "a 1.000 1e300", "a 100000000000.000 1.000", "a 1.0 1.000", "a 1_0.000 1.000", " 1.000 1.000",
     "a  1.000 1.000", "a 1.000 1.000\n", "\x1b[2J 1.000 1.000", "é 1.000 1.000", "b" * 65 + " 1.000 1.000",
     "a " + "9" * 100_000 + ".000 1.000", "a ١.000 1.000"],
)  # fmt: skip
def test_clocks_that_are_none(text):
    with pytest.raises(WireError, match=wire.SENT):
        wire.read_sent(text)


def test_decompression_is_bounded_and_takes_all():
    good = wire.compress(b"x" * wire.MAX_BODY_BYTES)
    assert len(wire.decompress(good)) == wire.MAX_BODY_BYTES
    refused = {
        "when decompressed": gzip.compress(b"\0" * (200 * 2**20), compresslevel=1),
        "at most": b"\0" * (wire.MAX_COMPRESSED_BYTES + 1),
        "cut short": good[:-1],
        "bytes follow": good + b"\0",
        "cut short, or": good + good,
        "not gzip": b"plain",
    }
    for words, data in refused.items():
        with pytest.raises(WireError, match=words):
            wire.decompress(data)
    broken = bytearray(good)
    broken[-6] ^= 1  # the checksum
    with pytest.raises(WireError, match="not gzip"):
        wire.decompress(bytes(broken))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"items": [["a" * 32, n, "window", 0, 0] for n in range(wire.MAX_ITEMS + 1)]}, "items"),
        ({"losses": [["a" * 32, 0, 0, "window", "r", 0]] * (wire.MAX_LOSSES + 1)}, "losses"),
        ({"profiles": {f"{n:064x}": 0 for n in range(wire.MAX_PROFILES + 1)}}, "profiles"),
        ({"profiles": {"x": 0}}, "SHA-256"),
        ({"items": [["a" * 32, 0, "window", 0, 0]] * 2}, "twice"),
        ({"items": [["a" * 32, 0, "gossip", 0, 0]]}, "kind"),
        ({"items": [["a" * 32, 0, "window", 0]]}, "not \\[stream"),
        ({"losses": [["a" * 32, 4, 3, "window", "r", 0]]}, "before it begins"),
        ({"losses": [["a" * 32, 0, 0, "window", "", 0]]}, "reason"),
        ({"losses": [["a" * 32, 0, 0, "window", "r\x1b[2J", 0]]}, "reason"),
        ({"more": 1}, "items, losses, profiles"),
    ],
)
def test_limits_of_a_body(fields, words):
    with pytest.raises(WireError, match=words):
        wire.read_body(dumps({"items": [], "losses": [], "profiles": {}} | fields))


def test_a_body_is_bounded_before_it_is_read():
    deep = b'{"items":' + b"[" * 100 + b"]" * 100 + b',"losses":[],"profiles":{}}'
    for data in (b" " * (wire.MAX_BODY_BYTES + 1), deep, b'{"items":[' + b"9" * 5000 + b"]}", b'{"items":NaN}'):
        with pytest.raises(WireError):
            wire.read_body(data)


def test_what_is_signed_tells_purposes_apart():
    header = HEADER.to_bytes()
    assert wire.signed_bytes(header, "a 1.000 2.000") == b"edgeml-batch\n" + header + b"a 1.000 2.000\n"
    assert wire.enrolment_bytes("t").startswith(b"edgeml-enrol\n")
    assert b"secret" not in wire.enrolment_bytes("secret")
