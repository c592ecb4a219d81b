"""``edgeml inspect``: what is in a bundle, so that a person understands what runs on the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeml.bundle.manifest import several_outputs
from edgeml.cli import options, output
from edgeml.errors import InputError, ManifestError

_MOST_WORDS = 20


@click.command(short_help="Show what a bundle holds.")
@options.bundle_argument
@click.option(
    "--program/--no-program",
    "show_program",
    default=True,
    help="Print the program: every operation, its type and the step it came from.",
)
@click.option(
    "--quantization",
    is_flag=True,
    help="Show the quantisation report instead: budget, answers and metrics against scikit-learn's, bytes.",
)
@click.option(
    "--plot",
    type=options.FILE,
    help="Draw the quantisation report to a .png or .svg file, or write it whole as one .html file.",
)
@options.public_key_option
@options.json_option
def command(
    bundle: Path,
    show_program: bool,
    quantization: bool,
    plot: Path | None,
    public_key: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show a BUNDLE's input, methods, artifacts, parity report, signature and program.

    Reading a bundle checks every byte of it against its digests, and runs nothing.

    \b
    Examples:
      edgeml inspect model.edgeml --no-program
      edgeml inspect model.edgeml --quantization --plot report.html
    """
    from edgeml.bundle import open_bundle

    with open_bundle(bundle, verify_with=list(public_key) or None) as opened:
        if quantization or plot is not None:
            _quantization(opened, plot, as_json)
            return
        data = _describe(opened, show_program)
        if as_json:
            output.print_json(data)
        else:
            _show(opened, data)


def _quantization(bundle: Any, plot: Path | None, as_json: bool) -> None:
    from edgeml.cli import quantization as tables

    report = tables.of_bundle(bundle)
    if plot is not None:
        from edgeml.cli.quantization_plot import write

        if plot.resolve() == Path(bundle.path).resolve():
            raise InputError(f"--plot {plot} is the bundle", "write to another file")
        manifest = bundle.manifest
        with tables.as_written():
            write(report, f"{manifest['name']} version {manifest['version']}", plot)
        output.note(f"{plot} is written")
    if as_json:
        output.print_json(report)
    else:
        with tables.as_written():
            tables.show(report)


def _describe(bundle: Any, with_program: bool) -> dict[str, Any]:
    manifest = bundle.manifest
    data = {
        "path": str(bundle.path),
        "bytes": bundle.path.stat().st_size,
        "manifest": manifest,
        "schema": bundle.schema.to_json(),
        "sizes": {name: len(bundle.member(name)) for name in bundle.names},
        "report": bundle.json("report.json") if "report.json" in bundle else {},
        "signature": _signature(bundle),
    }
    if with_program:
        data["program"] = _program_text(bundle)
    return data


def _signature(bundle: Any) -> dict[str, Any]:
    if "signature.json" not in bundle:
        return {"signed": False, "key_id": None, "checked": False}
    return {
        "signed": True,
        "key_id": bundle.signed_by or str(bundle.json("signature.json").get("key_id")),
        "checked": bundle.signed_by is not None,
    }


def _program_text(bundle: Any) -> str | None:
    """The printed program of the native artifact, None where there is none."""
    from edgeml.ir.printer import to_text

    if "native/program.json" not in bundle:
        return None
    from edgeml.bundle.arrays import unpack
    from edgeml.ir.coded import FIRST, tables_from_json
    from edgeml.ir.compact import restore
    from edgeml.ir.serial import load

    description = bundle.json("native/program.json")
    try:
        stored = unpack(description["arrays"], bundle.member("native/arrays.bin"))
        program = load(description["program"], restore(description["recipes"], stored))
        vocabulary = tables_from_json(program, description["strings"]).vocabulary
    except (KeyError, TypeError) as error:
        raise ManifestError(f"native/program.json is malformed: {error!r}", "compile the pipeline again") from None
    text = to_text(program)
    if not vocabulary:
        return text
    shown = ", ".join(f"{FIRST + i} {word!r}" for i, word in enumerate(vocabulary[:_MOST_WORDS]))
    more = f", … {len(vocabulary)} in all" if len(vocabulary) > _MOST_WORDS else ""
    return f"{text}\nstrings are int64 codes: {shown}{more}"


def _show(bundle: Any, data: dict[str, Any]) -> None:
    from edgeml.cli import describe, quantization

    manifest, sizes = bundle.manifest, data["sizes"]
    output.line(f"{data['path']}  {output.size(data['bytes'])}")
    output.line(f"{manifest['name']} version {manifest['version']}: {manifest['estimator']}")
    output.line(_signature_line(data["signature"]))
    describe.schema(bundle.schema)
    methods = [(name, m["form"], m["dtype"]) for name, m in manifest["methods"].items()]
    output.table("Methods", ("method", "result", "dtype"), methods)
    if manifest["classes"] is not None:
        several = several_outputs(manifest["classes"])
        for number, found in enumerate(manifest["classes"] if several else [manifest["classes"]]):
            labels = [repr(label) for label in found[:10]]
            more = f" and {len(found) - 10} more" if len(found) > 10 else ""
            output.line(f"  classes{f' of output {number}' if several else ''}: {', '.join(labels)}{more}")
    describe.artifacts(manifest)
    output.table("Members", ("member", "size"), [(name, output.size(count)) for name, count in sizes.items()])
    with quantization.as_written():
        describe.quantisation(data["report"])
        describe.parity(data["report"])
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    output.title("Made with")
    output.paragraph(versions)
    if "program" in data:
        output.title("Program")
        output.line(data["program"] or "  the bundle has no native artifact, and only that holds the program")


def _signature_line(signature: dict[str, Any]) -> str:
    if not signature["signed"]:
        return "not signed"
    state = "checked" if signature["checked"] else "not checked: give --public-key"
    return f"signed by key {signature['key_id']} ({state})"
