"""The linker of kernels: the library does what its text says, addresses are right, and what is unknown is said."""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys

import pytest

from edgeml.runtimes.kernels import link

# Two functions of which one calls the other and reads a table of pointers and a constant of 16 bytes.
TEXT = """
@numbers = private constant [3 x i64] [i64 7, i64 8, i64 -9]
@wide = private constant <2 x i64> <i64 40, i64 2>, align 16
@table = private constant [2 x ptr] [ptr @twice, ptr @third]
@name = constant [4 x i8] c"abc\\00"

define internal i64 @third(i64 %x) noinline {
  %at = getelementptr [3 x i64], ptr @numbers, i64 0, i64 %x
  %value = load i64, ptr %at
  ret i64 %value
}
define i64 @twice(i64 %x) noinline {
  %y = call i64 @third(i64 %x)
  %pair = load <2 x i64>, ptr @wide
  %first = extractelement <2 x i64> %pair, i64 0
  %z = add i64 %y, %first
  ret i64 %z
}
define i64 @run(i64 %which, i64 %x) {
  %at = getelementptr [2 x ptr], ptr @table, i64 0, i64 %which
  %function = load ptr, ptr %at
  %value = call i64 %function(i64 %x)
  ret i64 %value
}
"""
UNDEFINED = "declare i64 @absent(i64)\ndefine i64 @run(i64 %x) { %y = call i64 @absent(i64 %x)\nret i64 %y }\n"
# Variables that others may replace are reached through a table of the loader's.
SHARED = "@room = global [9 x i64] zeroinitializer\ndefine ptr @run() { ret ptr @room }\n"
# Room of its own beside a table that the loader makes read-only: more than a page, so that an end that is wrong shows.
ZEROS = """
@table = private constant [1 x ptr] [ptr @run]
@room = internal global [3000 x i64] zeroinitializer, align 64
define i64 @run(i64 %at, i64 %value) noinline {
  %place = getelementptr [3000 x i64], ptr @room, i64 0, i64 %at
  %before = load i64, ptr %place
  store i64 %value, ptr %place
  ret i64 %before
}
define i64 @by_table(i64 %at, i64 %value) {
  %function = load ptr, ptr @table
  %before = call i64 %function(i64 %at, i64 %value)
  ret i64 %before
}
"""
EMPTY = '@name = constant [4 x i8] c"abc\\00"\n'
# LLVM aborts the process on some failures, and other targets stay initialised: a child makes the objects.
CHILD = """
import json, sys
from edgeml.runtimes.kernels.build import Machine, emit
for path, text, machine in json.load(sys.stdin):
    with open(path, "wb") as file:
        file.write(emit(text, Machine(*machine)))
"""
X86, ARM64 = ("x86_64-unknown-linux-gnu", "x86-64", ""), ("aarch64-unknown-linux-gnu", "cortex-a72", "")
ARMV7 = ("armv7-unknown-linux-gnueabihf", "cortex-a7", "")
OBJECTS = {
    "x86": (TEXT, X86), "arm64": (TEXT, ARM64), "armv7": (TEXT, ARMV7), "undefined": (UNDEFINED, X86),
    "shared": (SHARED, X86), "zeros_x86": (ZEROS, X86), "zeros_arm64": (ZEROS, ARM64), "empty": (EMPTY, X86),
}  # fmt: skip


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objects")
    asked = json.dumps([(str(folder / name), *rest) for name, rest in OBJECTS.items()])
    done = subprocess.run([sys.executable, "-c", CHILD], input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: (folder / name).read_bytes() for name in OBJECTS}


def is_here(machine):
    return sys.platform == "linux" and os.uname().machine == machine


@pytest.mark.skipif(not (is_here("x86_64") or is_here("aarch64")), reason="no machine the linker knows")
def test_the_library_does_what_the_text_says(objects, tmp_path):
    path = tmp_path / "small.so"
    path.write_bytes(link.shared(objects["x86" if is_here("x86_64") else "arm64"]))
    library = ctypes.CDLL(str(path))
    library.run.argtypes, library.run.restype = [ctypes.c_int64] * 2, ctypes.c_int64
    assert [library.run(0, x) for x in range(3)] == [47, 48, 31]
    assert [library.run(1, x) for x in range(3)] == [7, 8, -9]
    assert ctypes.cast(library.name, ctypes.c_char_p).value == b"abc"
    with pytest.raises(AttributeError):
        library.third  # noqa: B018 - the look-up is the test


@pytest.mark.skipif(not (is_here("x86_64") or is_here("aarch64")), reason="no machine the linker knows")
def test_variables_begin_as_zeros_and_stay_writable(objects, tmp_path):
    path = tmp_path / "zeros.so"
    path.write_bytes(link.shared(objects["zeros_x86" if is_here("x86_64") else "zeros_arm64"]))
    library = ctypes.CDLL(str(path))
    for function in (library.run, library.by_table):
        function.argtypes, function.restype = [ctypes.c_int64] * 2, ctypes.c_int64
    for at in range(3000):
        assert library.run(at, at + 1) == 0
    assert [library.by_table(at, 0) for at in range(3000)] == list(range(1, 3001))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("armv7", "64-bit"), ("undefined", "lacks absent"), ("shared", "relocation"),
        ("empty", "no code"),
    ],
)  # fmt: skip
def test_what_the_linker_does_not_know_it_says(objects, name, reason):
    with pytest.raises(link.LinkError, match=reason):
        link.shared(objects[name])


@pytest.mark.parametrize(("kind", "reason"), [(9, "relocation 9"), (1, "an address among the constants")])
def test_a_relocation_that_code_cannot_have_is_said(objects, kind, reason):
    """R_X86_64_GOTPCREL, and R_X86_64_64 where the loader could not write."""
    data = bytearray(objects["x86"])
    table = next(s for s in link._sections(objects["x86"]) if s.kind == link._RELA_TABLE)
    struct.pack_into("<I", data, table.offset + 8, kind)
    with pytest.raises(link.LinkError, match=reason):
        link.shared(bytes(data))


def test_no_object_is_said():
    for data in (b"", b"not an object", bytes(64)):
        with pytest.raises(link.LinkError):
            link.shared(data)


# --- ARM64, decoded by hand as its manual says -----------------------------------------------------------------
def signed(value, bits):
    return value - (1 << bits) if value >> bits - 1 else value


def symbol_addresses(library):
    """Address by name, from the table of dynamic symbols of the library."""
    sections = link._sections(library)
    table = next(s for s in sections if s.kind == 11)
    names = sections[table.link].offset
    found = {}
    for at in range(table.offset + 24, table.offset + table.size, 24):
        name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", library, at)
        found[library[names + name : library.index(b"\0", names + name)].decode()] = value
    return found


def test_arm64_calls_and_pointers_reach_their_functions(objects):
    """``twice`` calls ``third``, and each entry of the table is left to the loader: R_AARCH64_RELATIVE."""
    library = link.shared(objects["arm64"])
    addresses = symbol_addresses(library)
    dynamic = next(s for s in [struct.unpack_from("<IIQQQQQQ", library, 64 + 56 * n) for n in range(5)] if s[0] == 2)
    tags = dict(struct.unpack_from("<qQ", library, dynamic[2] + at) for at in range(0, dynamic[5], 16))
    relas = [struct.unpack_from("<QQq", library, tags[7] + at) for at in range(0, tags[8], 24)]
    assert [kind for _, kind, _ in relas] == [1027, 1027]
    assert relas[1][0] - relas[0][0] == 8
    twice, third = (address for _, _, address in relas)
    assert twice == addresses["twice"]
    words = {at: struct.unpack_from("<I", library, at)[0] for at in range(twice, addresses["run"], 4)}
    calls = [at + 4 * signed(word & 0x3FFFFFF, 26) for at, word in words.items() if word >> 26 == 0b100101]
    assert calls == [third]


@pytest.mark.parametrize(
    ("kind", "word", "target", "place", "patched"),
    [
        (283, 0x94000000, 0x2000, 0x1000, 0x94000400),  # bl
        (283, 0x94000000, 0x1000, 0x2000, 0x97FFFC00),  # bl backwards
        (282, 0x14000000, 0x1008, 0x1000, 0x14000002),  # b
        (275, 0x90000008, 0x5678, 0x1234, 0x90000028),  # adrp x8, four pages on
        (275, 0x90000008, 0x1234, 0x2234, 0xF0FFFFE8),  # adrp x8, the page before
        (277, 0x91000108, 0x5678, 0, 0x9119E108),  # add x8, x8, #0x678
        (278, 0x39400108, 0x5678, 0, 0x3959E108),  # ldrb w8, [x8, #0x678]
        (286, 0xF9400108, 0x5678, 0, 0xF9433D08),  # ldr x8, [x8, #0x678]
        (299, 0x3DC00100, 0x5670, 0, 0x3DC19D00 & 0xFFC003FF | 0x67 << 10),  # ldr q0, [x8, #0x670]
        (261, 0, 0x1000, 0x2000, 0xFFFFF000),
    ],
)
def test_arm64_relocations_are_those_of_the_manual(kind, word, target, place, patched):
    assert link._arm64(kind, word, target, place) == patched


@pytest.mark.parametrize(("kind", "target"), [(283, 1 << 27), (283, -(1 << 27) - 4), (275, 1 << 33), (261, 1 << 31)])
def test_arm64_distances_that_do_not_fit_are_said(kind, target):
    with pytest.raises(link.LinkError, match="does not fit"):
        link._arm64(kind, 0, target, 0)
