"""Stops early, with the remedy, when the mapped packages are not installed; sets scikit-learn's threads."""

import importlib.util
import os

import pytest

# Before scikit-learn's first import. Where other processes share the cores, OpenMP's threads wait for each other: one
# fit of HistGradientBoosting on the flights took 124 s on two threads and 24 s on one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if importlib.util.find_spec("edgeml") is None or importlib.util.find_spec("edgeml.converters") is None:
    pytest.exit("edgeml.converters cannot be imported: run `make dev` first", returncode=3)
