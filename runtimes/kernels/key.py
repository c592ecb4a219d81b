"""What compiled kernels depend on: their sources, the compilers, and this machine's CPU, as two digests.

``library.py`` asks for both at every start, so they are found without Numba, llvmlite or importlib.metadata (40 MB and
130 ms between them). ``build.py`` asks for the CPU's features, so that no object uses an instruction the key does
not name.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from edgeml import ir
from edgeml._version import __version__

FOLDER = Path(__file__).parent
# Lines of /proc/cpuinfo that say what the first CPU is; the others change while the machine runs.
_CPU_LINES = frozenset(
    ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "CPU implementer", "CPU architecture",
     "CPU variant", "CPU part", "Features")
)  # fmt: skip
# LLVM's names of x86 features that Linux calls otherwise.
_LINUX_NAMES = {
    "64bit": "lm", "bmi": "bmi1", "crc32": "sse4_2", "lzcnt": "abm", "pclmul": "pclmulqdq", "prfchw": "3dnowprefetch",
    "rdrnd": "rdrand", "sahf": "lahf_lm", "sha": "sha_ni", "sse3": "pni",
}  # fmt: skip


def sources() -> list[Path]:
    """Every file the kernels may be made from: all that lie in this folder, so that none is forgotten."""
    formulas = Path(ir.__file__).parent
    more = (formulas / "elementary.py", *sorted(formulas.glob("elementary_*.py")), formulas / "metrics.py")
    return [*sorted(FOLDER.glob("*.py")), *more]


def identity() -> str:
    """SHA-256 of the sources. A library of other kernels does not fit our instructions."""
    digest = sha256()
    for path in sources():
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def cache_key(source: str) -> str:
    """The name under which kernels made from ``source``, an ``identity``, are kept on this machine.

    EdgeML's version stands in it for people who clear the cache by hand; Python's, because Numba reads byte code;
    Numba's and llvmlite's, because the newer of them may have mended a fault; the CPU, because the object uses its
    instructions; the platform, because of its calling convention.
    """
    versions = " ".join(f"{name} {version}" for name, version in installed(("numba", "llvmlite")).items())
    python = f"{sys.implementation.cache_tag} {sys.maxsize}"
    text = f"edgeml {__version__} {source} {versions} {python} {sys.platform} {_uname()} {cpu()}"
    return sha256(text.encode()).hexdigest()[:32]


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Versions by package, "none" where there is none: from the names of the folders pip writes."""
    found = dict.fromkeys(packages, "none")
    for place in reversed(sys.path):  # what comes first is what would be imported
        try:
            names = os.listdir(place or ".")
        except OSError:
            continue
        for name in names:
            package, _, rest = name.partition("-")
            if package in found and rest.endswith((".dist-info", ".egg-info")):
                found[package] = rest.rpartition(".")[0]
    return found


def cpu() -> str:
    """This machine's CPU and what it can do."""
    lines = cpu_lines()
    if lines:
        return repr(sorted(lines.items()))
    # No Linux: MCJIT, and with it llvmlite, is needed in any case.
    from llvmlite import binding as llvm

    return f"{llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"


def cpu_lines() -> dict[str, str]:
    """What Linux says of the first CPU; empty elsewhere."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            return _read_cpu(file.read(16384).decode(errors="replace"))  # the kernel never makes the rest
    except OSError:
        return {}


def _read_cpu(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.split("\n"):
        name, _, value = line.partition(":")
        if name.strip() in _CPU_LINES:
            found.setdefault(name.strip(), value.strip())
    return found


def features(of_llvm: Mapping[str, bool]) -> str:
    """LLVM's string of the features that it finds and, on x86, that Linux names.

    LLVM asks the CPU itself and knows of features that an old Linux does not. Two machines that share a home
    directory could differ in these and have one key: the kernels do without them.
    """
    named = set(cpu_lines().get("flags", "").replace("_", "").split())

    def known(name: str) -> bool:
        return not named or _LINUX_NAMES.get(name, name.replace("-", "").replace(".", "")).replace("_", "") in named

    return ",".join(f"{'+' if on and known(name) else '-'}{name}" for name, on in of_llvm.items())


def _uname() -> str:
    return os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
