"""What scikit-learn answers about the rows that artifacts are judged on: the sample, awkward rows, split boundaries.

In come a ``Source`` and its programs; out go ``Truths``, asked once and used by every judge, with how far each method
may be off.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeml.compiler.source import PARITY_CELLS, SEED, Converted, Source, rows_within
from edgeml.ir.table import Array
from edgeml.parity.awkward import awkward_rows, boundary_rows
from edgeml.parity.check import SAMPLE, bounds
from edgeml.parity.splits import without_undetermined
from edgeml.parity.truth import Truth, ask, noise
from edgeml.runtimes.frames import read_rows
from edgeml.sample import Sample

AWKWARD_ROWS = 192
BOUNDARY_ROWS = 256
# Asked one by one. Of many classes fewer: to tell 300 apart in pairs takes scikit-learn 3 s a row.
NOISE_ROWS, NOISE_CELLS, LEAST_NOISE_ROWS = 24, 1200, 4
AWKWARD, BOUNDARY = "awkward rows", "rows at split boundaries"


@dataclass(frozen=True)
class Truths:
    """``sets``: rows and answers by the name of the rows, without those that ``undetermined`` counts.

    ``answers`` are those to all rows of the sample's part, ``noise`` is scikit-learn's own, and ``bounds`` what an
    artifact in float64 may be off, by method.
    """

    sets: dict[str, tuple[Sample, Truth]]
    undetermined: dict[str, int]
    answers: Truth
    noise: dict[str, float]
    bounds: dict[str, float]

    @property
    def columns(self) -> dict[str, Array]:
        """Raw columns of the sample's rows that scikit-learn answers, as ``read_rows`` gives them."""
        sample, truth = self.sets[SAMPLE]
        return read_rows(sample.take(truth.answered), sample.schema)[0]


def ask_scikit_learn(source: Source, converted: Converted) -> Truths:
    """Every method on every set of rows. Raises SampleError when the pipeline refuses all rows of the sample."""
    pipeline, part, program = source.pipeline, source.part, converted.programs.folded
    methods = tuple(converted.returns)
    answers = ask(pipeline, part, methods)
    sets = {SAMPLE: (part, answers)}
    awkward = awkward_rows(part, most=min(AWKWARD_ROWS, rows_within(program, PARITY_CELLS)), seed=SEED)
    sets[AWKWARD] = (awkward, ask(pipeline, awkward, methods, like=answers))
    columns, _ = read_rows(part.rows, part.schema)
    boundary = boundary_rows(program, part, columns, most=BOUNDARY_ROWS, seed=SEED)
    if boundary is not None:
        sets[BOUNDARY] = (boundary, ask(pipeline, boundary, methods, like=answers))
    undetermined = {}
    for name, (rows, truth) in sets.items():
        rows, truth, undetermined[name] = without_undetermined(program, rows, truth)
        sets[name] = (rows, truth)
    judged, truth = sets[SAMPLE]
    most = min(NOISE_ROWS, max(rows_within(program, NOISE_CELLS, values=False), LEAST_NOISE_ROWS))
    few = Sample(judged.take(truth.answered[:most]), judged.schema)
    own = {m: noise(pipeline, few, m) if len(few) else 0.0 for m in methods}
    return Truths(sets, undetermined, answers, own, bounds(program, answers.outputs, own))
