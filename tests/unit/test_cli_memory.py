"""``edgeml predict`` needs no more memory for a file ten times as long. Sizes, no times."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")

ROWS = 200_000
# What a longer run may need more: caches of the allocators, footers that list row groups; 5 MB were seen. The ten
# times longer file holds 30 to 45 MB more of columns than the short one, and makes 29 MB more of answers.
MARGIN = 24 << 20
CODE = """
import sys
from edgeml.cli.app import cli
try:
    cli(sys.argv[1:])
except SystemExit as end:
    peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(end.code, peak)
"""


def peak(work, *args):
    """The largest resident memory of a process that predicts, in bytes."""
    command = [sys.executable, "-c", CODE, "predict", work / "model.edgeml", *args, "--batch-rows", 10_000]
    done = subprocess.run([str(a) for a in command], capture_output=True, text=True, check=True)
    code, kilobytes = done.stdout.split()
    assert code == "0", done.stderr
    return int(kilobytes) << 10


def write(path, rows):
    if path.suffix == ".csv":
        with path.open("wb") as file:
            file.write(b"age,visits,town\n")
            for _ in range(rows // 1000):
                file.write(b'41.25,2,Bern\n38.5,3,"Chur, GR"\n' * 500)
        return
    rng = np.random.default_rng(0)  # noise, so that the row group is no smaller than its columns
    columns = {
        "age": rng.normal(40, 9, rows),
        "visits": rng.integers(0, 9, rows),
        "town": ["Bern", "Chur"] * (rows // 2),
    }
    parquet.write_table(pa.table(columns), path, row_group_size=rows, use_dictionary=["town"])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_memory_is_flat(work, tmp_path, suffix):
    peaks = []
    for rows in (ROWS, 10 * ROWS):
        path = tmp_path / f"{rows}{suffix}"
        write(path, rows)
        peaks.append(peak(work, path, "--method", "predict_proba", "-o", tmp_path / f"answers{suffix}"))
    assert peaks[1] < peaks[0] + MARGIN, peaks
