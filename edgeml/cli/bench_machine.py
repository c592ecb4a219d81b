"""What a benchmark was measured on, and whether that machine was quiet: the record that makes a figure worth keeping.

Nothing comes in; ``machine`` and ``software`` give what ``edgeml bench`` writes under these names, None where the
system does not say. ``Noise`` watches while bench measures. No name of the computer or of its owner is recorded.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgeml._version import __version__

PACKAGES = (
    "numpy", "onnxruntime", "ai-edge-litert", "tflite-runtime", "numba", "llvmlite", "scikit-learn", "pandas",
)  # fmt: skip

# What ARM's cores call themselves in /proc/cpuinfo: implementer 0x41 and these parts.
_ARM_CORES = {
    0xC05: "Cortex-A5", 0xC07: "Cortex-A7", 0xC08: "Cortex-A8", 0xC09: "Cortex-A9", 0xC0F: "Cortex-A15",
    0xD03: "Cortex-A53", 0xD04: "Cortex-A35", 0xD05: "Cortex-A55", 0xD07: "Cortex-A57", 0xD08: "Cortex-A72",
    0xD09: "Cortex-A73", 0xD0A: "Cortex-A75", 0xD0B: "Cortex-A76", 0xD0C: "Neoverse-N1", 0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1", 0xD41: "Cortex-A78", 0xD42: "Cortex-A78AE", 0xD44: "Cortex-X1", 0xD46: "Cortex-A510",
    0xD47: "Cortex-A710", 0xD49: "Neoverse-N2", 0xD4F: "Neoverse-V2",
}  # fmt: skip
_X86, _ARM = ("x86_64", "amd64", "i686", "i386"), ("aarch64", "arm64", "armv7l", "armv6l", "armv8l")

# Above these the machine is called busy. They are judgements, not measurements: a job more than there are cores halves
# the share, and a quiet machine repeats the yardstick within a tenth.
BUSY_LOAD = 0.5  # runnable tasks a core before the first measurement
BUSY_SPREAD = 1.3  # of a fixed piece of work, 90th percentile over 10th
BUSY_SHARE = 0.95  # of one core that this process had while it worked
BUSY_STEAL = 0.02  # of the time that a hypervisor gave to others
_YARDSTICK = 20_000  # additions: about 0.5 ms


def machine() -> dict[str, Any]:
    """CPU, memory and system. See docs/benchmarks.md for each field."""
    quota = _cpu_quota()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    frequency = Path("/sys/devices/system/cpu/cpu0/cpufreq")
    most = _read(frequency / "cpuinfo_max_freq")
    return {
        "cpu": cpu(),
        "architecture": platform.machine() or "unknown",
        "board": _read("/proc/device-tree/model") or None,
        "cores": os.cpu_count(),
        "cores_usable": usable,
        "cores_quota": quota,
        "governor": _read(frequency / "scaling_governor") or None,
        "max_mhz": int(most) / 1000 if most.isdigit() else None,
        "memory_bytes": _memory(),
        "os": _os(),
        "kernel": f"{platform.system()} {platform.release()}".strip(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "virtual": _virtual(),
        "container": _container(),
        "emulated": emulated(),
    }


def software() -> dict[str, str | None]:
    """Versions by package, None where it is not installed, with Python's and EdgeML's own."""
    kind, version = platform.python_implementation(), platform.python_version()
    found: dict[str, str | None] = {
        "edgeml": __version__,
        "python": version + (f" ({kind})" if kind != "CPython" else ""),
    }
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def label(cpu_name: str) -> str:
    """A name for this machine that tells it from others and nobody its host name: the CPU and four digits."""
    return f"{cpu_name} {sha256(f'edgeml bench {platform.node()}'.encode()).hexdigest()[:4]}"


def cpu() -> str:
    """The CPU's name for people."""
    text = _read("/proc/cpuinfo")
    if platform.machine().lower() in _ARM:
        parts = sorted({int(p, 16) for p in re.findall(r"^CPU part\s*:\s*(0x[0-9a-fA-F]+)", text, re.M)})
        implementers = set(re.findall(r"^CPU implementer\s*:\s*(\S+)", text, re.M))
        if parts and implementers <= {"0x41"}:
            return " + ".join(_ARM_CORES.get(part, f"ARM part {part:#x}") for part in parts)
    found = re.search(r"^(?:model name|Model Name|cpu model|uarch)\s*:\s*(.+)$", text, re.M)
    if found:
        return _short(found[1])
    if sys.platform == "darwin":
        return _short(_command("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine())
    return _short(platform.processor() or platform.machine() or "unknown CPU")


def emulated() -> str | None:
    """What emulates this CPU, as far as it can be told, else None. An emulator's times are no device's."""
    # qemu-user shows a program its own /proc/self/exe, and forgets about its threads'.
    with contextlib.suppress(OSError):
        runner = os.path.basename(os.readlink("/proc/thread-self/exe"))
        if runner.startswith("qemu-"):
            return runner
    here, text = platform.machine().lower(), _read("/proc/cpuinfo")
    if here in _ARM and re.search(r"^vendor_id\s*:", text, re.M):
        return "the CPU of /proc/cpuinfo is x86, this Python is ARM's"
    if here in _X86 and re.search(r"^CPU implementer\s*:", text, re.M):
        return "the CPU of /proc/cpuinfo is ARM's, this Python is x86"
    if "QEMU TCG" in text or "QEMU Virtual CPU" in text:
        return "QEMU"
    if sys.platform == "linux" and _command("systemd-detect-virt", "--vm") == "qemu":  # with KVM it says kvm
        return "QEMU without KVM"
    if sys.platform == "darwin" and _command("sysctl", "-n", "sysctl.proc_translated") == "1":
        return "Rosetta"
    return None


def _virtual() -> str | None:
    if "hypervisor" not in _read("/proc/cpuinfo"):
        return None
    found = _command("systemd-detect-virt", "--vm")
    maker = " ".join(filter(None, (_read(f"/sys/class/dmi/id/{n}") for n in ("sys_vendor", "product_name"))))
    return (found if found != "none" else "") or maker or "a virtual machine"


def _container() -> str | None:
    for path, name in (("/.dockerenv", "docker"), ("/run/.containerenv", "podman")):
        if os.path.exists(path):
            return name
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    found = _command("systemd-detect-virt", "--container")
    return found if found not in ("", "none") else None


def _cpu_quota() -> float | None:
    """Cores that the control group allows, None for no limit."""
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return _windows_memory()


def _windows_memory() -> int | None:
    kilobytes = ctypes.c_uint64()
    try:
        windows: Any = vars(ctypes)["windll"]  # which other systems do not have
        found = windows.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kilobytes))
    except (KeyError, AttributeError, OSError):
        return None
    return kilobytes.value * 1024 if found else None


def _os() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform(terse=True)


def _read(path: str | Path) -> str:
    """A small text file of the system's, '' where it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20).decode("utf-8", "replace").strip("\0\n ")
    except OSError:
        return ""


def _command(*words: str) -> str:
    """What a system's program says in a line, '' where it is not there or takes long."""
    if shutil.which(words[0]) is None:
        return ""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return ""
    return done.stdout.strip()


def _short(name: str) -> str:
    """A CPU's name without what says nothing: Intel(R) Core(TM) i7-1165G7 @ 2.80GHz."""
    return re.sub(r"\s+", " ", re.sub(r"\((R|TM|r|tm)\)|\bCPU\b|@.*|\d+-Core Processor|Processor", "", name)).strip()


# --- noise --------------------------------------------------------------------------------------------------
class Noise:
    """Watches for others on this machine: made before the first measurement, asked to ``look`` between them.

    The yardstick is a fixed piece of Python's own work. When it takes longer at some times than at others, so did
    everything else.
    """

    def __init__(self) -> None:
        self._times: list[float] = []
        self._wall = self._cpu = 0.0
        self._load = _load()
        self._ticks = _cpu_ticks()

    def look(self) -> None:
        """Time the yardstick once."""
        wall, used = time.perf_counter(), time.thread_time()
        total = 0
        for number in range(_YARDSTICK):
            total += number
        wall, used = time.perf_counter() - wall, time.thread_time() - used
        self._times.append(wall)
        self._wall += wall
        self._cpu += used

    def report(self) -> dict[str, Any]:
        """The record's ``noise``; ``busy`` holds why the figures are in doubt, nothing where the machine was quiet."""
        low, middle, high = np.percentile(self._times, [10, 50, 90]).tolist() if self._times else (0.0, 0.0, 0.0)
        # Clocks of a thread may tick in 16 ms, as on Windows: their sum is right, and never above the wall's.
        share = min(self._cpu / self._wall, 1.0) if self._wall else 1.0
        steal = _steal(self._ticks, _cpu_ticks())
        found = {
            "load_before": self._load,
            "load_after": _load(),
            "yardstick_p10_s": low,
            "yardstick_p50_s": middle,
            "yardstick_p90_s": high,
            "cpu_share": share,
            "steal": steal,
        }
        return found | {"busy": _busy(found)}


def _busy(found: dict[str, Any]) -> list[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    low, high = found["yardstick_p10_s"], found["yardstick_p90_s"]
    reasons = []
    if found["load_before"] is not None and found["load_before"] >= BUSY_LOAD * cores:
        reasons.append(f"a load of {found['load_before']:.1f} on {cores} cores before it began")
    if high > BUSY_SPREAD * low:
        reasons.append(f"a fixed piece of work took up to {high / low:.1f} times as long")
    if found["cpu_share"] < BUSY_SHARE:
        reasons.append(f"other processes had the core for {1 - found['cpu_share']:.0%} of the time")
    if found["steal"] is not None and found["steal"] > BUSY_STEAL:
        reasons.append(f"the hypervisor gave {found['steal']:.0%} of the time to others")
    return reasons


def _load() -> float | None:
    """Runnable tasks over the last minute; a container sees those of its host."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows
        return None


def _cpu_ticks() -> list[int]:
    found = re.match(r"cpu ((?: \d+)+)", _read("/proc/stat"))
    return [int(word) for word in found[1].split()] if found else []


def _steal(before: list[int], after: list[int]) -> float | None:
    """The part of the time between that a hypervisor took, None where the system does not say."""
    if len(before) < 8 or len(after) < 8:
        return None
    # user nice system idle iowait irq softirq steal; guest time is in user's already.
    spent = [b - a for a, b in zip(before[:8], after[:8], strict=True)]
    return max(spent[7], 0) / sum(spent) if sum(spent) > 0 else 0.0
