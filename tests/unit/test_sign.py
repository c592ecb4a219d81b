"""Keys and signatures: who is trusted, who is not, and what a key file may look like."""

from __future__ import annotations

import base64
import json
import os
import stat
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edgeml import errors
from edgeml.bundle import generate_key, open_bundle, sign, write_bundle
from tests.attacks import forge
from tests.unit.test_bundle import fields


@pytest.fixture(autouse=True)
def no_passphrase(monkeypatch):
    monkeypatch.delenv(sign.PASSPHRASE_VARIABLE, raising=False)


@pytest.fixture
def keys(tmp_path):
    return generate_key(tmp_path / "release.pem")


def signed(folder: Path, key, **changes) -> Path:
    path = folder / "m.edgeml"
    write_bundle(path, fields(**changes), forge.contents(), sign_with=key)
    return path


def test_round_trip(tmp_path, keys):
    private, public = keys
    path = signed(tmp_path, private)
    bundle = open_bundle(path, verify_with=public)
    raw = serialization.load_pem_public_key(public.read_bytes()).public_bytes_raw()
    assert bundle.signed_by == sha256(raw).hexdigest()[:16]
    assert bundle.json("signature.json")["key_id"] == bundle.signed_by
    assert open_bundle(path).signed_by is None


def test_signature_follows_the_format_page(tmp_path, keys):
    bundle = open_bundle(signed(tmp_path, keys[0]))
    value = base64.b64decode(bundle.json("signature.json")["signature"])
    message = b"edgeml bundle manifest, format 1\0" + bytes(bundle.member("manifest.json"))
    serialization.load_pem_public_key(keys[1].read_bytes()).verify(value, message)


def test_equal_bundles_have_equal_signatures(tmp_path, keys):
    first = signed(tmp_path, keys[0]).read_bytes()
    assert signed(tmp_path, keys[0]).read_bytes() == first


def test_forms_of_keys(tmp_path, keys):
    private, public = keys
    key = serialization.load_pem_private_key(private.read_bytes(), None)
    for form in (private, str(private), private.read_bytes(), bytearray(private.read_bytes()), key):
        path = signed(tmp_path, form)
    for form in (
        public,
        str(public),
        public.read_bytes(),
        key.public_key(),
        key.public_key().public_bytes_raw(),
    ):
        assert open_bundle(path, verify_with=form).signed_by
        assert open_bundle(path, verify_with=[form]).signed_by


def test_rotation(tmp_path, keys):
    newer = generate_key(tmp_path / "newer.pem")
    trusted = [newer[1], keys[1]]
    ids = {open_bundle(signed(tmp_path, k[0]), verify_with=trusted).signed_by for k in (keys, newer)}
    assert len(ids) == 2


def test_not_signed(tmp_path, keys):
    path = tmp_path / "m.edgeml"
    write_bundle(path, fields(), forge.contents())
    with pytest.raises(errors.NotSignedError) as caught:
        open_bundle(path, verify_with=keys[1])
    assert "m.edgeml" in caught.value.cause
    assert caught.value.exit_code == 1


def test_signed_by_another(tmp_path, keys):
    other = generate_key(tmp_path / "other.pem")
    path = signed(tmp_path, other[0])
    with pytest.raises(errors.WrongSignatureError) as caught:
        open_bundle(path, verify_with=keys[1])
    assert open_bundle(path, verify_with=other[1]).signed_by in caught.value.cause


def resealed(path: Path, **changes: bytes) -> Path:
    """The bundle with members replaced and every CRC-32 right, as an attacker would write it."""
    bundle = open_bundle(path)
    held = {name: bytes(bundle.member(name)) for name in bundle.names}
    held |= {name.replace("_", "."): data for name, data in changes.items()}
    path.write_bytes(forge.archive(forge.ordered(held)))
    return path


def test_manifest_changed_after_signing(tmp_path, keys):
    path = signed(tmp_path, keys[0])
    changed = forge.to_json(forge.manifest(forge.contents(), version=4))
    resealed(path, manifest_json=changed)
    assert open_bundle(path).manifest["version"] == 4
    with pytest.raises(errors.WrongSignatureError):
        open_bundle(path, verify_with=keys[1])


def test_signature_of_another_bundle(tmp_path, keys):
    (tmp_path / "a").mkdir()
    other = open_bundle(signed(tmp_path / "a", keys[0], version=2))
    path = resealed(signed(tmp_path, keys[0]), signature_json=bytes(other.member("signature.json")))
    with pytest.raises(errors.WrongSignatureError):
        open_bundle(path, verify_with=keys[1])


def test_key_id_is_only_a_hint(tmp_path, keys):
    """An attacker's signature under the trusted key's id."""
    attacker = generate_key(tmp_path / "attacker.pem")
    path = signed(tmp_path, attacker[0])
    trusted = sign.key_id(sign.public_keys(keys[1])[0])
    forged = json.loads(bytes(open_bundle(path).member("signature.json"))) | {"key_id": trusted}
    with pytest.raises(errors.WrongSignatureError):
        open_bundle(resealed(path, signature_json=forge.to_json(forged)), verify_with=keys[1])


def test_signature_for_another_purpose(tmp_path, keys):
    """The key has signed these very bytes, but not as a manifest."""
    path = signed(tmp_path, keys[0])
    key = serialization.load_pem_private_key(keys[0].read_bytes(), None)
    bundle = open_bundle(path)
    value = base64.b64encode(key.sign(bytes(bundle.member("manifest.json")))).decode()
    forged = bundle.json("signature.json") | {"signature": value}
    with pytest.raises(errors.WrongSignatureError):
        open_bundle(resealed(path, signature_json=forge.to_json(forged)), verify_with=keys[1])


def test_untrusted_manifest_is_not_parsed(tmp_path, keys):
    path = resealed(signed(tmp_path, keys[0]), manifest_json=b"not JSON")
    with pytest.raises(errors.WrongSignatureError):
        open_bundle(path, verify_with=keys[1])


# --- key files -------------------------------------------------------------------------------------------


def test_generated_files(tmp_path, keys):
    private, public = keys
    assert (private.name, public.name) == ("release.pem", "release.pem.pub")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert b"PRIVATE" not in public.read_bytes()


@pytest.mark.parametrize("taken", ["release.pem", "release.pem.pub"])
def test_nothing_is_overwritten(tmp_path, taken):
    (tmp_path / taken).write_text("precious")
    with pytest.raises(errors.KeyFileError, match="not overwritten"):
        generate_key(tmp_path / "release.pem")
    assert os.listdir(tmp_path) == [taken]
    assert (tmp_path / taken).read_text() == "precious"


def test_dangling_link_is_not_followed(tmp_path):
    (tmp_path / "release.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(errors.KeyFileError):
        generate_key(tmp_path / "release.pem")
    assert not (tmp_path / "elsewhere").exists()


def test_no_folder(tmp_path):
    with pytest.raises(errors.KeyFileError, match="cannot be written"):
        generate_key(tmp_path / "no" / "release.pem")


def test_passphrase(tmp_path, monkeypatch):
    private, public = generate_key(tmp_path / "k.pem", passphrase="correct horse é")
    assert b"ENCRYPTED" in private.read_bytes()
    with pytest.raises(errors.KeyFileError, match=sign.PASSPHRASE_VARIABLE):
        signed(tmp_path, private)
    monkeypatch.setenv(sign.PASSPHRASE_VARIABLE, "wrong")
    with pytest.raises(errors.KeyFileError, match="another one"):
        signed(tmp_path, private)
    monkeypatch.setenv(sign.PASSPHRASE_VARIABLE, "correct horse é")
    assert open_bundle(signed(tmp_path, private), verify_with=public).signed_by
    assert sign.private_key(private, passphrase=b"correct horse \xc3\xa9")


def test_passphrase_from_the_environment_protects_a_new_key(tmp_path, monkeypatch):
    monkeypatch.setenv(sign.PASSPHRASE_VARIABLE, "secret")
    assert b"ENCRYPTED" in generate_key(tmp_path / "k.pem")[0].read_bytes()


def test_passphrase_for_a_key_without_one(tmp_path, keys, monkeypatch):
    monkeypatch.setenv(sign.PASSPHRASE_VARIABLE, "secret")
    assert signed(tmp_path, keys[0])


PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
OTHER_KIND = ec.generate_private_key(ec.SECP256R1())
OTHER_PRIVATE = OTHER_KIND.private_bytes(PEM, PKCS8, serialization.NoEncryption())
OTHER_PUBLIC = OTHER_KIND.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
PAIR = ed25519.Ed25519PrivateKey.generate()
PRIVATE = PAIR.private_bytes(PEM, PKCS8, serialization.NoEncryption())
PUBLIC = PAIR.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
CUT = PRIVATE[:60]


def repr_of_kind(value):
    """Test names without the bytes of fresh keys: names must be equal in every run."""
    return value if isinstance(value, str) and value.isprintable() else type(value).__name__


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (PUBLIC, "public key"), (OTHER_PRIVATE, "another kind"), (CUT, "cannot be read"),
        (b"", "cannot be read"),
        (b"\0" * 32, "cannot be read"), ("/no/such.pem", "no/such"),
        ("", "cannot be read"), ("a\0b", "cannot be read"),
        (3, "int"), (OTHER_KIND, "cannot be a"), ("/dev/zero", "too large"),
    ],
    ids=repr_of_kind,
)  # fmt: skip
def test_keys_that_cannot_sign(tmp_path, key, message):
    with pytest.raises(errors.KeyFileError, match=message):
        signed(tmp_path, key)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (PRIVATE, "private key"), (OTHER_PUBLIC, "another kind"), (PUBLIC[:60], "not a public key"),
        (b"", "not a public key"), (b"\0" * 31, "not a public key"), ("/no/such.pem", "no/such"),
        ([], "no key"),
        ((), "no key"), ([PUBLIC, PRIVATE], "private key"), (PAIR, "cannot be a"), (False, "bool"),
    ],
    ids=repr_of_kind,
)  # fmt: skip
def test_keys_that_cannot_verify(tmp_path, key, message):
    path = signed(tmp_path, PAIR)
    with pytest.raises(errors.KeyFileError, match=message):
        open_bundle(path, verify_with=key)


def test_package_not_installed(tmp_path, monkeypatch):
    path = signed(tmp_path, PAIR)
    monkeypatch.setattr(sign, "find_spec", lambda name: None)
    for use in (
        lambda: generate_key(tmp_path / "k"),
        lambda: signed(tmp_path, PRIVATE),
        lambda: open_bundle(path, verify_with=PUBLIC),
    ):
        with pytest.raises(errors.SigningNotInstalledError, match=r"edgeml-sdk\[sign\]"):
            use()
    assert open_bundle(path).manifest["name"] == "churn"
