"""Finds the smallest form of a program that keeps a budget, by measuring on the calibration rows.

Every op with weights is a site with a ladder of forms (forms.py), smallest first. All start at the bottom; as long as
the budget is not kept, the site is raised one step whose raising mends most of the error for the bytes it costs.
``Search.path`` yields each program on the way, from the smallest to the most exact; the compiler judges those that keep
the budget on other rows, with the artifacts themselves.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeml.ir import Node, Program
from edgeml.ir.interpreter import needed
from edgeml.ir.program import attr_key
from edgeml.ir.table import Array
from edgeml.passes import simplify
from edgeml.quantize.budget import Budget
from edgeml.quantize.distances import Distances, add_norms, find_distances, quantize_points
from edgeml.quantize.forms import QUANTIZERS, Form, ladder, narrow_bytes
from edgeml.quantize.judge import Verdict, judge
from edgeml.quantize.linear import LinearForm
from edgeml.quantize.near import Near
from edgeml.quantize.trace import Exact, Trace
from edgeml.quantize.truth import Truth

# Sites that are raised one by one; of more, neighbours go together.
_MOST_GROUPS = 12
# Numbers held at once while the calibration rows go through the program; at least so many rows all the same.
_MOST_CELLS, _LEAST_ROWS = 2**25, 64
# A step of this many bytes counts half as much as one that costs nothing.
_COST_UNIT = 4096.0
# What a node costs in an artifact, measured on the native form's JSON and on TFLite's operators and tensors.
_NODE_BYTES = 100


@dataclass(frozen=True, slots=True)
class Site:
    """A node with weights: its forms, smallest first, and the group it is raised with. ``note``: what was left out."""

    index: int
    forms: tuple[Form, ...]
    group: int
    note: str = ""


@dataclass(slots=True)
class Candidate:
    """A quantised program, the level of each group, and how it did on the calibration rows."""

    levels: tuple[int, ...]
    program: Program
    verdict: Verdict
    ops: list[dict[str, Any]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Bytes of all weights."""
        return sum(op["bytes"]["quantized"] for op in self.ops)

    @property
    def forms(self) -> str:
        """What was chosen, for people."""
        counted: dict[str, int] = {}
        for op in self.ops:
            counted[op["form"]] = counted.get(op["form"], 0) + 1
        return ", ".join(f"{n} x {form}" if n > 1 else form for form, n in counted.items()) or "nothing to quantise"


class Search:
    """The sites of one program, and the programs between the smallest and the most exact form of them."""

    def __init__(
        self,
        program: Program,
        columns: Mapping[str, Array],
        truth: Truth,
        budget: Budget,
        mode: str,
        *,
        near: Near | None = None,
        int8_activations: bool = True,
        per_channel_dynamic: bool = True,
    ) -> None:
        """``columns`` are the raw calibration rows, ``truth`` scikit-learn's answers to them, ``near`` rows between."""
        self.program, self.truth, self.budget, self.mode, self.near = program, truth, budget, mode, near
        columns, self.truth = _few_enough(program, columns, truth)
        self.exact = Exact(program, columns)
        self.distances = {d.product: d for d in find_distances(program)}
        options = {"int8_activations": int8_activations, "per_channel_dynamic": per_channel_dynamic}
        self.sites = self._sites(options)

    def _sites(self, options: Mapping[str, bool]) -> list[Site]:
        program = self.program
        keep = needed(program, program.outputs)[len(program.inputs) :]
        steep = _behind_isotonic(program)
        found: list[tuple[int, tuple[Form, ...], str]] = []
        for index, node in enumerate(program.nodes):
            if not keep[index] or node.op not in QUANTIZERS:
                continue
            if index in steep:
                found.append((index, (None,), "left in float: an isotonic calibration stands on its sums"))
                continue
            x = self.exact.values[node.inputs[0]]
            forms: list[Form] = []
            notes: list[str] = []
            for form in ladder(self.mode, node.op, **options):
                if index in self.distances and isinstance(form, LinearForm) and form.activations != "float":
                    continue  # rounded operands of a difference of squares would leave nothing of small distances
                reason = "" if form is None else QUANTIZERS[node.op].fits(node, form, x)
                if reason:
                    notes.append(reason)
                else:
                    forms.append(form)
            if self.mode == "auto" and forms and not _pays(node, forms[0]):
                forms, notes = [], ["it is too small to gain"]
            note = "; ".join(dict.fromkeys(notes))
            found.append((index, tuple(forms) or (None,), note if forms else f"left in float: {note}"))
        # Ops with the same weights (the two formulas of k-means) are one, or a label would not be that of a distance.
        keys = [attr_key(program.nodes[index].attrs[_parameter(program.nodes[index])]) for index, _, _ in found]
        number = {key: n for n, key in enumerate(dict.fromkeys(keys))}
        size = max(1, -(-len(number) // _MOST_GROUPS))
        return [
            Site(index, forms, number[key] // size, note) for key, (index, forms, note) in zip(keys, found, strict=True)
        ]

    @property
    def groups(self) -> int:
        return 1 + max((site.group for site in self.sites), default=-1)

    def top(self, group: int) -> int:
        """The highest level of a group."""
        return max(len(site.forms) for site in self.sites if site.group == group) - 1

    # --- programs
    def candidate(self, levels: Sequence[int]) -> Candidate:
        """The program with each group at a level, measured."""
        chosen = {s.index: s.forms[min(levels[s.group], len(s.forms) - 1)] for s in self.sites}
        trace = Trace(self.exact)
        norms: dict[int, tuple[Distances, Array]] = {}
        for index, node in enumerate(self.program.nodes):
            form = chosen.get(index)
            if form is not None and index in self.distances and isinstance(form, LinearForm):
                value, own = quantize_points(trace, index, form.weights)
                if self.distances[index].norms is not None:
                    norms[self.distances[index].end] = self.distances[index], own
            elif form is not None:
                value = QUANTIZERS[node.op].apply(trace, index, form)
            elif index in norms:
                value = add_norms(trace, node, *norms[index])
            else:
                value = trace.keep(index)
            trace.place.append(value)
        verdict = judge(self.truth, trace.answers(), self.budget, intervals=False)
        quantised = simplify(trace.finished())
        if self.near is not None and verdict.kept:
            verdict.limits += self.near.limits(self.near.answers(quantised), self.budget)
        return Candidate(tuple(levels), quantised, verdict, self._described(chosen))

    def _described(self, chosen: Mapping[int, Form]) -> list[dict[str, Any]]:
        rows = []
        for site in self.sites:
            node, form = self.program.nodes[site.index], chosen[site.index]
            before, after = narrow_bytes(node, form)
            shape = node.attrs[_parameter(node)].shape
            rows.append(
                {
                    "step": node.origin,
                    "op": node.op,
                    "shape": list(shape),
                    "form": "float" if form is None else form.name,
                    "bytes": {"float": before, "quantized": after},
                    "note": site.note,
                }
            )
        return rows

    def path(self) -> Iterator[Candidate]:
        """From the smallest program to the most exact, a step of one group at a time; none comes twice.

        Where the budget is kept, what was raised on the way in vain is lowered again first.
        """
        here = self.candidate([0] * self.groups)
        seen: set[tuple[int, ...]] = set()
        while True:
            for candidate in (self._trimmed(here, seen), here):
                if candidate.levels not in seen:
                    seen.add(candidate.levels)
                    yield candidate
            open_groups = [g for g in range(self.groups) if here.levels[g] < self.top(g)]
            if not open_groups:
                return
            raised = [self.candidate([n + (g == at) for g, n in enumerate(here.levels)]) for at in open_groups]
            here = max(raised, key=lambda c: self._gain(here, c))

    def _trimmed(self, here: Candidate, seen: Container[tuple[int, ...]] = ()) -> Candidate:
        """The same with groups lowered, wherever that saves bytes and surely keeps the budget.

        Not to levels that were ``seen``: whoever walks on from those has found that they do not do.
        """
        lowered = here
        for group in range(self.groups) if here.verdict.sure else ():
            while lowered.levels[group]:
                levels = tuple(n - (g == group) for g, n in enumerate(lowered.levels))
                if levels in seen:
                    break
                tried = self.candidate(levels)
                if tried.bytes >= lowered.bytes or not tried.verdict.sure:
                    break
                lowered = tried
        return lowered

    def _gain(self, before: Candidate, after: Candidate) -> tuple[float, float]:
        """Error mended by a step, for its bytes; limits that are mended count first."""
        cost = 1.0 + max(0, after.bytes - before.bytes) / _COST_UNIT
        mended = min(before.verdict.error, 1e6) ** 2 - min(after.verdict.error, 1e6) ** 2
        flips = min(before.verdict.excess, 1e6) - min(after.verdict.excess, 1e6)
        return (mended / cost, flips / cost) if before.verdict.error else (flips / cost, mended / cost)


def _parameter(node: Node) -> str:
    """The attribute that holds a node's weights."""
    return QUANTIZERS[node.op].parameters[0]


def _pays(node: Node, form: Form) -> bool:
    """Whether narrow weights save more than what stands beside them: scales of eight bytes, and a node or two."""
    before, after = narrow_bytes(node, form)
    return before - after > _NODE_BYTES + 8 * node.type.width


def _few_enough(program: Program, columns: Mapping[str, Array], truth: Truth) -> tuple[Mapping[str, Array], Truth]:
    """As many rows as fit the memory when every value of the program is kept."""
    trees = sum(len(node.attrs["roots"]) for node in program.nodes if node.op == "TreeEnsemble")
    width = sum(node.type.width for node in program.nodes) + trees + 1
    most = max(_LEAST_ROWS, _MOST_CELLS // width)
    if truth.rows <= most:
        return columns, truth
    rows = np.sort(np.random.default_rng(0).choice(truth.rows, most, replace=False))
    targets = None if truth.targets is None else truth.targets[rows]
    outputs = {m: a[rows] for m, a in truth.outputs.items()}
    return {n: np.asarray(c)[rows] for n, c in columns.items()}, Truth(outputs, targets, truth.classes)


def _behind_isotonic(program: Program) -> set[int]:
    """Tree ensembles whose sums an isotonic map reads: its steps stand exactly on sums of the training rows."""
    first = len(program.inputs)
    found = set()
    for node in program.nodes:
        value = node.inputs[0] if node.op == "Interp" else -1
        while (source := program.node_of(value) if value >= 0 else None) is not None:
            if source.op == "TreeEnsemble":
                found.add(value - first)
            value = source.inputs[0] if source.op in ("Select", "Div") else -1
    return found
