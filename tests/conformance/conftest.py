"""Counts, for the summary, how many variants and estimators each engine has given scikit-learn's answers for."""

from __future__ import annotations

from collections import defaultdict

import pytest

_SEEN: dict[str, list[str]] = defaultdict(list)


@pytest.fixture
def record_engine():
    """Called as ``record_engine(engine, estimator)`` when an engine has passed."""
    return lambda engine, estimator: _SEEN[engine].append(estimator)


def pytest_terminal_summary(terminalreporter):
    for engine, passed in _SEEN.items():
        what = f"{len(passed)} variants of {len(set(passed))} estimators"
        terminalreporter.write_line(f"conformance: {engine} gave scikit-learn's answers for {what}")
