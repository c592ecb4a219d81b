"""Options and arguments that several commands share, so that they are spelt and explained alike."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(path_type=Path)

bundle_argument = click.argument("bundle", type=FILE)

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as JSON on stdout, and nothing else."
)

engine_option = click.option(
    "--engine",
    default="auto",
    show_default=True,
    help="What runs the model: native, onnx, tflite, or auto for the first that the bundle holds.",
)

trust_option = click.option(
    "--trust",
    multiple=True,
    metavar="TYPE",
    help="A type that a .skops pipeline may load beside scikit-learn's own. Repeatable.",
)

drop_option = click.option(
    "--drop",
    multiple=True,
    metavar="COLUMN",
    help="A column of the data file to leave out, such as the target or an id. Repeatable.",
)

dtype_option = click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    metavar="COLUMN=KIND",
    help="Read a CSV column as float64, int64, bool or string, whatever its cells look like. Repeatable.",
)

public_key_option = click.option(
    "--public-key",
    multiple=True,
    type=FILE,
    help="The bundle must be signed by this Ed25519 key (or one of several: repeatable).",
)
