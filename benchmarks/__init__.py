"""Speed and size against the peers, on the tests' own models: ``python -m benchmarks`` and ``benchmarks.quantised``."""
