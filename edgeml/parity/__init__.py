"""Parity: compiled artifacts against the pipeline, on the sample and on rows made to be awkward.

``truth`` asks scikit-learn, ``awkward`` makes rows, ``leaves`` compares tree leaves, ``check`` runs an artifact and
judges it. The compiler calls ``check`` before any file is written.
"""
