"""Writing and reading bundles: equal bytes, safe files, views. Hostile bundles: tests/attacks."""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from edgeml import errors
from edgeml.bundle import (
    FORMAT_VERSION,
    Bundle,
    arrays,
    manifest,
    open_bundle,
    write,
    write_bundle,
    zip_layout,
)
from edgeml.jsonutil import MAX_JSON_BYTES, MAX_JSON_DEPTH
from edgeml.schema import Column, ColumnKind, Extra, Null, RowForm, Schema, Unit
from tests.attacks import forge


def fields(members=None, **changes):
    """What a caller gives write_bundle: the manifest without digests."""
    result = forge.manifest(forge.contents() if members is None else members, **changes)
    del result["members"]
    return result


def written(path, members=None, **changes):
    members = forge.contents() if members is None else members
    write_bundle(path, fields(members, **changes), members)
    return path


@pytest.fixture
def path(tmp_path):
    return written(tmp_path / "model.edgeml")


def test_round_trip(path):
    with open_bundle(path) as bundle:
        assert isinstance(bundle, Bundle)
        assert bundle.path == path
        assert bundle.manifest == forge.manifest(forge.contents())
        assert bundle.manifest["format_version"] == FORMAT_VERSION
        assert bundle.schema == Schema("columns", (Column("a", "float64"),))
        assert bundle.signed_by is None
        assert bundle.names == ("manifest.json", "native/arrays.bin", "native/program.json", "schema.json")
        for name, data in forge.contents().items():
            assert name in bundle
            assert bytes(bundle.member(name)) == data
        assert bundle.json("native/program.json") == {"nodes": []}
        assert "model.onnx" not in bundle


def test_bytes_are_those_of_the_format_page(path):
    """The attacks' own builder follows FORMAT.md and shares no code with the writer."""
    assert path.read_bytes() == forge.bundle()


def test_equal_contents_are_equal_bytes(tmp_path, path):
    contents = dict(reversed(forge.contents().items()))
    changed = dict(reversed(fields().items()))
    write_bundle(tmp_path / "again.edgeml", changed, contents)
    assert (tmp_path / "again.edgeml").read_bytes() == path.read_bytes()


def test_any_zip_reader_reads_it(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {i.filename: archive.read(i) for i in archive.infolist() if i.filename != "manifest.json"} == (
            forge.contents()
        )
        assert json.loads(archive.read("manifest.json")) == forge.manifest(forge.contents())


def test_members_are_aligned_in_file_and_memory(tmp_path):
    members = forge.contents() | {f"m/{'x' * n}": bytes([n]) * n for n in range(1, 30)}
    path = written(tmp_path / "m.edgeml", members)
    data = path.read_bytes()
    with open_bundle(path) as bundle:
        for name, content in members.items():
            view = bundle.member(name)
            assert np.frombuffer(view, np.uint8).ctypes.data % 64 == 0
            assert view.readonly
            assert any(data[at : at + len(content)] == content for at in range(0, len(data), 64))


def test_empty_member(tmp_path):
    path = written(tmp_path / "m.edgeml", forge.contents() | {"empty.bin": b""})
    with open_bundle(path) as bundle:
        assert bytes(bundle.member("empty.bin")) == b""


def test_views_and_arrays_cannot_be_written(path):
    with open_bundle(path) as bundle:
        view = bundle.member("native/arrays.bin")
        with pytest.raises(TypeError):
            view[0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            np.frombuffer(view, np.uint8).flags.writeable = True


def test_closed(path):
    bundle = open_bundle(path)
    view = bundle.member("native/arrays.bin")
    bundle.close()
    bundle.close()
    assert bytes(view) == forge.ARRAYS
    for use in (lambda: bundle.member("schema.json"), lambda: "schema.json" in bundle, lambda: bundle.names):
        with pytest.raises(errors.BundleClosedError):
            use()


def test_missing_member(path):
    with open_bundle(path) as bundle, pytest.raises(errors.MissingMemberError, match=r"model\.onnx"):
        bundle.member("model.onnx")


@pytest.mark.parametrize("fate", ["deleted", "emptied", "overwritten", "replaced"])
def test_file_changes_while_it_is_open(path, fate):
    with open_bundle(path) as bundle:
        if fate == "deleted":
            path.unlink()
        elif fate == "emptied":
            os.truncate(path, 0)
        elif fate == "overwritten":
            path.write_bytes(b"\xff" * path.stat().st_size)
        else:
            written(path, name="other")
        assert bytes(bundle.member("native/arrays.bin")) == forge.ARRAYS
        assert bundle.json("native/program.json") == {"nodes": []}


def test_file_cut_short_while_it_is_read(tmp_path, monkeypatch):
    path = written(tmp_path / "m.edgeml", forge.contents() | {"large.bin": bytes(10**6)})

    class Shrinking(io.BufferedReader):
        def readinto(self, buffer):
            if len(buffer) == 10**6:
                os.truncate(path, 10**5)
            return super().readinto(buffer)

    monkeypatch.setattr(os, "fdopen", lambda descriptor, mode: Shrinking(io.FileIO(descriptor, mode)))
    with pytest.raises(errors.TruncatedBundleError, match=r"large\.bin"):
        open_bundle(path)


@pytest.mark.parametrize("kind", ["absent", "folder", "pipe", "device", "zero byte", "loop"])
def test_not_a_regular_file(tmp_path, kind):
    path = str(tmp_path / "x")
    if kind == "folder":
        os.mkdir(path)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = "/dev/zero"
    elif kind == "zero byte":
        path += "\0"
    elif kind == "loop":
        os.symlink(path, path)
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    with pytest.raises(errors.BundleFileError) as caught:
        open_bundle(path)
    assert str(path) in caught.value.cause
    assert (len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0) == before


# --- writing ---------------------------------------------------------------------------------------------


def test_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        path = written(tmp_path / "m.edgeml")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_order_of_writing(tmp_path, monkeypatch):
    """The content is on the disk before it has its name, the name before the call returns."""
    calls = []

    def spy(name):
        real = getattr(os, name)

        def call(*args):
            folder = name == "fsync" and stat.S_ISDIR(os.fstat(args[0]).st_mode)
            calls.append("fsync folder" if folder else name)
            return real(*args)

        monkeypatch.setattr(os, name, call)

    spy("fsync")
    spy("replace")
    written(tmp_path / "m.edgeml")
    assert calls == ["fsync", "replace", "fsync folder"]


@pytest.mark.parametrize("failing", ["fsync", "replace", "open"])
@pytest.mark.parametrize("existing", [None, b"the old model"])
def test_failure_leaves_nothing_behind(tmp_path, monkeypatch, failing, existing):
    path = tmp_path / "m.edgeml"
    if existing:
        path.write_bytes(existing)

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(errors.BundleFileError, match="No space left"):
        written(path)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == (["m.edgeml"] if existing else [])
    assert not existing or path.read_bytes() == existing


def test_interruption_leaves_nothing_behind(tmp_path):
    def parts():
        yield b"first"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write.write_aside(tmp_path / "m.edgeml", parts())
    assert os.listdir(tmp_path) == []


def test_links_are_followed(tmp_path):
    written(tmp_path / "v1.edgeml")
    (tmp_path / "current.edgeml").symlink_to("v1.edgeml")
    written(tmp_path / "current.edgeml", name="other")
    assert (tmp_path / "current.edgeml").is_symlink()
    assert open_bundle(tmp_path / "v1.edgeml").manifest["name"] == "other"


@pytest.mark.parametrize("target", [".", "no/such/folder/m.edgeml", "m\0.edgeml", "x" * 300])
def test_targets_that_cannot_be_written(tmp_path, target):
    with pytest.raises(errors.BundleFileError) as caught:
        written(tmp_path / target)
    assert caught.value.remedy
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"manifest.json": b"{}"}, errors.MemberNameError),
        ({"signature.json": b"{}"}, errors.MemberNameError),
        ({"../evil": b""}, errors.MemberNameError),
        ({"schema.json": b"{}"}, errors.ManifestError),
        ({"schema.json": b"{"}, errors.JSONError),
        ({f"m{i}": b"" for i in range(64)}, errors.MemberSizeError),
        ({"big.json": bytes(MAX_JSON_BYTES + 1)}, errors.JSONLimitError),
    ],
)
def test_the_writer_refuses_what_the_reader_would(tmp_path, members, error):
    with pytest.raises(error):
        written(tmp_path / "m.edgeml", forge.contents() | members)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"version": 0}, errors.ManifestError),
        ({"version": True}, errors.ManifestError),
        ({"versions": {"numpy": None}}, errors.ManifestError),
        ({"classes": [float("nan")]}, errors.JSONError),
        ({"classes": [np.int64(1)]}, errors.JSONError),
        ({"classes": ["\ud800"]}, errors.ManifestError),
        ({"format_version": 2}, errors.BundleVersionError),
        ({"name": ...}, errors.ManifestError),
        ({"profile_sha256": "0" * 64}, errors.ManifestError),
    ],
)
def test_the_writer_refuses_a_manifest_the_reader_would(tmp_path, changes, error):
    with pytest.raises(error):
        written(tmp_path / "m.edgeml", **changes)
    assert os.listdir(tmp_path) == []


def test_schema_is_required(tmp_path):
    with pytest.raises(errors.MissingMemberError, match=r"schema\.json"):
        write_bundle(tmp_path / "m.edgeml", fields({}), {})


def test_unknown_fields_are_kept_and_ignored(tmp_path):
    path = written(tmp_path / "m.edgeml", future={"x": 1})
    assert open_bundle(path).manifest["future"] == {"x": 1}


@pytest.mark.parametrize("classes", [None, ["a\n", "é😀", ""], [0.5, -1.0], [True, False], [2**62]])
def test_classes(tmp_path, classes):
    assert open_bundle(written(tmp_path / "m.edgeml", classes=classes)).manifest["classes"] == classes


def test_reading_needs_the_standard_library_and_numpy_only(path):
    code = (
        "import sys; from edgeml.bundle import open_bundle; open_bundle(sys.argv[1]).json('schema.json');"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert {"edgeml", "numpy"} <= loaded
    assert not loaded & {
        "sklearn",
        "pandas",
        "onnx",
        "onnxruntime",
        "pyarrow",
        "scipy",
        "numba",
        "cryptography",
    }


def test_limits_in_the_format_page_are_those_of_the_code():
    page = (Path(zip_layout.__file__).parent / "FORMAT.md").read_text()
    section = page.split("## Limits")[1].split("## ")[0]
    named = {name for row in section.splitlines() if "`" in row for name in row.split("`")[1::2] if name.isupper()}
    modules = (arrays, manifest, zip_layout)
    known = {n: getattr(m, n) for m in modules for n in dir(m) if n.startswith("MAX_")}
    known |= {"MAX_JSON_BYTES": MAX_JSON_BYTES, "MAX_JSON_DEPTH": MAX_JSON_DEPTH}
    described_in_words = {"MAX_VERSION", "MAX_NAME", "MAX_TEXT", "MAX_ENTRIES"}
    assert named == set(known) - described_in_words
    assert known["MAX_MEMBERS"] == 64
    assert known["MAX_MANIFEST_BYTES"] == 4 * 2**20
    assert (known["MAX_NAME"], known["MAX_TEXT"], known["MAX_ENTRIES"]) == (255, 10_000, 256)
    assert all(f"`{name}`" in page for name in manifest._FIELDS)


def test_the_format_page_tells_every_field_of_a_schema():
    page = (Path(zip_layout.__file__).parent / "FORMAT.md").read_text()
    section = page.split("## `schema.json`")[1].split("\n## ")[0]
    text = Schema("columns", (Column("text", "string"),), rows="documents").to_json()
    date = Schema("columns", (Column("day", "int64", unit="D"),)).to_json()
    fields = {*text, *date, *text["columns"][0], *date["columns"][0]}
    values = {v for kind in (ColumnKind, Null, RowForm, Unit, Extra) for v in get_args(kind)}
    assert {"extra", "rows", "unit", "null"} < fields
    assert all(f"| `{field}` |" in section for field in fields)
    assert all(f'`"{value}"`' in section for value in values)
