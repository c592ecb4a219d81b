"""Stops early, with the remedy, when the mapped packages are not installed."""

import importlib.util

import pytest

if importlib.util.find_spec("edgeml") is None or importlib.util.find_spec("edgeml.converters") is None:
    pytest.exit("edgeml.converters cannot be imported: run `make dev` first", returncode=3)
