"""scikit-learn's answers to the rows that a quantised program is judged on, and which of them are labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgeml.compare import SCORES
from edgeml.ir.table import Array


@dataclass(frozen=True, slots=True)
class Truth:
    """What judged answers are compared with.

    ``outputs`` are scikit-learn's by method, for rows it answers with finite scores; ``targets`` the known ones or
    None; ``classes`` those of a classifier, or None.
    """

    outputs: Mapping[str, Array]
    targets: Array | None = None
    classes: Array | None = None

    @property
    def rows(self) -> int:
        return len(next(iter(self.outputs.values())))

    def is_label(self, method: str) -> bool:
        """Whether a method's cells are labels, to be equal or not, rather than numbers."""
        return self.outputs[method].dtype.kind != "f" or (method == "predict" and self.classes is not None)

    @property
    def score(self) -> str | None:
        """The method whose errors the budget limits."""
        return next((m for m in SCORES if m in self.outputs and not self.is_label(m)), None)
