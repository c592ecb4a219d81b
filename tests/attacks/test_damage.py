"""Damage by chance: every byte of a bundle is covered by some check, wherever it is hit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.attacks.tools import COMMON, GOOD_SIGNATURE, refused, signed

WHOLE = signed(GOOD_SIGNATURE)


def test_the_damaged_bundle_was_whole(tmp_path):
    assert not refused(tmp_path, WHOLE)


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80, 0xFF])
def test_every_byte_flipped(tmp_path, mask):
    accepted = []
    for i in range(len(WHOLE)):
        damaged = bytearray(WHOLE)
        damaged[i] ^= mask
        if not refused(tmp_path, bytes(damaged)):
            accepted.append(i)
    assert accepted == []


def test_cut_at_every_byte(tmp_path):
    assert [n for n in range(len(WHOLE)) if not refused(tmp_path, WHOLE[:n])] == []


def test_beginning_lost_at_every_byte(tmp_path):
    assert [n for n in range(1, len(WHOLE)) if not refused(tmp_path, WHOLE[n:])] == []


def test_a_byte_lost_or_doubled_anywhere(tmp_path):
    for i in range(len(WHOLE)):
        assert refused(tmp_path, WHOLE[:i] + WHOLE[i + 1 :]), i
        assert refused(tmp_path, WHOLE[:i] + WHOLE[i : i + 1] + WHOLE[i:]), i


PLACE = st.integers(0, len(WHOLE))


@COMMON
@given(edits=st.lists(st.tuples(PLACE, PLACE, st.binary(max_size=80)), min_size=1, max_size=4))
def test_random_splices(tmp_path, edits):
    data = WHOLE
    for start, end, new in edits:
        data = data[: min(start, end)] + new + data[max(start, end) :]
    assert refused(tmp_path, data) == (data != WHOLE)


@COMMON
@given(start=PLACE, end=PLACE, to=PLACE)
def test_parts_copied_over_others(tmp_path, start, end, to):
    part = WHOLE[min(start, end) : max(start, end)]
    data = (WHOLE[:to] + part + WHOLE[to + len(part) :])[: len(WHOLE)]
    assert refused(tmp_path, data) == (data != WHOLE)
