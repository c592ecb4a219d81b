"""Fork: files of open spools are closed before, so that a child inherits no connection to a database.

SQLite's locks belong to a process, but what it remembers of them is copied by a fork: a child that used, or even only
opened anew, a database its parent has open would believe that it holds locks it does not have, and the parent could
remove the log under it. ``spool_file`` watches its files here.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol


class Forkable(Protocol):
    def before_fork(self) -> bool:
        """Let go of what a child must not inherit; whether ``after_fork`` is to be called."""

    def after_fork(self) -> None:
        """In the parent and in the child, when ``before_fork`` said so."""

    def after_blind_fork(self) -> None:
        """In a child of a fork that ``before_fork`` did not come before, or could not prepare."""


_watched: weakref.WeakSet[Forkable] = weakref.WeakSet()
_forking = threading.local()


def watch(file: Forkable) -> None:
    """Prepare forks of this process for ``file``, as long as it is referred to."""
    _watched.add(file)


def _before() -> None:
    _forking.held = [file for file in list(_watched) if file.before_fork()]


def _after() -> None:
    for file in _forking.__dict__.pop("held", []):
        file.after_fork()


def _after_in_child() -> None:
    _after()
    for file in list(_watched):
        file.after_blind_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after_in_child)
