"""``edgeml predict`` needs no more memory for a file six times as long. Sizes, no times."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")

ROWS = 100_000  # ten batches, so that what is read ahead and written behind is full
TIMES = 6
ID_BYTES = 200
# What a longer run may need more: caches of the allocators, footers that list row groups; up to 28 MB were seen. The
# longer file holds 100 MB more than the short one; read in one go it took 142 to 388 MB more.
MARGIN = 64 << 20
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
    """Rows with an id of noise, which no dictionary and no compression makes small; one row group."""
    noise = np.random.default_rng(0).integers(ord("a"), ord("z") + 1, rows * ID_BYTES, dtype=np.uint8).tobytes()
    if path.suffix == ".csv":
        with path.open("wb") as file:
            file.write(b"age,visits,town,id\n")
            for at in range(0, len(noise), ID_BYTES):
                file.write(b'38.5,3,"Chur, GR",%s\n' % noise[at : at + ID_BYTES])
        return
    offsets = np.arange(rows + 1, dtype=np.int32) * ID_BYTES
    ids = pa.Array.from_buffers(pa.string(), rows, [None, pa.py_buffer(offsets), pa.py_buffer(noise)])
    columns = {"age": np.arange(rows) / 8, "visits": np.arange(rows), "town": ["Bern", "Chur"] * (rows // 2), "id": ids}
    parquet.write_table(pa.table(columns), path, row_group_size=rows, use_dictionary=["town"])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_memory_is_flat(work, tmp_path, suffix):
    peaks = []
    for rows in (ROWS, TIMES * ROWS):
        path = tmp_path / f"{rows}{suffix}"
        write(path, rows)
        peaks.append(peak(work, path, "--keep", "id", "-o", tmp_path / f"answers{suffix}"))
    assert peaks[1] < peaks[0] + MARGIN, peaks
