"""``python -m benchmarks.instructions [PATTERN] [--update] [--json]``: the kernels' instructions against a baseline.

Times on shared machines differ by tens of percents from run to run; instructions do not differ at all. The kernels are
compiled for x86-64-v3 (valgrind knows no AVX-512), models of every family are asked for one row and for batches under
callgrind, and what it counts inside the kernels alone is compared with instructions.json: more by over 5 % fails. Less
by over 5 % fails too, so that what was won cannot be lost again unseen. ``--update`` accepts today's counts.

Counts are kept by LLVM's version, as another LLVM writes other code. With one that has no counts yet nothing can be
compared: that is said, and is no failure, since a new release of LLVM is not this repository's regression.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

BASELINE = Path(__file__).with_suffix(".json")
CPU = "x86-64-v3"
LIMIT = 0.05
# Below this many instructions a call, 5 % is a handful: a single row of a small model.
NOISE = 40
# The kernels' entry under another name, called by a function in C that takes its own: callgrind does not see where a
# function begins that libffi calls.
ENTRY = "edgeml_counted"
_C = f"""
long {ENTRY}(long *call);
long edgeml_run(long *call) {{ long result = {ENTRY}(call); __asm__ volatile(""); return result; }}
"""
Counts = dict[str, dict[str, int]]  # "model/rows" -> instructions by function, and their "total"


@dataclass(frozen=True, slots=True)
class Change:
    """A count that left its limits; ``kernel`` is where most of the difference is."""

    what: str
    before: int
    now: int
    kernel: str

    def __str__(self) -> str:
        sign = "more" if self.now > self.before else "fewer"
        share = abs(self.now - self.before) / max(self.before, 1)
        counts = f"{self.before:,} -> {self.now:,} instructions"
        return f"{self.what}: {counts}, {share:.1%} {sign}, most of it in {self.kernel}"


def key() -> str:
    """What counts are comparable under."""
    from llvmlite import binding

    return f"LLVM {binding.llvm_version_info[0]}, {CPU}"


# --- counting --------------------------------------------------------------------------------------------------
def library(folder: Path) -> Path:
    """The kernels as a shared library for ``CPU``."""
    from llvmlite import binding

    from edgeml.runtimes.kernels.build import Machine, emit, llvm_text
    from edgeml.runtimes.kernels.library import identity

    objects, source, path = folder / "kernels.o", folder / "entry.c", folder / "kernels.so"
    # Not inlined into other functions of the library, where it would not be seen.
    text, found = re.subn(r"(?m)^(define [^@\n]*@edgeml_run\([^)]*\))", r"\1 noinline", llvm_text(identity()))
    assert found == 1, "the kernels' entry has another name than edgeml_run"
    objects.write_bytes(emit(text, Machine(binding.get_process_triple(), CPU)))
    source.write_text(_C)
    subprocess.run(["objcopy", f"--redefine-sym=edgeml_run={ENTRY}", str(objects)], check=True)
    link = ["gcc", "-shared", "-fPIC", "-nostdlib", "-O1", "-o", str(path), str(objects), str(source)]
    subprocess.run(link, check=True)
    return path


def count(pattern: str = "") -> Counts:
    """Instructions of every model whose name holds ``pattern``, and of every size, by function of the kernels."""
    from benchmarks.instruction_models import write

    for tool in ("valgrind", "gcc", "objcopy"):
        if shutil.which(tool) is None:
            sys.exit(f"error: {tool} is not installed\n  apt-get install valgrind gcc binutils")
    with tempfile.TemporaryDirectory(prefix="edgeml-instructions-") as name:
        folder = Path(name)
        write(folder, pattern)
        environment = os.environ | {
            "EDGEML_KERNELS": str(library(folder)),
            "PYTHONHASHSEED": "0",
            "OPENBLAS_NUM_THREADS": "1",
            "OMP_NUM_THREADS": "1",
        }
        command = [
            "valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", "--collect-atstart=no",
            f"--toggle-collect={ENTRY}", f"--dump-after={ENTRY}",
            sys.executable, "-m", "benchmarks.instructions", "--asked", str(folder),
        ]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"error: the run under valgrind failed\n{done.stderr[-2000:]}")
        marks: list[tuple[str, int]] = json.loads((folder / "marks.json").read_text())
        counts: Counts = {}
        for (label, first), (_, end) in pairwise(marks):
            parts = [functions((folder / f"out.{i}").read_text()) for i in range(first + 1, end + 1)]
            found = {f: sum(p.get(f, 0) for p in parts) for f in sorted({f for p in parts for f in p})}
            if not found:
                sys.exit(f"error: {label} ran no kernel\n  it has taken another way; see benchmarks/instructions.py")
            counts[label] = {"total": sum(found.values())} | found
        return counts


def asked(folder: Path) -> None:
    """What runs in valgrind: callgrind writes a file a call of the kernels, and the number of files there are before
    each question says whose they are.
    """
    from benchmarks.instruction_models import ask

    marks: list[tuple[str, int]] = []
    ask(folder, lambda label: marks.append((label, len(list(folder.glob("out.*"))))))
    (folder / "marks.json").write_text(json.dumps(marks))


def functions(text: str) -> dict[str, int]:
    """Instructions by function from a file of callgrind's, without those of the functions it calls."""
    names: dict[str, str] = {}
    found: dict[str, int] = {}
    at, called = "", False
    for line in text.splitlines():
        if line.startswith("fn="):
            number, _, name = line[3:].partition(" ")
            at = names.setdefault(number, name)
        elif line.startswith("cfn=") and " " in line:
            number, _, name = line[4:].partition(" ")
            names.setdefault(number, name)
        elif line.startswith("calls="):
            called = True  # the next line is the cost of the call
        elif line[:1] in "0123456789+-*" and line[:1]:
            if not called:
                short = at.removeprefix("edgeml_op_").split("'")[0]
                found[short] = found.get(short, 0) + int(line.split()[-1])
            called = False
    return {name: value for name, value in found.items() if value}


# --- comparing -------------------------------------------------------------------------------------------------
def changes(before: Counts, now: Counts) -> list[Change]:
    """Counts that moved by more than the limit, either way; models that are new or gone count as moved."""
    found = []
    for what in sorted(before.keys() | now.keys()):
        old, new = before.get(what, {"total": 0}), now.get(what, {"total": 0})
        difference = abs(new["total"] - old["total"])
        if difference > LIMIT * old["total"] and difference > NOISE:
            inner = (old.keys() | new.keys()) - {"total"}
            kernel = max(inner, key=lambda k: abs(new.get(k, 0) - old.get(k, 0)))
            found.append(Change(what, old["total"], new["total"], kernel))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("pattern", nargs="?", default="", help="only models whose name holds this")
    parser.add_argument("--update", action="store_true", help="accept today's counts as the baseline")
    parser.add_argument("--json", action="store_true", help="print the counts and changes as JSON")
    parser.add_argument("--asked", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.asked:
        asked(options.asked)
        return 0
    stored: dict[str, Any] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    now, here = count(options.pattern), key()
    if not now:
        parser.error(f"no model holds {options.pattern!r} in its name")
    before = {what: counts for what, counts in stored.get(here, {}).items() if options.pattern in what.split("/")[0]}
    if options.update:
        stored[here] = {what: c for what, c in stored.get(here, {}).items() if what not in before} | now
        BASELINE.write_text(json.dumps(dict(sorted(stored.items())), indent=1) + "\n")
        print(f"{BASELINE.name}: {len(now)} counts of {here}")
        return 0
    found = changes(before, now) if here in stored else []
    if options.json:
        print(json.dumps({"key": here, "counts": now, "changes": [str(c) for c in found]}, indent=1))
    elif here not in stored:
        print(f"not compared: there are no counts of {here}, only of {', '.join(stored) or 'nothing'}")
        print("  python -m benchmarks.instructions --update    adds them")
    else:
        print(f"{len(now)} counts of {here}: {len(found)} moved by more than {LIMIT:.0%}")
        for change in found:
            print(f"  {change}")
    if found:
        print(
            "error: the kernels take another number of instructions than benchmarks/instructions.json says\n"
            "  find the reason; where it is meant: python -m benchmarks.instructions --update, and commit the file",
            file=sys.stderr,
        )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
