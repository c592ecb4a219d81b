"""The group of commands, and what becomes of errors: cause then remedy on stderr, and an exit code.

0 done, 1 a check said no, 2 bad usage or input, 3 a fault of ours, 130 interrupted. A command's module is
imported when the command is asked for, so ``edgeml inspect`` on a device loads no compiler.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from edgeml._version import __version__
from edgeml.cli.output import color, printable
from edgeml.errors import EdgeMLError

# In the order of a first use. A command is a module of this package with an attribute ``command``.
COMMANDS = ("demo", "compile", "inspect", "verify", "predict", "bench", "warm", "devices", "keys", "agent", "monitor")
INTERRUPTED = 130
DEBUG_VARIABLE = "EDGEML_DEBUG"

# Import name -> what to install, where the two differ or an extra of ours holds the package.
_INSTALL = {
    **dict.fromkeys(
        ("pandas", "sklearn", "scipy", "skops", "joblib", "skl2onnx", "onnx", "onnx_ir"),
        "'edgeml-sdk[compile]'",
    ),
    "onnxruntime": "'edgeml-sdk[onnx]'",
    "numba": "'edgeml-sdk[kernels]'",
    **dict.fromkeys(("ai_edge_litert", "flatbuffers"), "'edgeml-sdk[tflite]'"),
    "matplotlib": "'edgeml-sdk[plot]'",
    **dict.fromkeys(
        (
            "alembic",
            "fastapi",
            "httptools",
            "orjson",
            "prometheus_client",
            "psycopg",
            "pydantic",
            "sqlalchemy",
            "starlette",
            "uvicorn",
            "uvloop",
        ),
        "'edgeml-sdk[monitor]'",
    ),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"edgeml.cli.{cmd_name}").command
        return command

    def main(self, args: Sequence[str] | None = None, **options: Any) -> NoReturn:  # type: ignore[override]  # click's returns Any; this never does
        """Run a command and exit; this is the one place that knows about exit codes."""
        options["standalone_mode"] = False
        code = 0
        try:
            with warnings.catch_warnings():
                # What a library warns of while it answers is no part of ours; -W and the variable bring it back.
                if not sys.warnoptions and not os.environ.get(DEBUG_VARIABLE):
                    warnings.simplefilter("ignore")
                # With standalone_mode off, --help and ctx.exit come back as their code.
                result = super().main(args, **options)
            code = result if isinstance(result, int) else 0
        except BaseException as error:
            code = _report(error)
        sys.exit(code)


def _report(error: BaseException) -> int:
    """Say what went wrong on stderr; the exit code."""
    if os.environ.get(DEBUG_VARIABLE) and not isinstance(error, (click.ClickException, SystemExit)):
        traceback.print_exception(error)
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else 1
        case click.exceptions.Exit():
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            _say("interrupted", "no file was changed")
            return INTERRUPTED
        case click.ClickException():
            error.show(sys.stderr)
            return 2
        case EdgeMLError():
            _say(error.cause, error.remedy)
            return error.exit_code
        case ModuleNotFoundError() if error.name and not error.name.startswith("edgeml"):
            package = error.name.partition(".")[0]
            _say(f"the package {package} is not installed", f"pip install {_INSTALL.get(package, package)}")
            return 2
        case OSError() if error.filename is not None:
            _say(f"{error.filename}: {error.strerror or type(error).__name__}", _os_remedy(error))
            return 2
        case _:
            _say(
                f"internal error: {type(error).__name__}: {error}",
                f"this is a fault of EdgeML; set {DEBUG_VARIABLE}=1 for the traceback and report it",
            )
            return 3


def _os_remedy(error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return "check the path"
        case PermissionError():
            return "check the permissions of the file and its folder"
        case IsADirectoryError():
            return "give the path of a file"
        case _:
            return ""


def _say(cause: str, remedy: str) -> None:
    first, *more = printable(cause).splitlines() or [""]
    click.echo(click.style("error: ", fg="red", bold=True) + first, err=True, color=color())
    for line in [*more, *printable(remedy).splitlines()]:
        click.echo(f"  {line}", err=True)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="edgeml")
def cli() -> None:
    """Fit in scikit-learn; get one file that gives the same answers in microseconds on any device.

    \b
    Start with:
      edgeml demo
      edgeml compile churn.skops --data train.csv --target-column churned \\
        -o churn.edgeml
      edgeml predict churn.edgeml new.csv
    """
