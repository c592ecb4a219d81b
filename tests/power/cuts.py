"""Cuts the power of a recorded life at many moments, starts a spool on what is left, and asks for what was promised.

``python -m tests.power.cuts`` runs more of it than the test does and prints what it found.
"""

import argparse
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from edgeml.errors import EdgeMLError
from edgeml.telemetry.spool import Spool
from tests.power.disk import Disk
from tests.power.monitor import Monitor
from tests.power.workload import DEVICE, KEY, MAX_BYTES, live

MEMORY = Path("/dev/shm")


@dataclass
class Report:
    """``problems`` says, for people, what of the promise was broken; empty when nothing was."""

    cuts: int = 0
    acknowledged: int = 0
    resent: int = 0
    lost_with_reason: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other):
        self.cuts += other.cuts
        self.acknowledged += other.acknowledged
        self.resent += other.resent
        self.lost_with_reason += other.lost_with_reason
        self.problems += other.problems


def cut_life(seed, cuts, steps=120, without=()):
    """A Report of one life, cut at ``cuts`` moments (several states may be drawn for one moment). ``without`` names
    kinds of events that never reach the disk: with ("names",) it forgets every sync of a folder.
    """
    report = Report()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        folder = Path(name)
        events = [event for event in live(folder / "life", seed, steps) if event[0] not in without]
        random = Random(seed + 1)
        moments = sorted(random.choices(range(len(events) + 1), k=cuts))
        disk, monitor, acked, refused = Disk(), Monitor(), {}, set()
        losses = set()
        done = 0
        for moment in moments:
            for event in events[done:moment]:
                if event[0] == "acked":
                    acked.update({(item.stream, item.sequence): item.payload for item in event[1]})
                    losses |= {(loss.stream, n) for loss in event[2] for n in range(loss.first, loss.last + 1)}
                elif event[0] == "posted":
                    monitor.post(event[1], event[2])
                elif event[0] == "refused":
                    refused.add((event[1], event[2]))
                else:
                    disk.apply(event)
            done = moment
            _start(folder / "left", disk.cut(random), random)
            where = f"life {seed}, cut at event {moment} of {len(events)}"
            _check(folder / "left", monitor.clone(), acked, losses, refused, report, where)
            report.cuts += 1
    return report


def _start(folder, files, random):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        if not name.endswith("-shm"):
            (folder / name).write_bytes(data)
    if random.random() < 0.3:  # shared memory is never synced: anything may be in its file
        (folder / "spool.db-shm").write_bytes(random.randbytes(32768))


def _check(folder, monitor, acked, losses, refused, report, where):
    notes = []
    before = set(monitor.counted)
    try:
        with Spool(folder, key=KEY, max_bytes=MAX_BYTES, on_note=notes.append) as spool:
            _send_all(spool, monitor, report)
    except EdgeMLError as error:
        report.problems.append(f"{where}: {error!r}")
        return
    if acked and notes:
        report.problems.append(f"{where}: {notes}")
    report.problems += [f"{where}: the monitor saw {why}" for why in monitor.conflicts]
    for known, payload in acked.items():
        counted, lost = known in monitor.counted, known in monitor.lost or known in monitor.refused
        report.acknowledged += 1
        report.resent += counted and known not in before
        report.lost_with_reason += lost
        if counted + lost != 1:
            report.problems.append(f"{where}: {known} is {'counted and lost' if counted else 'missing'}")
        elif counted and monitor.counted[known] != payload:
            report.problems.append(f"{where}: {known} came back as something else")
    report.problems += [f"{where}: the loss of {known} is missing" for known in losses - monitor.lost.keys()]
    for known in refused - monitor.counted.keys():
        if known not in monitor.lost:
            report.problems.append(f"{where}: {known} was refused, and is no loss")


def _send_all(spool, monitor, report):
    for _ in range(10_000):
        batch = spool.begin(DEVICE, max_bytes=10**6, max_items=500)
        if batch is None:
            return
        status, answer = monitor.post(batch.header, batch.body)
        if status == 200:
            spool.settle(batch, answer)
        else:
            spool.restart_chain(str(answer))
    report.problems.append("the spool never becomes empty")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=50)
    parser.add_argument("--cuts", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    total, start = Report(), time.perf_counter()
    for life in range(options.lives):
        total.add(cut_life(options.seed + life, options.cuts))
        if total.problems:
            break
    for problem in total.problems[:20]:
        print(problem)
    print(
        f"{total.cuts} cuts, {total.acknowledged} acknowledged windows looked for, {total.resent} sent after the cut, "
        f"{total.lost_with_reason} given up with a reason, {len(total.problems)} problems, "
        f"{time.perf_counter() - start:.0f} s"
    )
    return bool(total.problems)


if __name__ == "__main__":
    raise SystemExit(main())
