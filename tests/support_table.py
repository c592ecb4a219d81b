"""What is supported, as a table: every estimator that scikit-learn lists, its methods, and which engine can do it.

Made of three things that cannot drift from the code: scikit-learn's own list of estimators, the converters' registry
(notes, refusals), and the variants of the conformance test (which engine skips which variant, and why).
``tests/docs.py`` writes it to docs/estimators.md, and the totals to the README.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeml.converters import CONVERTERS
from edgeml.converters.registry import REFUSED
from edgeml.ir.ops import OPS
from edgeml.parity.truth import METHODS
from tests.conformance.estimators import Variant, variants

QUANTISED = Path(__file__).parent / "conformance" / "estimators" / "quantised.json"
ENGINES = ("native", "onnx", "tflite")


@cache
def listed() -> dict[str, Any]:
    """Every estimator class that scikit-learn lists, by name; experimental ones too."""
    from sklearn.experimental import (  # they enter the list by being imported
        enable_halving_search_cv,  # noqa: F401  # imported for what it does
        enable_iterative_imputer,  # noqa: F401  # imported for what it does
    )

    # A composition that scikit-learn's list leaves out: its constructor has arguments without default.
    from sklearn.pipeline import FeatureUnion, Pipeline
    from sklearn.utils.discovery import all_estimators

    return dict(all_estimators()) | {"Pipeline": Pipeline, "FeatureUnion": FeatureUnion}


@cache
def of_other_libraries() -> dict[str, Any]:
    """Classes that have a converter and are not scikit-learn's own, by the converter's key."""
    within = {"imblearn": ("imblearn.ensemble", "imblearn.pipeline")}
    found: dict[str, Any] = {}
    for key in CONVERTERS:
        library, _, name = key.partition(".")
        if library != "sklearn":
            modules = [import_module(module) for module in within.get(library, (library,))]
            found[key] = next(getattr(module, name) for module in modules if hasattr(module, name))
    return found


def methods_of(cls: Any) -> tuple[str, ...]:
    """Its methods for new rows; of a composition those that its parts may bring."""
    if cls.__name__ == "FrozenEstimator":
        return METHODS
    return tuple(m for m in METHODS if hasattr(cls, m))


def eligible() -> dict[str, Any]:
    """The estimators with a method for new rows which are not refused by name."""
    return {n: c for n, c in listed().items() if methods_of(c) and f"sklearn.{n}" not in REFUSED}


def shown() -> Mapping[str, list[Variant]]:
    """Variants by the class they show."""
    found: dict[str, list[Variant]] = defaultdict(list)
    for variant in variants():
        found[variant.of].append(variant)
    return found


def in_table() -> dict[str, Any]:
    """The classes the table has a row for: scikit-learn's by name, those of other libraries by the converter's key."""
    return eligible() | of_other_libraries()


def variants_of(name: str) -> list[Variant]:
    """The variants of a row; two libraries have a Pipeline, whose variants bear the whole key."""
    return shown().get(name) or shown().get(name.partition(".")[2], [])


# What a part of the compiler's message means, where the part alone does not tell: the first that is in it counts.
_MEANING = (
    ("locale", "onnxruntime's string operators depend on the host's locale"),
    ("letters beyond ASCII", "onnxruntime's regular expressions have no \\b for letters beyond ASCII"),
    ("lists or dicts", "an ONNX tensor holds no lists or dicts"),
    ("bytes of a string", "onnxruntime has no operator that gives the bytes of a string"),
    ("one variable count", "onnxruntime's regular expressions prefer the longest alternative"),
    ("float64", "what follows needs float64"),
    ("integers", "integers beyond int32"),
    ("int32", "integers beyond int32"),
    ("steep", "interpolation too steep for float32"),
    ("range of float32", "beyond the range of float32"),
    ("strings", "TFLite has no strings"),
    ("numbers", "TFLite has no strings"),
    ("tflite engine", "float32 does not keep scikit-learn's digits on every row"),
    ("relative error", "float32 does not keep scikit-learn's digits on every row"),
    ("fractions into", "whole numbers that it holds as floats"),
    ("too long", "iterates too long for one answer"),
    ("another answer", "float32 does not keep scikit-learn's digits on every row"),
)


def meaning(reason: str) -> str:
    """A variant's reason as the table gives it."""
    for part, said in _MEANING:
        if part in reason:
            return said
    op = reason.rpartition(" ")[2]
    return f"TFLite has no way to compute {op}" if op in OPS else reason


def cell(of: Iterable[Variant], engine: str) -> str:
    """What an engine can do with these variants, and the reasons for what it cannot."""
    of = list(of)
    skipped = [v for v in of if engine in v.skip]
    reasons = "; ".join(sorted({meaning(v.skip[engine]) for v in skipped}))
    if not skipped:
        return "yes" if of else "not shown"
    return f"no: {reasons}" if len(skipped) == len(of) else f"{len(of) - len(skipped)} of {len(of)} variants: {reasons}"


def quantised() -> dict[str, str]:
    """By estimator what ``quantize="auto"`` rounds, as tests/quantised_table.py measured it last."""
    found: dict[str, str] = json.loads(QUANTISED.read_text()) if QUANTISED.exists() else {}
    return found


@dataclass(frozen=True)
class Total:
    """Of ``eligible`` estimators, how many have a variant that the engine runs, and all of whose variants it runs."""

    engine: str
    eligible: int
    some: int
    every: int


def totals() -> list[Total]:
    """One an engine."""
    names, by_name, result = eligible(), shown(), []
    for engine in ENGINES:
        runs = {n: [engine not in v.skip for v in by_name.get(n, ())] for n in names}
        some, every = (sum(bool(r) and f(r) for r in runs.values()) for f in (any, all))
        result.append(Total(engine, len(names), some, every))
    return result


def summary() -> str:
    """The totals as a table, for the README."""
    rows = [
        f"| {t.engine} | {t.some} of {t.eligible} ({100 * t.some / t.eligible:.0f} %) | {t.every} |" for t in totals()
    ]
    head = ["| engine | estimators with a method for new rows | with every variant tried |", "|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def full() -> str:
    """Every estimator, by module."""
    modules = defaultdict(list)
    for name, cls in in_table().items():
        library, other, _ = name.partition(".")
        modules[library if other else ".".join(cls.__module__.split(".")[:2])].append(name)
    lines: list[str] = []
    for module, names in sorted(modules.items()):
        lines += [
            "",
            f"### {module}",
            "",
            '| estimator | methods | variants | native | onnx | tflite | `quantize="auto"` rounds | note |',
        ]
        lines.append("|---|---|---|---|---|---|---|---|")
        for name in sorted(names):
            key = name if "." in name else f"sklearn.{name}"
            methods, of = ", ".join(methods_of(in_table()[name])), variants_of(name)
            note = CONVERTERS[key].note if key in CONVERTERS else ""
            cells = " | ".join(_plain(cell(of, e)) for e in ENGINES)
            rounds = quantised().get(name, "")
            lines.append(f"| {key.partition('.')[2]} | {methods} | {len(of)} | {cells} | {rounds} | {_plain(note)} |")
    return "\n".join(lines[1:]) + "\n"


def left_out() -> str:
    """What is not compiled, and why."""
    rows = {
        n: "no method for new rows: it answers about the rows it was fitted on"
        for n, c in listed().items()
        if not methods_of(c)
    }
    rows |= {key.partition(".")[2]: reason for key, (reason, _) in REFUSED.items()}
    head = ["| estimator | why it is not compiled |", "|---|---|"]
    return "\n".join([*head, *(f"| {n} | {_plain(r)} |" for n, r in sorted(rows.items()))]) + "\n"


def _plain(text: str) -> str:
    return text.replace("|", "\\|")
