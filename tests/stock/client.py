"""Asks the worker process: a model's bytes and named arrays in, named arrays out. Started at the first request.

``bundles.py`` asks it about the models in a bundle. One process serves a whole test session and ends with it; what a
request costs besides the runtime's own work is some tenths of a millisecond.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.stock import worker

SECONDS = 120.0  # after which a request counts as hung


class StockError(Exception):
    """The runtime's own words, or how the process ended."""


class Worker:
    """The process. A runtime that takes it down costs one error; the next request starts another."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()  # its current folder, with what the runtimes print

    def ask(self, head: dict[str, Any], arrays: Any = (), model: bytes = b"") -> tuple[Any, dict[str, Any]]:
        """(facts, arrays by name). Raises StockError."""
        process = self._started()
        timer = threading.Timer(SECONDS, process.kill)
        timer.start()
        try:
            worker.send(process.stdin, head, arrays, model)
            answer, results, _ = worker.receive(process.stdout)
        except (EOFError, BrokenPipeError):
            code = process.wait()
            words = " | ".join((self._folder / "stderr").read_text(errors="replace").split("\n")[:5])
            raise StockError(f"the process ended with code {code}: {words}") from None
        finally:
            timer.cancel()
        if "error" in answer:
            raise StockError(answer["error"])
        return answer["facts"], results

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._folder = Path(tempfile.mkdtemp(prefix="edgeml-stock-"))
            command = [sys.executable, "-I", "-S", worker.__file__, sysconfig.get_paths()["purelib"]]
            with open(self._folder / "stderr", "wb") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=self._folder
                )
        return self._process

    def close(self) -> None:
        """End the process. Another request starts it again."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # of a request that the process did not live to read
            self._process.stdin.close()
        self._process.wait(SECONDS)
        self._process.stdout.close()
        self._process = None
        shutil.rmtree(self._folder)


WORKER = Worker()
atexit.register(WORKER.close)


def onnx(model: bytes, feeds: dict[str, Any], *, rows: int | None = None) -> dict[str, Any]:
    """Every output of an ONNX model on the CPU provider, one thread, ``rows`` at a time. Raises StockError."""
    return WORKER.ask({"kind": "onnx", "rows": rows}, feeds.items(), model)[1]


def tflite(model: bytes, feeds: dict[str, Any], signature: str = "serve", *, rows: int | None = None) -> dict[str, Any]:
    """Every output of a signature of a TFLite model, one thread, ``rows`` at a time. Raises StockError."""
    return WORKER.ask({"kind": "tflite", "signature": signature, "rows": rows}, feeds.items(), model)[1]


def about(*names: str) -> dict[str, Any]:
    """``errors`` (None or the error of importing each name there), ``modules``, ``files`` and ``pid``."""
    facts: dict[str, Any] = WORKER.ask({"kind": "about", "names": names})[0]
    return facts
