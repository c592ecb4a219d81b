"""The device's identity: made once and whole, kept as it is, and never replaced in silence when it is damaged."""

import multiprocessing
import os
import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from edgeml.errors import AgentError, IdentityError
from edgeml.telemetry import identity as module
from edgeml.telemetry.identity import Enrolment, Identity
from tests.waiting import PATIENCE

ENROLMENT = Enrolment("a" * 32, "b" * 32, "https://monitor.example.com")


def test_a_key_is_made_once_and_signs(tmp_path):
    folder = tmp_path / "deep" / "identity"
    first = Identity.load_or_create(folder)
    second = Identity.load_or_create(folder)
    assert first.public_key == second.public_key == Identity.load(folder).public_key
    assert first.key_id == second.key_id
    ed25519.Ed25519PublicKey.from_public_bytes(first.public_key).verify(second.sign(b"data"), b"data")
    assert first.enrolment is None
    assert stat.S_IMODE((folder / "device.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert os.listdir(folder) == ["device.key"]
    assert not first.readable_by_others()
    (folder / "device.key").chmod(0o644)
    assert first.readable_by_others()


def test_an_enrolment_is_kept_and_seen_by_other_processes(tmp_path):
    one, other = Identity.load_or_create(tmp_path), Identity.load_or_create(tmp_path)
    one.enrol(ENROLMENT)
    assert Identity.load(tmp_path).enrolment == ENROLMENT
    assert other.enrolment is None
    other.refresh()
    assert other.enrolment == ENROLMENT
    one.enrol(Enrolment("c" * 32, "b" * 32, "https://other.example.com"))
    assert Identity.load(tmp_path).enrolment.device == "c" * 32
    assert sorted(os.listdir(tmp_path)) == ["device.key", "enrolment.json"]
    assert stat.S_IMODE((tmp_path / "enrolment.json").stat().st_mode) == 0o600


def test_everything_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "link", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _n=name, _o=original, **k: (done.append(_n), _o(*a, **k))[1])
    made = Identity.load_or_create(tmp_path)
    assert done == ["fsync", "link", "fsync"]
    done.clear()
    monkeypatch.setattr(
        module.Path, "replace", lambda self, to, _r=os.replace: (_r(self, to), done.append("replaced"))[0]
    )
    made.enrol(ENROLMENT)
    assert [name for name in done if name != "replace"] == ["fsync", "replaced", "fsync"]


@pytest.mark.parametrize("kept", range(0, 119, 7))
def test_a_key_cut_short_is_an_error_and_stays(tmp_path, kept):
    key = tmp_path / "device.key"
    Identity.load_or_create(tmp_path)
    whole = key.read_bytes()
    assert len(whole) == 119
    key.write_bytes(whole[:kept])
    for load in (Identity.load, Identity.load_or_create):
        with pytest.raises(IdentityError, match="cut short or damaged") as caught:
            load(tmp_path)
        assert "restore" in caught.value.remedy
    assert key.read_bytes() == whole[:kept]


def test_keys_of_another_kind_and_files_that_are_none(tmp_path):
    key = tmp_path / "device.key"
    pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for data, words in ((pem, "another kind"), (b"\xff" * 100, "damaged"), (b"x" * 100_000, "too large")):
        key.write_bytes(data)
        with pytest.raises(IdentityError, match=words):
            Identity.load_or_create(tmp_path)
    locked = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    key.write_bytes(locked)
    with pytest.raises(IdentityError):
        Identity.load_or_create(tmp_path)


def test_a_lost_key_of_an_enrolled_device_is_not_replaced(tmp_path):
    Identity.load_or_create(tmp_path).enrol(ENROLMENT)
    (tmp_path / "device.key").unlink()
    with pytest.raises(IdentityError, match="missing"):
        Identity.load_or_create(tmp_path)
    (tmp_path / "device.key").symlink_to(tmp_path / "nowhere")
    with pytest.raises(IdentityError, match="link"):
        Identity.load_or_create(tmp_path)
    assert not (tmp_path / "nowhere").exists()


def test_without_a_key_there_is_nothing_to_load(tmp_path):
    with pytest.raises(IdentityError, match="no device key") as caught:
        Identity.load(tmp_path)
    assert "edgeml agent enrol" in caught.value.remedy


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-20], "cannot be read"),
        (lambda data: b"", "cannot be read"),
        (lambda data: b"[]", "not an enrolment"),
        (lambda data: data.replace(b'"enrolment_version":1', b'"enrolment_version":2'), "not an enrolment"),
        (lambda data: data.replace(b"a" * 32, b"A" * 32), "lacks"),
        (lambda data: data.replace(b"https", b"\\u001bhttps"), "lacks"),
        (lambda data: data.replace(b'"public_key":"', b'"public_key":"x'), "another key"),
    ],
)
def test_a_damaged_enrolment_is_an_error(tmp_path, change, words):
    made = Identity.load_or_create(tmp_path)
    made.enrol(ENROLMENT)
    path = tmp_path / "enrolment.json"
    path.write_bytes(change(path.read_bytes()))
    for load in (lambda: Identity.load_or_create(tmp_path), made.refresh):
        with pytest.raises(IdentityError, match=words) as caught:
            load()
        assert "edgeml agent enrol" in caught.value.remedy


def test_an_enrolment_of_another_key_is_refused(tmp_path):
    Identity.load_or_create(tmp_path / "one").enrol(ENROLMENT)
    Identity.load_or_create(tmp_path / "two")
    (tmp_path / "two" / "enrolment.json").write_bytes((tmp_path / "one" / "enrolment.json").read_bytes())
    with pytest.raises(IdentityError, match="another key"):
        Identity.load(tmp_path / "two")


def test_a_disk_that_takes_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(IdentityError, match="No space left") as caught:
        Identity.load_or_create(tmp_path)
    assert caught.value.remedy
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    Identity.load_or_create(tmp_path)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(IdentityError, match="cannot be"):
        Identity.load_or_create(tmp_path / "file" / "identity")


def test_a_file_system_without_links(tmp_path, monkeypatch):
    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    assert Identity.load_or_create(tmp_path).key_id == Identity.load(tmp_path).key_id
    assert os.listdir(tmp_path) == ["device.key"]


def test_cryptography_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AgentError, match="cryptography") as caught:
        Identity.load_or_create(tmp_path)
    assert "edgeml-sdk[agent]" in caught.value.remedy


def _load(folder, barrier, answers):
    barrier.wait()
    answers.put(Identity.load_or_create(folder).key_id)


def test_processes_that_start_together_get_one_key(tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(6), context.Queue()
    processes = [context.Process(target=_load, args=(tmp_path / "identity", barrier, answers)) for _ in range(6)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=PATIENCE) for _ in processes}
    for process in processes:
        process.join(PATIENCE)
    assert len(found) == 1
    assert os.listdir(tmp_path / "identity") == ["device.key"]


def test_a_destroyed_identity_is_gone(tmp_path):
    made = Identity.load_or_create(tmp_path)
    made.enrol(ENROLMENT)
    module.destroy(tmp_path)
    module.destroy(tmp_path)
    module.destroy(tmp_path / "missing")
    assert os.listdir(tmp_path) == []
    assert Identity.load_or_create(tmp_path).key_id != made.key_id
