"""The spool's keys: nothing readable on the disk, whose key opens what, new keys for old ones, and none at all."""

import base64
import os
import stat

import pytest

from edgeml.errors import SpoolError, SpoolKeyError
from edgeml.jsonutil import dumps
from edgeml.telemetry import spool, vault
from edgeml.telemetry.items import Item, Loss
from edgeml.telemetry.spool import Spool, erase_folder
from tests.spool_tools import STREAM, accept, begin, drain, item, text_of

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture(autouse=True)
def no_key_in_the_environment(monkeypatch):
    monkeypatch.delenv(vault.KEY_VARIABLE, raising=False)


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


SECRETS = {
    "a value": 3.14159265358979,
    "a category": "Vienna, Austria",
    "a label": "will-churn-soon",
    "a model": "credit-risk-model",
    "a column": "income_of_household",
}


def secret_item(number):
    payload = {name: [secret] * 30 for name, secret in SECRETS.items()} | {"number": number}
    return Item(STREAM, number, "window", dumps(payload), 5)


def test_no_byte_on_the_disk_shows_what_was_recorded(tmp_path):
    """Database, log, shared memory and what was set aside, before and after a checkpoint, after begin and eviction."""
    reason = "the column income_of_household of credit-risk-model held Vienna, Austria"
    seen = {}
    with Spool(tmp_path, max_bytes=2**19) as opened:
        for number in range(60):
            opened.append(
                [secret_item(number)], [Loss(STREAM, 1000 + 2 * number, 1000 + 2 * number, "window", reason, 1)]
            )
        opened.put_profile("a" * 64, dumps(SECRETS))
        batch = begin(opened, max_items=5, profiles=["a" * 64])
        opened.settle(batch, [("refused", reason)] * len(batch.items))
        begin(opened)
        opened.restart_chain(reason)
        opened.refuse(STREAM, 3, reason)
        begin(opened)
        seen["before"] = bytes_of(tmp_path)
        opened._file.empty_log()
        seen["after"] = bytes_of(tmp_path)
        for number in range(60, 600):
            opened.append([secret_item(number)])
        seen["evicted"] = bytes_of(tmp_path)
        assert any("income_of_household" in why for why in opened.stats().refused), "the reason is told to whom asks"
    with (tmp_path / "spool.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with Spool(tmp_path) as opened:
        assert opened.stats().damaged_files
        seen["set aside"] = bytes_of(tmp_path)
    assert {"spool.db", "spool.db-wal", "spool.db-shm", "spool.key", "spool.lock"} <= seen["before"].keys()
    assert "spool.damaged-1" in seen["set aside"]
    for when, files in seen.items():
        for name, data in files.items():
            for secret in [*SECRETS, *map(str, SECRETS.values())]:
                for encoding in ("utf-8", "utf-16-le"):
                    assert secret.encode(encoding) not in data, f"{secret!r} stands in {name}, {when}"


def test_files_are_the_owners_alone(tmp_path):
    old = os.umask(0)
    try:
        with Spool(tmp_path / "new" / "spool") as opened:
            opened.append([item(0)])
            for path in (tmp_path / "new" / "spool").iterdir():
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert stat.S_IMODE((tmp_path / "new" / "spool").stat().st_mode) == 0o700
    finally:
        os.umask(old)
    (tmp_path / "new" / "spool" / "spool.db").chmod(0o644)
    with Spool(tmp_path / "new" / "spool") as opened:
        opened.append([item(1)])
        assert {stat.S_IMODE(path.stat().st_mode) for path in opened.folder.iterdir()} == {0o600}


# --- where the key comes from -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("source", ["bytes", "file", "raw file", "environment", "function", "own file"])
def test_a_key_from_each_source_opens_what_it_closed(tmp_path, monkeypatch, source):
    path = tmp_path / "key"
    key = {"bytes": KEY, "function": lambda: KEY, "file": path, "raw file": str(path)}.get(source)
    path.write_bytes(KEY if source == "raw file" else base64.urlsafe_b64encode(KEY) + b"\n")
    path.chmod(0o600)
    if source == "environment":
        monkeypatch.setenv(vault.KEY_VARIABLE, str(path))
    notes = []
    for _ in range(2):
        with Spool(tmp_path / "spool", key=key, on_note=notes.append) as opened:
            opened.append([item(0)])
            assert opened.stats().items == 1
    assert (tmp_path / "spool" / "spool.key").exists() == (source == "own file")
    assert notes == []


def test_a_key_file_that_others_can_read_is_said(tmp_path):
    Spool(tmp_path).close()
    (tmp_path / "spool.key").chmod(0o644)
    notes = []
    Spool(tmp_path, on_note=notes.append).close()
    assert len(notes) == 1
    assert "chmod 600" in notes[0]


def broken():
    raise OSError("the TPM is asleep")


BAD_KEYS = {
    "another key": OTHER,
    "too short": b"short",
    "a function that fails": broken,
    "a function that returns no key": lambda: "password",
    "a file that is missing": "/nowhere/key",
    "a folder": "/",
}


@pytest.mark.parametrize("bad", BAD_KEYS.values(), ids=BAD_KEYS)
def test_with_no_key_or_another_one_nothing_is_touched(tmp_path, bad):
    with Spool(tmp_path, key=KEY) as opened:
        opened.append([item(0)])
    before = bytes_of(tmp_path)
    with pytest.raises(SpoolKeyError):
        Spool(tmp_path, key=bad)
    assert bytes_of(tmp_path) == before
    with Spool(tmp_path, key=KEY) as opened:
        assert text_of(begin(opened).items[0]) == text_of(item(0))


def test_without_its_key_a_damaged_spool_is_not_touched_either(tmp_path):
    with Spool(tmp_path, key=KEY) as opened:
        opened.append([item(0)])
    (tmp_path / "spool.db").write_bytes(b"damage" * 1000)
    with pytest.raises(SpoolKeyError):
        Spool(tmp_path, key="/nowhere/key")
    assert (tmp_path / "spool.db").read_bytes() == b"damage" * 1000


@pytest.mark.parametrize("content", [None, b"", b"garbage", base64.urlsafe_b64encode(OTHER)])
def test_an_own_key_file_that_is_gone_or_damaged_is_no_damaged_spool(tmp_path, content):
    with Spool(tmp_path) as opened:
        opened.append([item(0)])
    key = (tmp_path / "spool.key").read_bytes()
    (tmp_path / "spool.key").unlink() if content is None else (tmp_path / "spool.key").write_bytes(content)
    with pytest.raises(SpoolKeyError):
        Spool(tmp_path)
    assert not list(tmp_path.glob("spool.damaged*"))
    (tmp_path / "spool.key").write_bytes(key)
    with Spool(tmp_path) as opened:
        assert opened.stats().items == 1


def test_a_missing_package_is_said_with_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(SpoolError, match=r"pip install 'edgeml-sdk\[agent\]'"):
        Spool(tmp_path)


# --- rotation ---------------------------------------------------------------------------------------------------------
def test_a_new_key_opens_the_spool_and_the_old_one_does_not(tmp_path):
    with Spool(tmp_path, key=KEY) as opened, Spool(tmp_path, key=KEY) as another:
        opened.append([item(0)])
        opened.rotate(OTHER)
        opened.append([item(1)])
        another.append([item(2)])  # it is open: it needs no key
    with pytest.raises(SpoolKeyError):
        Spool(tmp_path, key=KEY)
    with Spool(tmp_path, key=OTHER) as opened:
        assert opened.stats().items == 3


def test_the_old_wrapping_is_gone_from_the_files(tmp_path):
    with Spool(tmp_path) as opened:
        opened.append([item(0)])
        (old,) = opened._file.run(lambda rows: rows.sql("SELECT wrapped FROM keys").fetchone(), write=False)
        assert any(old in data for data in bytes_of(tmp_path).values())
        old_file = (tmp_path / "spool.key").read_bytes()
        opened.rotate()
        assert not any(old in data for data in bytes_of(tmp_path).values())
        assert (tmp_path / "spool.key").read_bytes() != old_file
    with Spool(tmp_path) as opened:
        assert opened.stats().items == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["spool.db", "spool.key", "spool.lock"]


def test_from_its_own_file_to_a_given_key_and_back(tmp_path):
    with Spool(tmp_path) as opened:
        opened.append([item(0)])
        opened.rotate(KEY)
    with Spool(tmp_path, key=KEY) as opened:
        with pytest.raises(SpoolKeyError, match="in no file"):
            opened.rotate()
        with pytest.raises(SpoolKeyError):
            opened.rotate(b"short")
        with pytest.raises(SpoolKeyError):
            opened.rotate(tmp_path / "missing")
        vault.write_key(tmp_path / "new.key")
        opened.rotate(tmp_path / "new.key")
    with Spool(tmp_path, key=tmp_path / "new.key") as opened:
        assert opened.stats().items == 1


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("step", range(12))
def test_a_rotation_that_stops_at_any_step_leaves_a_spool_that_opens(tmp_path, monkeypatch, step):
    with Spool(tmp_path) as opened:
        opened.append([item(0)])
    left = [step]

    def stopping(call):
        def stopped(*values, **options):
            if left[0] == 0:
                raise Stopped
            left[0] -= 1
            return call(*values, **options)

        return stopped

    opened = Spool(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stopping(os.replace))
        patch.setattr(os, "fsync", stopping(os.fsync))
        patch.setattr(spool.SpoolFile, "run", stopping(spool.SpoolFile.run))
        patch.setattr(spool.SpoolFile, "empty_log", stopping(spool.SpoolFile.empty_log))
        try:
            opened.rotate()
        except Stopped:
            assert left == [0]
        else:
            assert step > 6, "the rotation has at least so many steps"
    opened.close()
    with Spool(tmp_path) as again:
        assert again.stats().items == 1
        again.rotate()
    with Spool(tmp_path) as again:
        assert list(drain(again)[0].values()) == [item(0)]


# --- erasing ----------------------------------------------------------------------------------------------------------
def test_what_was_erased_cannot_be_opened_with_anything_that_is_left(tmp_path):
    with Spool(tmp_path) as opened:
        opened.append([item(n) for n in range(20)])
        accept(opened, begin(opened, max_items=3))
        chain = opened.stats().chain
        stored = opened._file.run(
            lambda rows: [*rows.sql("SELECT sealed FROM items"), *rows.sql("SELECT wrapped FROM keys")], write=False
        )
        before = {name: data for name, data in bytes_of(tmp_path).items() if name == "spool.key"}
        opened.erase()
        left = b"".join(bytes_of(tmp_path).values())
        assert not any(one in left for (one,) in stored)
        assert before["spool.key"] not in left
        opened.append([item(99)])
        batch = begin(opened)
        assert b"spool erased" in batch.header
        assert (batch.number, batch.chain != chain) == (0, True)
        assert [one.sequence for one in batch.items] == [99]


def test_erasing_takes_what_was_set_aside_along(tmp_path):
    with Spool(tmp_path, key=KEY) as opened:
        opened.append([item(0)])
    (tmp_path / "spool.db").write_bytes(b"damage" * 1000)
    with Spool(tmp_path, key=KEY) as opened, Spool(tmp_path, key=KEY) as another:
        assert opened.stats().damaged_files == ("spool.damaged-1",)
        opened.erase()
        assert opened.stats().damaged_files == ()
        another.append([item(5)])  # goes on in the new database
        assert opened.stats().items == 1


def test_a_spool_whose_key_is_lost_can_be_erased(tmp_path):
    with Spool(tmp_path, key=KEY) as opened:
        opened.append([item(0)])
    erase_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["spool.lock"]
    with Spool(tmp_path, key=OTHER) as opened:
        assert opened.stats().items == 0
    with pytest.raises(SpoolError):
        erase_folder(tmp_path / "nowhere")
