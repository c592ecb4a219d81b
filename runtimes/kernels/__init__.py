"""The kernels of the native engine, and the way from a program to their instruction stream.

A kernel is a short function over flat buffers, compiled by Numba through LLVM. Importing this package imports
neither: ``registry`` lists the kernels, ``encode`` turns a program into instructions, ``library`` finds the
compiled code.
"""
