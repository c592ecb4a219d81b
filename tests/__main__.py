"""``make test``: the whole suite as a queue of groups of files, each a pytest process, two at a time, for two cores.

A file is in the first group one of whose patterns it fits. Which files share a process, and in what order, is the same
in every run; which groups run side by side is not. What a group says is printed when it is done, and the groups are
summed up at the end. Any part alone is ``python -m pytest PATHS``. Arguments go to every group. The exit code is 0 when
all pass.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from threading import Lock

ROOT = Path(__file__).resolve().parents[1]
WORKERS = 2
NO_TESTS = 5  # pytest's exit code where it finds none, which arguments such as -k bring about
# The longest come first, so that both cores are busy until the end; the very first leaves it to the second to compile
# the kernels for all. The table of estimators is a group of its own, as its summary counts them.
GROUPS = {
    "monitor": ("unit/test_fleet_*", "unit/test_ingest*", "unit/test_monitor_*", "unit/test_simulate*"),
    "estimators": ("conformance/test_estimators.py",),
    "attacks": ("attacks/*", "kills/*"),
    "conformance": ("conformance/*",),
    "unit a-c": ("unit/test_[a-c]*",),
    "unit d-m": ("unit/test_[d-m]*",),
    "unit n-q": ("unit/test_[n-q]*",),
    "unit r-s": ("unit/test_[rs]*",),
    "all else": ("*",),
}


def groups() -> dict[str, list[str]]:
    """The files of each group that has some, relative to the repository."""
    files: dict[str, list[str]] = {name: [] for name in GROUPS}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        inside = path.relative_to(ROOT / "tests").as_posix()
        fits = (name for name, patterns in GROUPS.items() if any(fnmatch(inside, p) for p in patterns))
        files[next(fits)].append(f"tests/{inside}")
    return {name: found for name, found in files.items() if found}


def main(arguments: list[str]) -> int:
    # Several would write one cache of what failed last.
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    # What a set's order decides is the same in every run, as all else; PYTHONHASHSEED=random is there to look for more.
    environment = {"PYTHONHASHSEED": "0", **os.environ}
    running: set[subprocess.Popen[bytes]] = set()
    printing = Lock()

    def run(name: str, files: list[str]) -> tuple[str, int, float]:
        began = time.monotonic()
        with printing:
            print(f"{name}: {len(files)} files", flush=True)
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [*pytest, *files], cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT
            )
            running.add(process)
            code = process.wait()
            running.discard(process)
            spent = time.monotonic() - began
            said.seek(0)
            with printing:
                print(f"\n----- {name}\n{said.read().decode(errors='replace')}", flush=True)
        return name, code, spent

    with ThreadPoolExecutor(WORKERS) as pool:
        waiting = [pool.submit(run, name, files) for name, files in groups().items()]
        try:
            done = [group.result() for group in waiting]
        finally:
            for group in waiting:
                group.cancel()
            for process in list(running):
                process.terminate()
    print("----- groups")
    for name, code, spent in done:
        print(f"{name:12} {spent:6.0f} s  {'passed' if code == 0 else 'no tests' if code == NO_TESTS else 'FAILED'}")
    codes = {code for _, code, _ in done}
    return max(codes - {0, NO_TESTS}, default=0) or (NO_TESTS if codes == {NO_TESTS} else 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
