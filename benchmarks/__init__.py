"""Speed against the peers, on the case table the conformance tests use. ``python -m benchmarks`` runs it."""
