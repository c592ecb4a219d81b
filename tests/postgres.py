"""A real PostgreSQL server for tests and benchmarks: Debian's own, in a temporary folder, reached by a Unix socket.

``Server`` starts one and stops it; ``conftest.py`` of the unit tests has one for the session. Where PostgreSQL is not
installed ``binaries`` gives None, and what needs it is skipped and says so.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import psycopg

from tests.waiting import PATIENCE

_PR_SET_PDEATHSIG = 1
_NUMBERS = itertools.count()


def binaries() -> Path | None:
    """The folder of the newest PostgreSQL's programs, or None."""
    found = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if found:
        return max(found, key=lambda folder: int(folder.parent.name) if folder.parent.name.isdigit() else 0)
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


class Server:
    """A running server. ``durable`` keeps fsync on, for tests that kill it; ``restart`` starts it on the same data."""

    def __init__(self, *, durable: bool = False) -> None:
        folder = binaries()
        if folder is None:
            raise RuntimeError("PostgreSQL is not installed")
        self._bin = folder
        # PostgreSQL refuses to run as root; Debian's package has made a user for it.
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        # Not in pytest's folder: the path of a Unix socket has 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="edgeml-pg-"))
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._options = [] if durable else ["-c", "fsync=off", "-c", "full_page_writes=off"]
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._run(
                "initdb", "-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8",
                "--locale=C.UTF-8", "--no-sync",
            )  # fmt: skip
            self.restart()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """The URL of a database that is empty."""
        name = f"test_{next(_NUMBERS)}"
        with psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        name = url.partition("@/")[2].partition("?")[0]
        with psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def restart(self) -> None:
        """Start it, after a ``kill`` too."""
        log = open(self.folder / "log", "ab")  # noqa: SIM115 - the child has it, ours is closed below
        try:
            self._process = subprocess.Popen(
                [
                    str(self._bin / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder),
                    "-c", "listen_addresses=", "-c", "max_connections=100", *self._options,
                ],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=_end_with_parent, **self._as_user(),
            )  # fmt: skip
        finally:
            log.close()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()[-2000:]) from None
                time.sleep(0.02)  # it tells nobody when it is ready

    def kill(self) -> None:
        """SIGKILL, as when the power goes. Its children notice and end."""
        self._end(signal.SIGKILL)

    def down(self) -> None:
        """Stop it in order; ``restart`` brings it back."""
        self._end(signal.SIGINT)

    def stop(self) -> None:
        """Stop it for good."""
        self._end(signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / program), *arguments], capture_output=True, check=False, **self._as_user()
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.decode(errors='replace')[-2000:]}")

    def _as_user(self) -> dict[str, object]:
        if self._user is None:
            return {}
        # Its own folder: the tests' may be closed to it.
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": [], "cwd": self.folder}


def _end_with_parent() -> None:
    # A test run that is killed takes its server along.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
