"""Tables of what a bundle holds: schema, artifacts, parity. Shared by compile, inspect and demo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeml.cli import output, quantization
from edgeml.schema import Schema

_MOST_COLUMNS = 40


def schema(schema: Schema) -> None:
    """The raw columns, their kinds, and which are read."""
    count, used = len(schema.columns), sum(c.used for c in schema.columns)
    if schema.form == "matrix":
        output.line(f"\nInput: one matrix of {count} columns, {schema.kind}, by position")
        return
    rows = [(c.name, c.kind, "" if c.used else "not read") for c in schema.columns[:_MOST_COLUMNS]]
    output.table(f"Input: {count} columns, {used} read", ("column", "kind", ""), rows)
    if count > _MOST_COLUMNS:
        output.line(f"  … and {count - _MOST_COLUMNS} more")


def artifacts(manifest: Mapping[str, Any]) -> None:
    """Artifacts with their sizes, and the reason for each that is missing."""
    rows: list[tuple[str, str, str]] = []
    for name, artifact in manifest["artifacts"].items():
        rows.append((name, output.size(artifact["bytes"]), ", ".join(artifact["members"])))
    rows += [(name, "—", f"missing: {reason}") for name, reason in manifest["missing"].items()]
    output.table("Artifacts", ("format", "size", "members"), rows)


def quantisation(report: Mapping[str, Any]) -> None:
    """A line a format on what quantisation saved and cost; nothing where there was none."""
    found = report.get("quantization") or {}
    if found.get("mode", "none") != "none":
        quantization.summary(quantization.overview(found))
        for note in quantization.not_judged(found):
            output.paragraph(note)


def parity(report: Mapping[str, Any]) -> None:
    """How the artifacts did against scikit-learn."""
    findings = report.get("findings", [])
    if not findings:
        output.line("\nParity with scikit-learn: not measured")
        return
    if any(figures["bound"] is None for finding in findings for figures in finding["methods"].values()):
        counts = {finding["rows"]: finding["count"] for finding in findings}
        counted = ", ".join(
            f"{count} rows of the {name}" if name == "sample" else f"{count} {name}" for name, count in counts.items()
        )
        output.title("Parity with scikit-learn")
        output.paragraph(counted)
        output.paragraph("shapes, dtypes and the rows that are refused agree; numbers are the budget's")
        _leaves(report)
        return
    for where in dict.fromkeys(finding["rows"] for finding in findings):
        these = [finding for finding in findings if finding["rows"] == where]
        rows = [
            (
                finding["engine"],
                method,
                figures["flips"],
                output.short(float(figures["max_rel"])),
                output.short(float(figures["p999_rel"])),
                output.short(float(figures["bound"])),
            )
            for finding in these
            for method, figures in finding["methods"].items()
        ]
        refused = f", {these[0]['refused']} of them refused alike" if these[0]["refused"] else ""
        output.table(
            f"Parity with scikit-learn, {where} ({these[0]['count']}{refused})",
            ("engine", "method", "other labels", "max rel error", "p99.9", "bound"),
            rows,
        )
    _leaves(report)


def _leaves(report: Mapping[str, Any]) -> None:
    leaves = report.get("leaves") or {}
    if leaves.get("trees"):
        output.line(f"\n  leaves of {leaves['trees']} trees: identical on {leaves['rows']} rows")
