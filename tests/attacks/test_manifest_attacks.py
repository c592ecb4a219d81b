"""Hostile manifests, schemas and signatures, in bundles whose checksums are all right."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml import errors
from edgeml.bundle.sign import read_signature
from edgeml.jsonutil import loads
from tests.attacks.forge import bundle, contents, manifest, sealed, to_json
from tests.attacks.tools import COMMON, DEEP, GOOD_SIGNATURE, JSON, opened, refused, signed


def text(**changes: Any) -> bytes:
    return to_json(manifest(contents(), **changes)).rstrip()


MANIFEST_ATTACKS: list[tuple[str, bytes, type[errors.BundleError]]] = [
    ("empty", b"", errors.JSONError),
    ("not JSON", b"name: churn", errors.JSONError),
    ("not an object", b"[1]", errors.ManifestError),
    ("not UTF-8", text().replace(b"churn", b"\xff\xff"), errors.JSONError),
    ("UTF-16", text().decode().encode("utf-16"), errors.JSONError),
    ("byte-order mark", b"\xef\xbb\xbf" + text(), errors.JSONError),
    ("two values", text() + text(), errors.JSONError),
    ("trailing comma", text()[:-1] + b",}", errors.JSONError),
    ("NaN", text().replace(b'"version":3', b'"version":NaN'), errors.NonFiniteNumberError),
    ("-Infinity", text().replace(b'"version":3', b'"version":-Infinity'), errors.NonFiniteNumberError),
    ("1e999", text().replace(b'"version":3', b'"version":1e999'), errors.NonFiniteNumberError),
    ("a million digits", text().replace(b'"version":3', b'"version":' + b"9" * 10**6), errors.JSONLimitError),
    ("a long fraction", text().replace(b'"version":3', b'"version":0.' + b"9" * 99), errors.JSONLimitError),
    ("deep objects", DEEP, errors.JSONLimitError),
    ("deep arrays", b"[" * 10**6, errors.JSONLimitError),
    ("depth behind strings", b'["[]\\"",' * 40 + b"1" + b"]" * 40, errors.JSONLimitError),
    ("duplicate key", text()[:-1] + b',"version":4}', errors.DuplicateKeyError),
    ("inner duplicate key", text().replace(b'{"numpy":', b'{"a":1,"a":2,"n":'), errors.DuplicateKeyError),
    ("duplicate key, escaped", text()[:-1] + b',"\\u0076ersion":4}', errors.DuplicateKeyError),
    ("5 MB", text()[:-1] + b',"x":"' + b"a" * 5_000_000 + b'"}', errors.MemberSizeError),
    ("newer format", text(format_version=2), errors.BundleVersionError),
    ("newer format, other fields", b'{"format_version":7}', errors.BundleVersionError),
    ("format 0", text(format_version=0), errors.ManifestError),
    ("format true", text(format_version=True), errors.ManifestError),
    ("format 1.0", text(format_version=1.0), errors.ManifestError),
    ("no format", text(format_version=...), errors.ManifestError),
    *((f"no {f}", text(**{f: ...}), errors.ManifestError) for f in manifest({}) if f != "format_version"),
    *((f"{f} is an array of arrays", text(**{f: [[]]}), errors.ManifestError) for f in manifest({})),
    *((f"{f} is -1.5", text(**{f: -1.5}), errors.ManifestError) for f in manifest({})),
    ("version 0", text(version=0), errors.ManifestError),
    ("version 2^53", text(version=2**53), errors.ManifestError),
    ("empty name", text(name=""), errors.ManifestError),
    ("escape sequence in the name", text(name="\x1b[2J"), errors.ManifestError),
    ("half a surrogate pair", text(name="\ud800"), errors.ManifestError),
    ("long name", text(name="x" * 256), errors.ManifestError),
    ("no methods", text(methods={}), errors.ManifestError),
    ("form", text(methods={"predict": {"form": "cube", "dtype": "<i8"}}), errors.ManifestError),
    ("form is a list", text(methods={"predict": {"form": [], "dtype": "<i8"}}), errors.ManifestError),
    ("classes with null", text(classes=[None]), errors.ManifestError),
    ("no classes", text(classes=[]), errors.ManifestError),
    ("257 versions", text(versions={str(i): "1" for i in range(257)}), errors.ManifestError),
    ("hash with capitals", text(profile_sha256="A" * 64), errors.ManifestError),
    ("hash of a profile that is not there", text(profile_sha256="a" * 64), errors.ManifestError),
    ("format both made and missing", text(missing={"native": "why"}), errors.ManifestError),
    ("artifact of no members", text(artifacts={"native": {"members": [], "bytes": 0}}), errors.ManifestError),
    ("artifact size", text(artifacts={"x": {"members": ["schema.json"], "bytes": 1}}), errors.ManifestError),
    ("artifact twice", text(artifacts={"x": {"members": ["a", "a"], "bytes": 1}}), errors.ManifestError),
    ("artifact absent", text(artifacts={"x": {"members": ["a"], "bytes": 1}}), errors.MissingMemberError),
    ("artifact unhashable", text(artifacts={"x": {"members": [[]], "bytes": 1}}), errors.ManifestError),
    ("unlisted member", text(members={}, artifacts={}), errors.UnlistedMemberError),
    ("member sizes", text(members={"schema.json": {"sha256": "0" * 64, "bytes": -1}}), errors.ManifestError),
]  # fmt: skip


@pytest.mark.parametrize(("data", "error"), [a[1:] for a in MANIFEST_ATTACKS], ids=[a[0] for a in MANIFEST_ATTACKS])
def test_manifest(tmp_path, data, error):
    with pytest.raises(errors.BundleError) as caught:
        opened(tmp_path, sealed(data))
    assert type(caught.value) is error, caught.value


def test_member_the_file_does_not_hold(tmp_path):
    listed = contents() | {"model.onnx": b"x"}
    with pytest.raises(errors.MissingMemberError, match=r"model\.onnx"):
        opened(tmp_path, sealed(to_json(manifest(listed))))


def test_member_the_manifest_does_not_list(tmp_path):
    encoded = to_json(manifest(contents()))
    with pytest.raises(errors.UnlistedMemberError, match=r"model\.onnx"):
        opened(tmp_path, sealed(encoded, contents() | {"model.onnx": b"x"}))


def test_sizes_the_manifest_gets_wrong(tmp_path):
    listed = manifest(contents())
    listed["members"]["schema.json"]["bytes"] += 1
    with pytest.raises(errors.MemberSizeError, match=r"schema\.json"):
        opened(tmp_path, sealed(to_json(listed)))


def test_signature_and_manifest_may_not_be_listed(tmp_path):
    listed = manifest(contents())
    listed["members"]["manifest.json"] = {"sha256": "0" * 64, "bytes": 1}
    with pytest.raises(errors.MissingMemberError, match=r"manifest\.json"):
        opened(tmp_path, sealed(to_json(listed)))


@pytest.mark.parametrize("schema", [b"{}", b"[", b'{"form":"columns","columns":[]}', b'{"a":1,"a":1}', DEEP])
def test_schema(tmp_path, schema):
    with pytest.raises(errors.ManifestError, match=r"schema\.json"):
        opened(tmp_path, bundle(contents() | {"schema.json": schema}))


def test_no_schema(tmp_path):
    rest = {n: d for n, d in contents().items() if n != "schema.json"}
    with pytest.raises(errors.MissingMemberError, match=r"schema\.json"):
        opened(tmp_path, bundle(rest))


@pytest.mark.parametrize(
    "signature",
    [
        b"", b"{}", b"null", b"[]", DEEP[:900], GOOD_SIGNATURE.strip(), GOOD_SIGNATURE + b"\n",
        GOOD_SIGNATURE.replace(b"ed25519", b"none"), GOOD_SIGNATURE.replace(b"AAAA", b"AA A"),
        GOOD_SIGNATURE.replace(b"A==", b"B=="), GOOD_SIGNATURE.replace(b"AAAA", b""),
        GOOD_SIGNATURE.replace(b'"0000000000000000"', b"0"), GOOD_SIGNATURE.replace(b"}", b',"x":1}'),
        GOOD_SIGNATURE.replace(b'"AAAA', b'["AAAA').replace(b'=="', b'=="]'),
    ],
)  # fmt: skip
def test_malformed_signature(tmp_path, signature):
    with pytest.raises(errors.SignatureError):
        opened(tmp_path, signed(signature))


def test_oversized_signature(tmp_path):
    with pytest.raises(errors.MemberSizeError):
        opened(tmp_path, signed(b" " * 2000))


@COMMON
@given(field=st.sampled_from(sorted(manifest({}))), value=JSON)
def test_any_manifest_value_with_right_checksums(tmp_path, field, value):
    """Checksums are no help: whoever made the file made them too. A bundle opens, or is refused by name."""
    refused(tmp_path, bundle(**{field: value}))


@COMMON
@given(value=JSON)
def test_any_schema_with_right_checksums(tmp_path, value):
    columns = {"form": "columns", "columns": [{"name": value, "kind": "float64", "used": True}]}
    for schema in (value, columns, {"form": value, "columns": value}):
        refused(tmp_path, bundle(contents() | {"schema.json": to_json(schema)}))


@COMMON
@given(data=st.binary(max_size=60) | JSON.map(to_json))
def test_any_bytes_as_json_and_signature(data):
    for read in (lambda: loads(data, "member"), lambda: read_signature(data)):
        with contextlib.suppress(errors.BundleError):
            read()
