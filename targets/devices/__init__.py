"""Device profiles: what a target can run, and the defaults that follow from it. One TOML file a device.

Comes in: a profile's name, or the path of a person's own ``.toml``; goes out: a ``Device``, every value of it checked.
``compile`` takes from it the formats that "auto" makes and how the quantiser may work, ``edgeml devices`` lists the
profiles. Adding a device is adding a file here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from edgeml.errors import UnknownTargetError
from edgeml.targets.base import TARGETS

SUFFIX = ".toml"
TFLITE_RUNTIMES = ("ai-edge-litert", "tflite-runtime")
_MOST_BYTES = 65_536  # of a profile; the longest of ours has under 2,000


@dataclass(frozen=True, slots=True)
class Device:
    """What a device runs. Each field but ``name``, which is the file's stem, is a key of the TOML file.

    Attributes:
        name: what ``--target`` calls it and what the manifest says.
        description: boards that have it, for people.
        cpu: core and instruction set, for people.
        formats: the artifacts that formats="auto" makes, in the order of edgeml.targets.base.TARGETS.
        int8: whether static int8 activations are worth trying; weights may be int8 on every device.
        tflite_runtime: the package that runs the tflite artifact; None where formats lacks it.
        per_channel_dynamic: whether that package computes dynamically quantised layers with a scale an output right;
            where not, such a layer has one scale.
        memory_bytes: of the smallest common board; None when unknown.
        max_artifact_bytes: the largest artifact that it should be given; None leaves it to the memory.
        threads: threads an engine gets where the caller does not say.
    """

    name: str
    description: str = ""
    cpu: str = ""
    formats: tuple[str, ...] = tuple(TARGETS)
    int8: bool = True
    tflite_runtime: str | None = None
    per_channel_dynamic: bool = True
    memory_bytes: int | None = None
    max_artifact_bytes: int | None = None
    threads: int = 1

    @property
    def default_max_bytes(self) -> int | None:
        """The artifact limit of a budget that names none: bytes, or None for no limit.

        An eighth of the memory: onnxruntime needs 3.0 times a model's bytes while it loads it and 2.4 times afterwards
        (measured with 42 MB of Gemm weights, onnxruntime 1.32, x86-64), and the system and the application want the
        rest.
        """
        if self.max_artifact_bytes is not None:
            return self.max_artifact_bytes
        return None if self.memory_bytes is None else self.memory_bytes // 8


def _names() -> tuple[str, ...]:
    stems = sorted(p.name.removesuffix(SUFFIX) for p in resources.files(__name__).iterdir() if p.name.endswith(SUFFIX))
    return ("generic", *(name for name in stems if name != "generic"))


DEVICES = _names()


def device(name: str | os.PathLike[str]) -> Device:
    """The profile called ``name``, or the one in a file of one's own when ``name`` ends in ``.toml``.

    Raises UnknownTargetError: there is no such profile or file, or a value in it is not what the field takes.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise UnknownTargetError(
            f"target is the name of a device profile or a path, not a {type(name).__name__}",
            f"use one of: {', '.join(DEVICES)}",
        )
    text = str(os.fspath(name))
    if text.endswith(SUFFIX):
        return _read(Path(text))
    if text not in DEVICES:
        raise UnknownTargetError(
            f"there is no device profile {text!r}",
            f"use one of: {', '.join(DEVICES)}; or the path of your own, such as ./my-board.toml (`edgeml devices`)",
        )
    return parse(resources.files(__name__).joinpath(text + SUFFIX).read_text("utf-8"), text, text + SUFFIX)


def _read(path: Path) -> Device:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise UnknownTargetError(
                f"{path} has over {_MOST_BYTES} bytes", "give a device profile: some lines of TOML"
            )
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise UnknownTargetError(f"{path} is not UTF-8 text", "save the device profile as UTF-8") from None
    except OSError as error:
        raise UnknownTargetError(
            f"the device profile {path} cannot be read: {error.strerror or error}",
            f"check the path, or use one of: {', '.join(DEVICES)}",
        ) from None
    return parse(text, path.name.removesuffix(SUFFIX) or "device", str(path))


def parse(text: str, name: str, where: str) -> Device:
    """The device that a TOML text describes. ``where`` names the text in errors.

    Raises UnknownTargetError: not TOML, an unknown key, a value of the wrong type or range, or keys that contradict.
    """
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnknownTargetError(f"{where} is not TOML: {error}", "correct the file") from None
    unknown = sorted(set(table) - set(_KEYS))
    if unknown:
        raise UnknownTargetError(
            f"{where}: unknown key {', '.join(map(repr, unknown))}", f"a device profile has: {', '.join(_KEYS)}"
        )
    for key, value in table.items():
        check, due = _KEYS[key]
        if not check(value):
            raise UnknownTargetError(f"{where}: {key} = {value!r}", f"{key} is {due}")
    return _consistent(table, name, where)


def _consistent(table: Mapping[str, Any], name: str, where: str) -> Device:
    """The device, with the defaults that follow from other keys."""
    values = dict(table)
    asked = values.get("formats", tuple(TARGETS))
    values["formats"] = tuple(format for format in TARGETS if format in asked)
    tflite = "tflite" in values["formats"]
    runtime = values.setdefault("tflite_runtime", TFLITE_RUNTIMES[0] if tflite else None)
    if runtime is not None and not tflite:
        raise UnknownTargetError(
            f'{where}: tflite_runtime = {runtime!r}, but formats lacks "tflite"', "add it to formats, or leave it out"
        )
    old = runtime == "tflite-runtime"
    if old and values.get("per_channel_dynamic"):
        raise UnknownTargetError(
            f"{where}: per_channel_dynamic = true with tflite-runtime, which computes such layers wrong",
            "set per_channel_dynamic = false",
        )
    values.setdefault("per_channel_dynamic", not old)
    return Device(name=name, **values)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _formats(value: Any) -> bool:
    if not isinstance(value, list) or not value or not all(isinstance(format, str) for format in value):
        return False
    return len(set(value)) == len(value) and set(value) <= set(TARGETS)


# Key -> what it takes: a check, and the same in words.
_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "description": (_text, "a text"),
    "cpu": (_text, "a text"),
    "formats": (_formats, f"a list of some of: {', '.join(TARGETS)}; each once"),
    "int8": (_flag, "true or false"),
    "tflite_runtime": (lambda value: value in TFLITE_RUNTIMES, f"one of: {', '.join(TFLITE_RUNTIMES)}"),
    "per_channel_dynamic": (_flag, "true or false"),
    "memory_bytes": (_count, "a whole number of bytes from 1 on"),
    "max_artifact_bytes": (_count, "a whole number of bytes from 1 on"),
    "threads": (_count, "a whole number from 1 on"),
}

__all__ = ["DEVICES", "Device", "device"]
