"""Runs the artifacts of a bundle.

Importing any of it needs NumPy and nothing else; see ``base`` for Model.
"""
