"""Options that the commands of ``edgeml agent`` share, and what they amount to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeml.cli import options, output

if TYPE_CHECKING:
    from edgeml.telemetry.agent_settings import AgentSettings
    from edgeml.telemetry.spool import Spool

Command = Callable[..., Any]

spool_option = click.option(
    "--spool",
    "folder",
    type=options.FILE,
    metavar="FOLDER",
    help="The folder that models record to. Default: the variable EDGEML_TELEMETRY.",
)
key_option = click.option(
    "--key",
    type=options.FILE,
    help="File with the key the spool is encrypted with. Default: EDGEML_TELEMETRY_KEY, else spool.key in the folder.",
)
identity_option = click.option(
    "--identity", type=options.FILE, metavar="FOLDER", help="Where the device's own key is. Default: FOLDER/identity."
)


def connection_options(function: Command) -> Command:
    """How to reach the monitor: for every command that sends."""
    for option in reversed(
        (
            click.option(
                "--server",
                metavar="URL",
                help="The monitor. Default: EDGEML_TELEMETRY_SERVER, else where the device is enrolled.",
            ),
            click.option(
                "--token-file", type=options.FILE, help="File with an enrolment token. Default: EDGEML_TELEMETRY_TOKEN."
            ),
            click.option("--token", help="An enrolment token. Others on the device can see it: prefer --token-file."),
            click.option("--ca", type=options.FILE, help="Trust the CA certificates in this file or folder only."),
            click.option(
                "--cert", type=options.FILE, help="Client certificate, where the monitor asks for one (mTLS)."
            ),
            click.option("--cert-key", type=options.FILE, help="Its private key, when it is in a file of its own."),
            click.option(
                "--insecure-http", is_flag=True, help="Allow plain http:// to another machine: anyone can read it."
            ),
            click.option("--name", default="", help="What the monitor calls the device. Default: its host name."),
            click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Of the device. Repeatable."),
        )
    ):
        function = option(function)
    return function


@dataclass
class Place:
    """A spool's folder, and the key it is opened with."""

    folder: Path
    key: Path | None

    def open(self) -> Spool:
        """The spool, whose folder must exist. Raises AgentError, SpoolError."""
        from edgeml.errors import AgentError
        from edgeml.telemetry.spool import Spool

        if not self.folder.is_dir():
            raise AgentError(
                f"there is no folder {self.folder}",
                "give the folder that model.record_to(...) got, and run as a user who may read it",
            )
        return Spool(self.folder, key=self.key, on_note=output.note)


def place(folder: Path | None, key: Path | None) -> Place:
    """The spool's place from the options, or from the environment. Raises AgentError without any."""
    from edgeml.errors import AgentError
    from edgeml.telemetry.settings import FOLDER_VARIABLE

    named = os.environ.get(FOLDER_VARIABLE)
    if folder is None and not named:
        raise AgentError("no spool is given", f"give --spool FOLDER, or set {FOLDER_VARIABLE}")
    return Place(folder or Path(str(named)), key)


def settings(
    identity: Path | None,
    *,
    server: str | None,
    token: str | None,
    token_file: Path | None,
    labels: tuple[str, ...],
    **more: Any,
) -> AgentSettings:
    """What the options of a command that sends amount to. Raises AgentError."""
    from edgeml.errors import AgentError
    from edgeml.telemetry.agent_settings import AgentSettings, read_token
    from edgeml.telemetry.settings import SERVER_VARIABLE

    pairs: dict[str, str] = {}
    for label in labels:
        name, equals, value = label.partition("=")
        if not (equals and label.isprintable() and 0 < len(name) <= 100 and 0 < len(value) <= 100):
            raise AgentError(
                f"the label {label[:80]!r} is not KEY=VALUE of 1 to 100 characters each", "write --label site=bern"
            )
        pairs[name] = value
    return AgentSettings(
        server=server or os.environ.get(SERVER_VARIABLE) or None,
        token=read_token(token, token_file),
        identity=identity,
        labels=pairs,
        **more,
    )
