"""Stops early, with the remedy, when the mapped packages are not installed; leaves nothing that a test meets to chance.

Hypothesis draws the same in every run and has no deadlines, and the random states that scikit-learn falls back to
are seeded before each test: on a loaded machine and in any order a run tells what the run before it told.
``--hypothesis-profile=random`` draws anew.
"""

import importlib.util
import os
import random
import signal

import hypothesis
import numpy as np
import pytest

# Before scikit-learn's first import. Where other processes share the cores, OpenMP's threads wait for each other: one
# fit of HistGradientBoosting on the flights took 124 s on two threads and 24 s on one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

if importlib.util.find_spec("edgeml") is None or importlib.util.find_spec("edgeml.converters") is None:
    pytest.exit("edgeml.converters cannot be imported: run `make dev` first", returncode=3)

# A shell that starts a job in the background lets it and all its children ignore SIGINT, which tests send to commands.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "pthread_sigmask"):
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM})

# How long an example takes, or takes to be drawn, is the machine's affair.
_COMMON = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("same", derandomize=True, **_COMMON)
hypothesis.settings.register_profile("random", derandomize=False, **_COMMON)
hypothesis.settings.load_profile("same")


def _seed() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # the legacy state is what random_state=None means to scikit-learn


@pytest.hookimpl(tryfirst=True)
def pytest_collectstart() -> None:
    """For what is drawn while a file is imported."""
    _seed()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Before the fixtures of a test."""
    _seed()
