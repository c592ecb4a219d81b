"""``edgeml devices``: the device profiles that ``compile --target`` takes."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from edgeml.cli import options, output

if TYPE_CHECKING:
    from edgeml.targets.devices import Device


@click.command(short_help="List the device profiles to compile for.")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@options.json_option
def command(names: tuple[str, ...], as_json: bool) -> None:
    """List the device profiles that compile takes as --target, or those of the NAMEs given.

    A profile says which formats a device runs, whether static int8 activations are tried, which TFLite runtime it has
    and how large an artifact may be. A profile of your own is a TOML file with the keys that --json shows, but name and
    default_max_bytes; keys that are left out take the values of generic. Its path is its NAME.

    \b
    Examples:
      edgeml devices
      edgeml devices cortex-a7 ./my-board.toml --json
      edgeml compile churn.skops --data train.csv --target-column churned \\
        -o churn.edgeml --target ./my-board.toml
    """
    from edgeml.targets.devices import DEVICES, device

    found = [device(name) for name in names or DEVICES]
    if as_json:
        output.print_json([asdict(d) | {"default_max_bytes": d.default_max_bytes} for d in found])
    else:
        show(found)


def show(found: list[Device]) -> None:
    """The profiles as a table, and what the columns mean."""
    rows = [
        (
            d.name,
            ", ".join(d.formats),
            "yes" if d.int8 else "no",
            d.tflite_runtime,
            None if d.default_max_bytes is None else output.size(d.default_max_bytes),
            d.threads,
        )
        for d in found
    ]
    output.table("Device profiles", ("target", "formats", "int8", "tflite by", "max size", "threads"), rows)
    output.title("Devices")
    for d in found:
        output.paragraph(f"{d.name}: {'; '.join(part for part in (d.description, d.cpu) if part) or 'no description'}")
    output.line()
    output.paragraph(
        "int8: whether grids for activations, found in the sample, are tried; max size: what a quantised "
        "artifact may have where --budget names no max_bytes"
    )
