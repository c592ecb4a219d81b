"""The program form: typed operations with scikit-learn's own meaning. Knows nothing of estimators or targets."""

from edgeml.ir.builder import Builder, Value
from edgeml.ir.program import Input, Node, Output, Program, ValueType

__all__ = ["Builder", "Input", "Node", "Output", "Program", "Value", "ValueType"]
