"""Folds SQLite's write-ahead log into the database beside the thread that writes batches.

A commit that also had to fold the log in took 130 to 240 ms on a busy disk, and 333 batches a second waited for it.
Here a connection of its own does it, often and in small parts, while commits go on. Started by ``monitor.py``;
PostgreSQL does the same by itself.
"""

from __future__ import annotations

import logging
import threading

from edgeml.errors import MonitorDatabaseError
from edgeml.fleet.store import Store

log = logging.getLogger("edgeml.monitor")
_EVERY_SECONDS = 0.1


class CheckpointThread:
    """Works while a server runs. What fails is tried again; if it never works, commits fold the log in themselves."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeml-checkpoint", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        failed = ""
        while not self._stop.wait(_EVERY_SECONDS):
            try:
                self._store.checkpoint()
                failed = ""
            except MonitorDatabaseError as error:
                if error.cause != failed:
                    log.warning("the write-ahead log was not folded in: %s", error.cause)
                failed = error.cause
