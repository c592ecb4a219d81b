"""Measures a bundle: opens the engines, has their answers compared, times them by turns, and fills in the record.

Comes in: an ``Order``, the options of ``edgeml bench``; goes out: a run as bench_file.FIELDS has it. Contenders and the
comparison of their answers are in bench_contenders.py, rows in bench_rows.py, the machine in bench_machine.py.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from edgeml.cli import bench_contenders as who
from edgeml.cli import bench_file, bench_machine, bench_rows, output, timing
from edgeml.cli.bench_contenders import Contender
from edgeml.cli.bench_machine import Noise
from edgeml.errors import EngineError, EngineNotInstalledError, InputError
from edgeml.jsonutil import dumps

_LOADS, _STARTS = 5, 3
# Parts of the whole at which a stage ends, for the progress bar.
_COMPARED, _TIMED, _LOADED = 0.05, 0.7, 0.75


@dataclass(frozen=True)
class Order:
    """What to measure. ``data`` None: the golden rows. ``engines`` empty: all. ``threads`` empty: the device's."""

    bundle: Path
    data: Path | None
    pipeline: Path | None
    engines: Sequence[str]
    batches: Sequence[int]
    threads: Sequence[int]
    method: str | None
    seconds: float
    label: str | None
    drop: Sequence[str]
    trust: Sequence[str]


def measure(order: Order, say: output.Say) -> dict[str, Any]:
    """The record of a run. Raises InputError, EngineError or BundleError for what cannot be measured."""
    with ExitStack() as stack:
        try:
            return _Run(order).measure(say, stack)
        except MemoryError:
            raise InputError(
                f"there is not enough memory for batches of {max(order.batches)} rows", "give a smaller --batch"
            ) from None


class _Run:
    """One benchmark, from what was ordered to the record."""

    def __init__(self, order: Order) -> None:
        from edgeml.bundle import open_bundle

        self.order, self.path = order, order.bundle
        with open_bundle(self.path) as opened:
            self.manifest, self.schema = opened.manifest, opened.schema
            self.method = _method(self.manifest, order.method)
            self.names = who.chosen(order.engines, self.manifest, self.path)
            self.rows = bench_rows.read(opened, order.data, order.drop, max(*order.batches, bench_rows.MOST_SINGLE))
            report = opened.json("report.json") if "report.json" in opened else {}
            self.bounds: Mapping[str, Any] = report.get("bounds", {}) if isinstance(report, dict) else {}
        self.threads = list(order.threads) or [_threads(self.manifest)]
        self.estimator: Any = None
        if order.pipeline is not None:
            from edgeml.cli.load_pipeline import load_pipeline

            self.estimator = load_pipeline(order.pipeline, order.trust)
            if not hasattr(self.estimator, self.method):
                raise InputError(
                    f"{order.pipeline} has no method {self.method}", "give the pipeline the bundle was compiled from"
                )

    def measure(self, say: output.Say, stack: ExitStack) -> dict[str, Any]:
        """The record of the run, as bench_file.FIELDS has it."""
        noise = bench_machine.Noise()
        entries, ready = self._open(say, stack)
        times = self._time(ready, noise, say)
        for contender in ready:
            entries[contender.name]["runs"] += [
                _figures(rows, contender.threads, times[contender.name, contender.threads, rows])
                for rows in (0, *self.order.batches)
            ]
        engines = [name for name in entries if any(c.name == name and c.model is not None for c in ready)]
        self._load(engines, entries, noise, say)
        start = self._start(engines, entries, noise, say)
        machine = bench_machine.machine()
        return {
            "format": bench_file.FORMAT,
            "label": self.order.label or bench_machine.label(machine["cpu"]),
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "bundle": self._bundle(),
            "settings": {
                "method": self.method,
                "rows_from": self.rows.source,
                "distinct_rows": self.rows.count,
                "rows_sha256": self.rows.digest(),
                "batches": list(self.order.batches),
                "threads": self.threads,
                "seconds": self.order.seconds,
                "fast": os.environ.get("EDGEML_FAST") or None,
            },
            "machine": machine,
            "software": bench_machine.software(),
            "noise": noise.report(),
            "timer_s": _timer(),
            "numpy": start,
            "engines": list(entries.values()),
        }

    # --- contenders
    def _open(self, say: output.Say, stack: ExitStack) -> tuple[dict[str, dict[str, Any]], list[Contender]]:
        """An entry of the record for each engine, and the contenders that are ready: what cannot run, or refuses the
        rows, has its problem in its entry.
        """
        entries: dict[str, dict[str, Any]] = {}
        opened: list[Contender] = []
        for name in self.names:
            size = self.manifest["artifacts"][who.artifact_of(name)]["bytes"]
            entries[name] = _entry(name, size)
            try:
                for count in self.threads:
                    found = who.engine(self.path, name, count, self.method, self.rows)
                    if found.model is not None:
                        stack.callback(found.model.close)
                    entries[name]["kernels"] = found.kernels
                    opened.append(found)
            except EngineError as error:
                if self.order.engines:
                    raise
                entries[name]["problem"] = who.refusal(error)
        if not opened:
            problems = "; ".join(str(entry["problem"]) for entry in entries.values())
            raise EngineNotInstalledError(f"no engine of {self.path} can run here: {problems}")
        methods = list(self.manifest["methods"])
        against = who.reference(opened[0], self.estimator, self.rows, methods, self.bounds, self.method)
        if self.estimator is not None and self.order.pipeline is not None:
            name = who.SKLEARN
            entries = {name: _entry(name, self.order.pipeline.stat().st_size), **entries}
            opened.insert(0, who.scikit_learn(self.estimator, self.method, self.rows))
        # Every row that will be timed, so that none is refused then.
        largest = max(*self.order.batches, min(self.rows.count, bench_rows.MOST_SINGLE))
        for at, contender in enumerate(opened):
            say(f"comparing the answers of {contender.name}", _COMPARED * at / len(opened))
            answers = who.agreement(contender, against, self.rows, self.method, largest)
            entry = entries[contender.name]
            entry["agreement"] = _worse(entry["agreement"], answers)
            if answers.pop("refused"):
                entry["problem"] = "; ".join(answers["problems"])
        return entries, [c for c in opened if entries[c.name]["problem"] is None]

    # --- times
    def _time(self, ready: Sequence[Contender], noise: Noise, say: output.Say) -> dict[tuple[Any, ...], timing.Times]:
        """Seconds by engine, threads and rows; 0 rows are a single one by the way for single rows."""
        times: dict[tuple[Any, ...], timing.Times] = {}
        sizes = (0, *self.order.batches)
        for at, rows in enumerate(sizes):
            what = f"batches of {rows}" if rows else "single rows"
            calls = {(c.name, c.threads, rows): _call(c, rows) for c in ready}

            def between(done: float, at: int = at, what: str = what) -> None:
                noise.look()
                say(f"timing {what}", _COMPARED + (_TIMED - _COMPARED) * (at + done) / len(sizes))

            times |= timing.take_turns(calls, self.order.seconds, between)
        return times

    def _load(self, names: Sequence[str], entries: Mapping[str, Any], noise: Noise, say: output.Say) -> None:
        """Fill in the median time to load in this process, where libraries are imported already."""

        def loading(name: str) -> Callable[[int], Any]:
            return lambda _: who.open_engine(self.path, name, self.threads[0]).close()

        def between(done: float) -> None:
            noise.look()
            say("timing how engines load", _TIMED + (_LOADED - _TIMED) * done)

        found = timing.take_turns({name: loading(name) for name in names}, self.order.seconds / 2, between, _LOADS)
        for name, times in found.items():
            entries[name]["load_s"] = timing.figures(times)["p50_s"]

    def _start(self, names: Sequence[str], entries: Mapping[str, Any], noise: Noise, say: output.Say) -> dict[str, Any]:
        """Fill in first answer and memory of a process of its own; those of Python with NumPy alone are returned.

        The first process of an engine fills the caches and does not count.
        """
        one, as_list = bench_rows.one_method(self.method)
        row = self.rows.single(1)[0]
        starts: dict[str, list[timing.Start]] = {"": [], **{name: [] for name in names}}
        for number in range(1 + _STARTS):
            for at, (name, found) in enumerate(starts.items()):
                part = (number + at / len(starts)) / (1 + _STARTS)
                say(f"starting a process with {name or 'NumPy'}", _LOADED + (1 - _LOADED) * part)
                engine = "native" if name == who.NUMPY else name
                path = os.path.abspath(self.path) if name else ""
                try:
                    start = timing.first_answer(path, engine, one, [row] if as_list else row, who.kernels_of(name))
                except RuntimeError as error:
                    if not number:
                        output.note(f"note: no first answer of {name or 'NumPy'} was measured: {error}")
                    continue
                noise.look()
                if number:
                    found.append(start)
        bare = _middle([s.peak_bytes for s in starts[""]])
        for name in names:
            peak = _middle([s.peak_bytes for s in starts[name]])
            entries[name]["first_answer_s"] = _middle([s.seconds for s in starts[name]])
            entries[name]["peak_bytes"] = peak
            entries[name]["above_numpy_bytes"] = None if peak is None or bare is None else peak - bare
        return {"start_s": _middle([s.seconds for s in starts[""]]), "peak_bytes": bare}

    def _bundle(self) -> dict[str, Any]:
        return {
            "name": self.manifest["name"],
            "version": self.manifest["version"],
            "manifest_sha256": sha256(dumps(self.manifest)).hexdigest(),
            "bytes": self.path.stat().st_size,
            "estimator": self.manifest["estimator"],
            "columns": len(self.schema.columns),
        }


def _method(manifest: Mapping[str, Any], method: str | None) -> str:
    methods = list(manifest["methods"])
    if method is not None and method not in methods:
        raise InputError(f"the model has no method {method!r}", f"use one of: {', '.join(methods)}")
    return method or ("predict" if "predict" in methods else methods[0])


def _threads(manifest: Mapping[str, Any]) -> int:
    """The threads of the bundle's device profile; 1 where that was a person's own file."""
    from edgeml.targets.devices import DEVICES, device

    name = manifest["target"]
    return device(name).threads if name in DEVICES else 1


def _entry(name: str, size: int) -> dict[str, Any]:
    return {
        "engine": name,
        "kernels": None,
        "bytes": size,
        "problem": None,
        "agreement": None,
        "load_s": None,
        "first_answer_s": None,
        "peak_bytes": None,
        "above_numpy_bytes": None,
        "runs": [],
    }


def _worse(before: dict[str, Any] | None, found: dict[str, Any]) -> dict[str, Any]:
    """Of an engine with two numbers of threads the answers that agree less."""
    return before if before is not None and (not before["agrees"] or found["agrees"]) else found


def _call(contender: Contender, rows: int) -> Callable[[int], Any]:
    if not rows:
        return contender.single()
    answer = contender.batch(rows)
    return lambda _: answer()


def _figures(rows: int, threads: int | None, times: timing.Times) -> dict[str, Any]:
    found = timing.figures(times)
    count = max(rows, 1)
    return {"rows": count, "single": not rows, "threads": threads, **found, "rows_per_s": count / found["p50_s"]}


def _middle(values: Sequence[Any]) -> Any:
    """The median, of an even number the lower one; None when a value is missing or there is none."""
    return None if not values or None in values else sorted(values)[(len(values) - 1) // 2]


def _timer() -> float:
    """Seconds that timing a call adds to it: the least of many."""
    clock = time.perf_counter_ns
    return min(-(clock() - clock()) for _ in range(1000)) * 1e-9
