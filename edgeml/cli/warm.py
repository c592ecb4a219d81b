"""``edgeml warm``: compile the kernels before the first application needs them, and say where they are kept."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from edgeml.cli import options, output


@click.command(short_help="Fill the cache of compiled kernels.")
@click.argument("bundles", type=options.FILE, nargs=-1, metavar="[BUNDLE]...")
@click.option("--check", is_flag=True, help="Compile nothing; say whether the cache is warm, exit code 1 where not.")
@options.json_option
def command(bundles: tuple[Path, ...], check: bool, as_json: bool) -> None:
    """Compile the kernels of the native engine into the cache, once a machine and a version of EdgeML: some 30 s.

    Every later start finds them there and needs neither Numba nor llvmlite. The folder is EDGEML_CACHE_DIR, or the
    platform's folder for caches. What lies there is a shared library like any other: EDGEML_KERNELS can name it.

    With each BUNDLE the native engine also answers its golden rows once. The exit code is 1 when the kernels cannot be
    compiled or kept, when --check finds a cold cache, and when an answer differs.

    \b
    Examples:
      edgeml warm
      edgeml warm model.edgeml
      edgeml warm --check --json
    """
    from edgeml.errors import EngineError
    from edgeml.runtimes.kernels import library

    start = time.perf_counter()
    with output.progress("kernels") as say:
        say("looking for the kernels" if check else "compiling the kernels", 0.1)
        try:
            found = library.warm(make=not check)
        except EngineError as error:
            if as_json:
                output.print_json({"kept": False, "cause": error.cause, "remedy": error.remedy})
            raise
    assert found.path is not None
    record: dict[str, Any] = {
        "kept": True,
        "warm": found.source != "Numba",
        "path": str(found.path),
        "bytes": found.path.stat().st_size,
        "seconds": time.perf_counter() - start,
    }
    record["bundles"] = [_answer(path) for path in bundles]
    if as_json:
        output.print_json(record)
    else:
        _show(record)
    if not all(bundle["passed"] for bundle in record["bundles"]):
        raise click.exceptions.Exit(1)


def _answer(path: Path) -> dict[str, Any]:
    """Open a bundle and let it answer its golden rows."""
    from edgeml.errors import VerificationError
    from edgeml.runtimes.verify import verify

    start, reason = time.perf_counter(), None
    try:
        verify(path, engine="native")
    except VerificationError as error:
        reason = error.cause
    return {"path": str(path), "passed": reason is None, "reason": reason, "seconds": time.perf_counter() - start}


def _show(record: dict[str, Any]) -> None:
    did = "were warm" if record["warm"] else "compiled"
    output.line(f"kernels {did}: {output.size(record['bytes'])} in {output.seconds(record['seconds'])}")
    output.line(f"  {record['path']}")
    for bundle in record["bundles"]:
        said = "answers its golden rows" if bundle["passed"] else bundle["reason"]
        output.line(f"{bundle['path']}: {said} ({output.seconds(bundle['seconds'])})")
