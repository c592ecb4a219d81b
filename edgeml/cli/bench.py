"""``edgeml bench``: the engines of a bundle side by side, and beside scikit-learn when the pipeline is given.

Here is what the command takes and what is wrong with it. bench_run.py measures; bench_show.py prints the tables and
bench_file.py writes the file; ``edgeml bench compare`` is bench_compare.py.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from edgeml.cli import options, output
from edgeml.cli.bench_compare import command as compare
from edgeml.cli.results import new_file
from edgeml.errors import InputError

BATCHES = (100, 10_000)


class _Bench(click.Group):
    """``edgeml bench BUNDLE`` measures; ``edgeml bench compare`` is a command of its own. A bundle that is called
    "compare" is given as ./compare.
    """

    allow_extra_args = False  # a word after BUNDLE is a mistake, and no command
    allow_interspersed_args = True  # options may follow BUNDLE

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        command = self.commands.get(args[0]) if args else None
        if command is not None:
            return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return click.Command.collect_usage_pieces(self, ctx)


@click.group(cls=_Bench, invoke_without_command=True, short_help="Measure engines side by side, and compare machines.")
@options.bundle_argument
@click.option(
    "--data",
    type=options.FILE,
    help="Raw rows to measure with: CSV, TSV, Parquet or JSON lines. Default: the golden rows of the bundle.",
)
@click.option(
    "--pipeline",
    type=options.FILE,
    help="Measure this pipeline too (.skops is safe; .joblib and .pkl run code).",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME",
    help="An engine: native, onnx, tflite, or numpy for native without compiled kernels. Repeatable. "
    "Default: all that the bundle has an artifact for.",
)
@click.option(
    "--batch",
    "batches",
    type=click.IntRange(1, 10_000_000),
    multiple=True,
    default=BATCHES,
    show_default=True,
    help="Rows of a batch; the data is repeated to fill it. Repeatable.",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    multiple=True,
    help="Threads an engine may use. Repeatable. "
    "Default: what the device profile says that the bundle was compiled for.",
)
@click.option("--method", help="What to compute. Default: predict, or the first method there is.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.0, max=3600.0, min_open=True),
    default=0.5,
    show_default=True,
    help="How long each engine is timed with single rows, and with each batch.",
)
@click.option("--label", help="What to call this machine. Default: its CPU and four digits.")
@click.option("-o", "--output", "target_path", type=options.FILE, help="Write the run to this .json file.")
@options.drop_option
@options.trust_option
@options.json_option
def command(
    bundle: Path,
    data: Path | None,
    pipeline: Path | None,
    engines: tuple[str, ...],
    batches: tuple[int, ...],
    threads: tuple[int, ...],
    method: str | None,
    seconds: float,
    label: str | None,
    target_path: Path | None,
    drop: tuple[str, ...],
    trust: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure what a BUNDLE does on this machine: one row, batches, loading, first answer, memory, bytes.

    Every engine's answers are compared first. Then engines take turns, so that whatever disturbs the machine slows
    all alike; ratios of one run mean something, absolute times are this machine's. docs/benchmarks.md describes the
    file that -o writes. A bundle called "compare" is given as ./compare.

    \b
    Examples:
      edgeml bench model.edgeml
      edgeml bench model.edgeml --data test.csv --drop target \\
        --pipeline model.skops -o laptop.json
      edgeml bench compare laptop.json board.json
    """
    from edgeml.cli import bench_file, bench_run, bench_show

    if target_path is not None and target_path.suffix.lower() != ".json":
        raise InputError(f"-o {target_path}: a run is written as .json", "name the file so")
    for name, path in (("BUNDLE", bundle), ("--data", data), ("--pipeline", pipeline)):
        if target_path is not None and path is not None and target_path.resolve() == path.resolve():
            raise InputError(f"-o {target_path} is an input file, {name}", "write to another file")
    if not seconds > 0:  # NaN passes a range
        raise InputError(f"--seconds {seconds}: a number above 0 is due", "such as 0.5")
    if label is not None and not (label.strip() and label.isprintable() and len(label) <= 80):
        raise InputError(f"--label {label!r:.100}: a name of 1 to 80 printable characters is due", "choose another")
    if drop and data is None:
        raise InputError(f"--drop {drop[0]}: the golden rows have no column to leave out", "give --data too")
    if trust and pipeline is None:
        raise InputError(f"--trust {trust[0]}: there is no pipeline to be loaded", "give --pipeline too")
    order = bench_run.Order(
        bundle, data, pipeline, engines, tuple(dict.fromkeys(batches)), tuple(dict.fromkeys(threads)), method, seconds,
        label, drop, trust,
    )  # fmt: skip
    with ExitStack() as stack:
        # A file that cannot be written is found out before anything is measured.
        file = None if target_path is None else stack.enter_context(new_file(target_path))
        with output.progress("measuring") as say:
            run = bench_run.measure(order, say)
        if file is not None:
            file.write(bench_file.encode(run))
    if as_json:
        output.print_json(run)
    else:
        bench_show.show(run)
    bench_show.warn(run)
    if target_path is not None:
        output.note(f"{target_path} is written")


command.add_command(compare, "compare")
