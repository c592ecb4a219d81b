"""Device profiles: every one of ours is sound, a person's own is checked, and the command lists them."""

import dataclasses
import json

import pytest

from edgeml.errors import UnknownTargetError
from edgeml.targets import devices
from edgeml.targets.base import TARGETS
from edgeml.targets.devices import DEVICES, Device, device
from tests.cli_tools import run


def test_generic_is_first_and_limits_nothing():
    assert DEVICES[0] == "generic"
    generic = device("generic")
    assert generic.formats == tuple(TARGETS)
    assert generic.int8
    assert generic.per_channel_dynamic
    assert generic.default_max_bytes is None
    assert generic.tflite_runtime == ("ai-edge-litert" if "tflite" in TARGETS else None)


def test_the_table_of_keys_is_the_fields():
    assert ["name", *devices._KEYS] == [field.name for field in dataclasses.fields(Device)]


@pytest.mark.parametrize("name", DEVICES)
def test_profiles_are_sound_and_say_what_they_are(name):
    found = device(name)
    assert found.name == name
    assert found.description
    assert found.cpu
    assert "native" in found.formats
    assert (found.tflite_runtime is not None) == ("tflite" in found.formats)


def test_arm_v7_has_the_old_runtime_and_what_follows():
    found = device("cortex-a7")
    assert found.formats == ("native", "tflite")
    assert (found.tflite_runtime, found.int8, found.per_channel_dynamic) == ("tflite-runtime", False, False)


def test_limits_come_from_memory_unless_they_are_given():
    assert device("cortex-a53").default_max_bytes == 512 * 2**20 // 8
    assert devices.parse("memory_bytes = 80", "d", "d.toml").default_max_bytes == 10
    assert devices.parse("memory_bytes = 80\nmax_artifact_bytes = 7", "d", "d.toml").default_max_bytes == 7
    assert device("x86-64").default_max_bytes is None


def test_a_profile_of_ones_own(tmp_path):
    path = tmp_path / "my-board.toml"
    path.write_text('description = "gate 7"\nformats = ["onnx", "native"]\nthreads = 2\nint8 = false\n')
    found = device(path)
    assert found == device(str(path))
    assert found == Device("my-board", "gate 7", "", ("native", "onnx"), int8=False, threads=2)
    path.write_text("")
    assert device(path) == dataclasses.replace(device("generic"), name="my-board", description="", cpu="")


def test_defaults_follow_the_runtime():
    old = devices.parse('tflite_runtime = "tflite-runtime"', "d", "d.toml")
    assert not old.per_channel_dynamic
    new = devices.parse('tflite_runtime = "ai-edge-litert"\nper_channel_dynamic = false', "d", "d.toml")
    assert not new.per_channel_dynamic


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        ("threads = ", "board.toml is not TOML", "correct"),
        ("thread = 2", "unknown key 'thread'", "formats, int8"),
        ("[cpu]\nname = 1", "cpu = {'name': 1}", "a text"),
        ('formats = "onnx"', "formats = 'onnx'", "native, onnx"),
        ("formats = []", "formats = []", "native, onnx"),
        ('formats = ["onnx", "onnx"]', "formats", "each once"),
        ('formats = ["onnx", "coreml"]', "coreml", "native, onnx"),
        ("formats = [1]", "formats = [1]", "native, onnx"),
        ("int8 = 1", "int8 = 1", "true or false"),
        ("threads = true", "threads = True", "whole number"),
        ("threads = 0", "threads = 0", "from 1 on"),
        ("memory_bytes = 1e9", "memory_bytes = 1000000000.0", "whole number of bytes"),
        ("max_artifact_bytes = -1", "max_artifact_bytes = -1", "from 1 on"),
        ('tflite_runtime = "tensorflow"', "tflite_runtime = 'tensorflow'", "ai-edge-litert, tflite-runtime"),
        ('formats = ["onnx"]\ntflite_runtime = "tflite-runtime"', 'formats lacks "tflite"', "leave it out"),
        ('tflite_runtime = "tflite-runtime"\nper_channel_dynamic = true', "computes such layers wrong", "= false"),
        ('name = "x"', "unknown key 'name'", "a device profile has"),
    ],
)
def test_a_malformed_profile_is_refused_by_name(tmp_path, text, cause, remedy):
    path = tmp_path / "board.toml"
    path.write_text(text)
    with pytest.raises(UnknownTargetError) as caught:
        device(path)
    assert str(path) in caught.value.cause
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy


def test_files_that_are_no_profile(tmp_path):
    for name, data, message in [
        ("latin.toml", "description = 'Zürich'".encode("latin-1"), "is not UTF-8"),
        ("large.toml", b"#" * 70_000, "has over 65536 bytes"),
        ("absent.toml", None, "cannot be read: No such file"),
    ]:
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(UnknownTargetError, match=message):
            device(path)
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    with pytest.raises(UnknownTargetError, match="cannot be read: Is a directory"):
        device(folder)


@pytest.mark.parametrize("name", ["cortex-m0", "", "../devices/generic", "Generic", "generic.TOML"])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(UnknownTargetError, match="there is no device profile") as caught:
        device(name)
    assert all(known in caught.value.remedy for known in DEVICES)
    assert caught.value.exit_code == 2


# --- the command
def test_the_command_lists_every_profile():
    done = run("devices")
    assert done.exit_code == 0, done.output
    assert all(f"\n  {name} " in done.stdout for name in DEVICES)
    assert "tflite-runtime" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    as_json = json.loads(run("devices", "--json").stdout)
    assert [d["name"] for d in as_json] == list(DEVICES)
    assert as_json[0] | {"default_max_bytes": None} == as_json[0]


def test_the_command_shows_a_profile_of_ones_own(tmp_path):
    path = tmp_path / "my-board.toml"
    path.write_text("threads = 4\nmemory_bytes = 8_000_000\n")
    found = json.loads(run("devices", path, "x86-64", "--json").stdout)
    assert [(d["name"], d["threads"], d["default_max_bytes"]) for d in found] == [
        ("my-board", 4, 1_000_000),
        ("x86-64", 1, None),
    ]
    shown = run("devices", path).stdout
    assert "1.0 MB" in shown
    assert "my-board: no description" in shown


def test_the_command_refuses_what_is_no_profile():
    done = run("devices", "toaster")
    assert done.exit_code == 2
    assert "there is no device profile 'toaster'" in done.stderr
