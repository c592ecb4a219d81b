"""Runs artifacts: NumPy only at import."""
