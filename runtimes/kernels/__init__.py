"""The Numba functions of the native engine."""
