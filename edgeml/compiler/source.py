"""The first stages of ``compile``: the sample as rows of a schema, and the pipeline as a program.

In come the caller's pipeline, rows and targets; out go a ``Source``, all that scikit-learn is asked about later, and a
``Converted``, all that targets are lowered from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeml.compare import compare
from edgeml.converters import to_program
from edgeml.converters.answering import answers_alone, unrepeatable_methods
from edgeml.converters.registry import refuse_by_name
from edgeml.errors import CompileError, SampleError
from edgeml.ir import Program
from edgeml.ir.program import Form
from edgeml.ir.sparse import SOURCES
from edgeml.parity.metrics import check_targets
from edgeml.parity.truth import ask, call, methods_of, quiet, widths
from edgeml.passes import optimise, simplify
from edgeml.sample import Sample, check_has_fit, numpy_dtypes, read_sample
from edgeml.schema import Schema
from edgeml.sparse_rows import SparseRows
from edgeml.targets.base import About, Programs

PARITY_ROWS = 5000  # of the sample; scikit-learn's forests take 10-100 us a row, so this stays within a second
ROWS_ALONE = 500  # where scikit-learn is asked row by row, which takes 1 to 10 ms
PROFILE_ROWS = 100_000
# Of one method's answers to the rows that parity is measured on: 32 MB. Terms of texts make a million columns.
PARITY_CELLS = 2**22
# Of any value on the way there, so many times that: 400 MB. An SVC of 300 classes holds 44,850 columns for them: 1,100
# rows, enough to see that float32 keeps two digits of some scores, which 374 rows did not show. Texts are held sparse.
WIDER = 12
SEED = 20  # fixed, so that equal inputs give equal bytes


@dataclass(frozen=True)
class Source:
    """``part``: the rows of the sample that parity is measured on; ``profiled``: those of the reference profile.

    ``targets`` are those of the whole sample, None without y.
    """

    pipeline: Any
    sample: Sample
    part: Sample
    profiled: Sample
    targets: Any


@dataclass(frozen=True)
class Converted:
    """``returns``: form and dtype of what each method returns; ``left_out``: why a method has no answer to any row,
    or another one every time.

    ``widths`` has, for each method that returns a list or stack of arrays, the columns of each.
    """

    programs: Programs
    returns: dict[str, tuple[Form, str]]
    left_out: dict[str, str]
    widths: dict[str, list[int]]
    about: About


def read_source(pipeline: Any, X: Any, y: Any) -> Source:
    """The sample, checked against the pipeline. Raises SampleError and CompileError, naming the column."""
    check_has_fit(pipeline)
    refuse_by_name(pipeline)  # before the sample: what they take is no table of rows
    sample = read_sample(pipeline, X)
    targets = None if y is None else check_targets(y, sample, pipeline)
    rng = np.random.default_rng(SEED)
    most = ROWS_ALONE if answers_alone(pipeline) else PARITY_ROWS
    return Source(pipeline, sample, _part(sample, most, rng), _part(sample, PROFILE_ROWS, rng), targets)


def convert(source: Source, name: str, version: int) -> tuple[Source, Converted]:
    """The pipeline as programs, and the source again with its schema's unread columns marked."""
    pipeline, sample = source.pipeline, source.sample
    methods = methods_of(pipeline)
    if not methods:
        raise CompileError(
            f"{type(pipeline).__name__} has no method for new rows (predict, transform, …)",
            "compile an estimator that can answer about rows it has not seen; a search can when fitted with refit=True",
        )
    returns, left_out, lists = _returns(pipeline, source.part, methods)
    left_out |= unrepeatable_methods(pipeline)  # never asked for
    sparse = isinstance(sample.rows, SparseRows)
    plain = simplify(to_program(pipeline, sample.schema, returns, numpy_dtypes(sample), sparse=sparse))
    programs = Programs(folded=optimise(plain), plain=plain)
    schema = _mark_used(sample, plain)
    part = _part(source.part, rows_within(plain, PARITY_CELLS), np.random.default_rng(SEED))
    if _ignores_more_columns(pipeline, source.part, tuple(returns)):
        schema = replace(schema, extra="ignored")
    marked = replace(
        source,
        sample=Sample(sample.rows, schema),
        part=Sample(part.rows, schema),
        profiled=Sample(source.profiled.rows, schema),
    )
    return marked, Converted(programs, returns, left_out, lists, About(name, version, schema))


def rows_within(program: Program, cells: int, *, values: bool = True) -> int:
    """How many rows have so many cells of the widest answer and, with ``values``, ``WIDER`` times as many of the widest
    value; 1 at least.
    """
    widest = max(sum(program.type_of(v).width for v in output.values) for output in program.outputs.values())
    if values and not any(node.op in SOURCES for node in program.nodes):
        widest = max(widest, *(-(-node.type.width // WIDER) for node in program.nodes), 1)
    return max(cells // widest, 1)


def _part(sample: Sample, most: int, rng: np.random.Generator) -> Sample:
    """At most ``most`` rows of the sample, drawn without replacement, in their order."""
    if len(sample) <= most:
        return sample
    return Sample(sample.take(np.sort(rng.choice(len(sample), most, replace=False))), sample.schema)


def _returns(
    pipeline: Any, sample: Sample, methods: Sequence[str]
) -> tuple[dict[str, tuple[Form, str]], dict[str, str], dict[str, list[int]]]:
    """Form and dtype of what each method returns, from scikit-learn's own answers; the methods left out, why; and the
    widths of lists.

    A method that scikit-learn itself fails at for every row (PCA.score_samples of a singular covariance) is left out.
    Raises SampleError when no method answers.
    """
    most = 200 if sample.schema.rows == "table" else 8  # texts may have a million columns
    most = min(most, 50) if answers_alone(pipeline) else most
    head = Sample(sample.take(np.arange(min(len(sample), most))), sample.schema)
    result: dict[str, tuple[Form, str]] = {}
    left_out: dict[str, str] = {}
    lists: dict[str, list[int]] = {}
    failure: SampleError | None = None
    for method in methods:
        try:
            truth = ask(pipeline, head, [method])
        except SampleError as error:
            failure = failure or error
            left_out[method] = error.cause
            continue
        answer = truth.outputs[method]
        dtype = answer.dtype
        if dtype.kind in "Mm":
            raise SampleError(
                f"{method} returns {dtype}, dates as they came, which a model cannot return",
                "encode or scale dates in the pipeline, or leave them out of its result",
            )
        if dtype.kind == "U" and (answer != answer[:1]).any():
            # The width NumPy gives a batch's labels follows classes_, not the rows at hand. A DummyClassifier, whose
            # answer is always one label, gives that label's own.
            dtype = getattr(getattr(pipeline, "classes_", answer), "dtype", dtype)
        form: Form = "vector" if answer.ndim == 1 else "matrix"
        several = widths(pipeline, method, head.take(np.repeat(truth.answered[:1], 2)))
        if several is not None:
            form, lists[method] = several
        result[method] = (form, "O" if dtype.kind == "O" else dtype.str)
    if not result:
        assert failure is not None
        raise failure
    return result, left_out, lists


def _ignores_more_columns(pipeline: Any, sample: Sample, methods: Sequence[str]) -> bool:
    """Whether scikit-learn answers rows with a column too many, and as it answers them without."""
    if not sample.is_frame or sample.schema.form != "columns":
        return False
    # The rows it answers may be few, and a frame of other columns is refused whatever its rows.
    head = sample.take(np.arange(min(len(sample), 20)))
    name = "edgeml: one column more"
    try:
        with quiet():
            return all(
                compare(call(pipeline, m, head), call(pipeline, m, head.assign(**{name: 0.0})), m).max_rel == 0
                for m in methods
            )
    except Exception:  # scikit-learn refuses such a frame, with an error that depends on the estimator
        return False


def _mark_used(sample: Sample, program: Program) -> Schema:
    """The schema with ``used`` set from the simplified program; refuses columns that no program can read."""
    read = {i.name for i in program.inputs}
    if sample.schema.form == "matrix":
        return sample.schema
    columns = []
    for column in sample.schema.columns:
        used = column.name in read
        if used and column.kind == "any":
            dtype = numpy_dtypes(sample)[column.name]
            raise SampleError(
                f"the pipeline reads column {column.name!r}, whose values ({dtype}) cannot be compiled",
                "turn it into numbers or strings before the pipeline, or leave it out of the pipeline's columns",
            )
        columns.append(replace(column, used=used))
    return replace(sample.schema, columns=tuple(columns))
