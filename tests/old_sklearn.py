"""``make old-sklearn``: the conformance table with the minor version of scikit-learn before the one at hand.

A virtual environment of its own holds that scikit-learn and sees everything else of this one; variants whose parameters
the older version has not are skipped, and said so.
"""

from __future__ import annotations

import sys
import sysconfig
import tempfile
from pathlib import Path

import sklearn

from tests.wheel import ROOT, run

TESTS = ("tests/conformance/test_estimators.py", "tests/conformance/test_conformance.py")


def before(version: str) -> str:
    """The minor version before, as pip asks for it: 1.8.* before 1.9.1."""
    major, minor = version.split(".")[:2]
    return f"{major}.{int(minor) - 1}.*"


def main(folder: Path) -> None:
    run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
    python = folder / "venv" / "bin" / "python"
    older = f"scikit-learn=={before(sklearn.__version__)}"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", older, folder=folder)
    # Behind its own packages come those of this environment.
    site = next((folder / "venv").glob("lib/python*/site-packages"))
    (site / "more.pth").write_text(sysconfig.get_path("purelib") + "\n")
    check = f"import sklearn; assert sklearn.__version__.startswith('{older.partition('==')[2].rstrip('*')}')"
    run(python, "-c", check, folder=ROOT)
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS, folder=ROOT)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
