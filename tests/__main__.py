"""``make test``: the whole suite as two pytest processes side by side, for two cores.

One runs the conformance tables, the other everything else; either alone is ``python -m pytest PATHS``. Arguments go to
both. The exit code is 0 when both pass.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLES = "tests/conformance"


def main(arguments: list[str]) -> int:
    pytest = [sys.executable, "-m", "pytest", *arguments]
    with tempfile.TemporaryFile() as said:
        # Two would write one cache of what failed last.
        tables = subprocess.Popen(
            [*pytest, "-q", "-p", "no:cacheprovider", TABLES], cwd=ROOT, stdout=said, stderr=subprocess.STDOUT
        )
        try:
            rest = subprocess.run([*pytest, "tests", "--ignore", TABLES], cwd=ROOT, check=False).returncode
            tables.wait()
        finally:
            tables.kill()
        said.seek(0)
        print(said.read().decode(errors="replace"), flush=True)
    return rest or tables.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
