"""``python -m benchmarks.profile [PATTERN] [--rows N] [--update]``: where the time of a batch and of a row goes.

For each model: reading the frame, coding strings, every instruction of the plan, and what is left for the answer, in
nanoseconds a row; then the bytes that have to be moved at the least (cells in, answers out, constants once) and how
long memory takes for them, measured by a copy: the physical limit. An instruction's time is what the plan takes up to
and with it, less what it takes up to it. ``--update`` writes the tables into docs/performance.md.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import edgeml
from benchmarks import models
from benchmarks.measure import cpu
from benchmarks.runners import ONES, compiled, forms, method_of
from edgeml.runtimes.frames import read_columns, read_rows
from edgeml.runtimes.kernels.encode import Plan
from edgeml.runtimes.kernels.entry import HEADER, Call
from edgeml.runtimes.kernels.registry import load_all
from edgeml.runtimes.native_code import Workspace, address

DEFAULT = ("flights: logistic", "flights: forest", "32 columns: MLP(64,32)", "RF100 depth 8", "HGB100", "HGB1000")
REPEATS = 25
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
_BLOCK = re.compile(r"(<!-- written by `python -m benchmarks.profile --update`: begin -->\n).*?(<!-- end -->)", re.S)


@dataclass(frozen=True, slots=True)
class Step:
    what: str
    ns: float  # a row
    times: int = 1


def least(call: Callable[[], Any], repeats: int = REPEATS) -> float:
    """Seconds of the fastest of many calls: what the work takes when nobody else is at work."""
    times = []
    for _ in range(repeats):
        start = time.thread_time()  # of this thread alone: others may use the machine
        call()
        times.append(time.thread_time() - start)
    return min(times)


def bandwidth() -> float:
    """Bytes a second that one thread moves by copying 64 MB, counting those read and those written."""
    source, target = np.ones(8_000_000), np.empty(8_000_000)
    return 2 * source.nbytes / least(lambda: np.copyto(target, source), 9)


# --- instructions --------------------------------------------------------------------------------------------------
def starts(code: Any) -> list[int]:
    """Where each instruction of a plan begins, and where the plan ends."""
    found = [0]
    while code[found[-1]] >= 0:
        found.append(found[-1] + HEADER + int(code[found[-1] + 1]))
    return found


def instructions(executor: Any, columns: Any, rows: int, method: str) -> list[Step]:
    """Nanoseconds a row of each instruction of a plan for blocks, those of one kernel together."""
    plan, _, ports, _results, _kept = executor.prepare(columns, rows, (method,))
    names, ends = {kernel.number: kernel.name for kernel in load_all()}, starts(plan.code)
    spaces = []
    for end in ends:
        cut = replace(plan, code=np.concatenate([plan.code[:end], np.array([-1], dtype=np.int64)]))
        space = Workspace.make(cut, executor.constants)
        space.call[[Call.PORTS, Call.START, Call.END]] = address(ports), 0, rows
        spaces.append((cut, space))  # the call holds addresses in the plan
    times = np.full(len(spaces), np.inf)
    for _ in range(REPEATS):  # in turn, as the machine is not as quick all the time
        for i, (_cut, space) in enumerate(spaces):
            times[i] = min(times[i], least(partial(executor.library.run_blocks, space.pointer), 1))
    steps: dict[str, Step] = {}
    for at, taken in zip(ends[:-1], np.diff(times), strict=True):
        name, ns = names[int(plan.code[at])], float(taken) * 1e9 / rows
        before = steps.get(name, Step(name, 0.0, 0))
        steps[name] = Step(name, before.ns + ns, before.times + 1)
    return list(steps.values())


# --- a batch and a row ---------------------------------------------------------------------------------------------
def batch(model: Any, frame: Any, method: str, rows: int) -> tuple[list[Step], int, dict[str, Any]]:
    """(steps of a batch, in order; bytes that must move; the columns as the kernels take them)."""
    engine, executor = model._engine, model._engine._kernels

    def reading() -> Any:
        return read_columns(frame, model.schema, engine.text_library)[0]

    def inputs() -> dict[str, Any]:
        return engine.inputs(columns, {})

    columns = reading()
    whole, read, described = least(lambda: getattr(model, method)(frame)), least(reading), least(inputs)
    steps = [Step("reading the frame", read * 1e9 / rows), Step("describing columns", described * 1e9 / rows)]
    steps += instructions(executor, inputs(), rows, method)
    steps.append(Step("calls, answer, the rest", whole * 1e9 / rows - sum(s.ns for s in steps)))
    plan = executor.prepare(inputs(), rows, (method,))[0]
    cells = sum(p.width * np.dtype(p.dtype).itemsize for p in (*plan.inputs, *plan.outputs[method]))
    weights = sum(part.nbytes for part in executor.constants._parts)
    plain, _ = read_rows(frame, model.schema)
    return steps, rows * cells + weights, plain | engine._texts.encode(plain, {})


def row(model: Any, ones: Sequence[Any], method: str, columns: dict[str, Any]) -> list[Step]:
    """Python's part and the kernels' part of a single row, over different rows in turn."""
    executor = model._engine._kernels
    one = getattr(model, method + "_one")
    plan = executor.plan_one(method, list(range(len(executor.program.inputs))))

    start = min(r.offset for r in plan.entries.values())

    def space(code: Any, at: int) -> tuple[Plan, Workspace, Any, Any]:
        """A workspace, the plan whose code it has the address of, the place of the cells in it, and a row's cells."""
        cut = replace(plan, code=code)
        made = Workspace.make(cut, executor.constants)
        for name, r in plan.entries.items():
            cells = np.atleast_1d(columns[name][at]).astype(np.float64 if "float" in r.dtype else np.int64)
            made.scratch[r.offset : r.offset + r.width] = cells.view(np.int64)
        place = made.scratch[start : max(r.offset + r.width for r in plan.entries.values())]
        return cut, made, place, place.copy()

    def run(spaces: Sequence[tuple[Plan, Workspace, Any, Any]]) -> None:
        for _, made, place, cells in spaces:
            place[:] = cells  # the last run may have used their place for something else
            executor.library.run(made.pointer)

    def ask() -> None:
        for item in ones:
            one(item)

    stop = np.array([-1], dtype=np.int64)
    full, empty = ([space(code, i) for i in range(len(ones))] for code in (plan.code, stop))
    kernels = least(partial(run, full), 200) - least(partial(run, empty), 200)
    scale = 1e9 / len(ones)
    python = (least(ask, 200) - kernels) * scale
    return [Step("reading the cells, packing, call, answer", python), Step("kernels", kernels * scale)]


def table(title: str, steps: Sequence[Step]) -> str:
    """Markdown, for docs/performance.md; instructions under 1 % of the whole stand in one line."""
    total = sum(s.ns for s in steps)
    lines = [f"| {title} | ns a row | share |", "|---|---:|---:|"]
    small = [s for s in steps if s.ns < total / 100]
    if len(small) > 1:
        steps = [s for s in steps if s not in small]
        steps.append(Step(f"{sum(s.times for s in small)} instructions under 1 %", sum(s.ns for s in small)))
    for s in steps:
        name = f"`{s.what}`" if " " not in s.what else s.what
        lines.append(f"| {name}{f' x {s.times}' if s.times > 1 else ''} | {s.ns:,.0f} | {s.ns / total:.0%} |")
    return "\n".join([*lines, f"| in all | {total:,.0f} | |"])


def profile(chosen: models.Model, rows: int, speed: float) -> str:
    """A model's tables, and how far its batch is from what memory allows."""
    fitted, held = chosen.fit()
    X = models.repeated(held, rows)
    path, _ = compiled(fitted, X, "native")
    method = method_of(fitted)
    form, frame = next((f, x) for f, x in forms(X).items() if f in ("pyarrow", "NumPy"))
    with edgeml.load(path, engine="native") as model:
        steps, moved, columns = batch(model, frame, method, rows)
        single = row(model, models.rows_of(X, ONES), method, columns)
    total, limit = sum(s.ns for s in steps), moved / speed * 1e9 / rows
    return (
        f"{table(f'{chosen.name}, a batch ({form})', steps)}\n\n"
        f"{moved / rows:,.0f} bytes a row must move, which takes memory {limit:.1f} ns: the batch takes "
        f"{total / limit:,.0f} times that.\n\n{table(f'{chosen.name}, one row', single)}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("pattern", nargs="?", default="", help="models whose name holds this; six of each kind if none")
    parser.add_argument("--rows", type=int, default=10_000, help="rows of the batch")
    parser.add_argument("--update", action="store_true", help="write the tables into docs/performance.md")
    options = parser.parse_args()
    chosen = [
        m
        for m in (*models.PIPELINES, *models.ALONE)
        if (options.pattern in m.name if options.pattern else m.name in DEFAULT)
    ]
    if not chosen:
        parser.error(f"no model holds {options.pattern!r} in its name")
    with threadpool_limits(1):
        speed = bandwidth()
        parts = [
            f"{cpu()}; a copy by one thread moves {speed / 1e9:.1f} GB/s (bytes read and written); "
            f"batches of {options.rows:,} rows; the fastest of {REPEATS} runs.\n"
        ]
        for model in chosen:
            parts.append(profile(model, options.rows, speed))
            print(parts[-1])
    if options.update:
        text = DOCUMENT.read_text()
        found = _BLOCK.search(text)
        assert found is not None
        DOCUMENT.write_text(text[: found.end(1)] + "\n".join(parts) + text[found.start(2) :])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="edgeml-benchmarks-") as tempfile.tempdir:
        main()
