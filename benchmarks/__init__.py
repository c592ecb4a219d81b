"""Speed and size against the peers, on the tests' models: ``python -m benchmarks``, ``python -m benchmarks.quantised``."""
