"""A device for the kill tests: predicts and records without pause, and writes down what the spool has acknowledged.

``python -m tests.kills.device BUNDLE SPOOL LEDGER SERVER SEED``. A line of the ledger is written only after
``Spool.append`` has returned: ``kept STREAM SEQUENCE KIND ROWS`` for an item, ``lost STREAM FIRST LAST KIND ROWS`` for
a loss. Runs until it is killed.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Sequence

import numpy as np

import edgeml
from edgeml.telemetry.items import Item, Loss
from edgeml.telemetry.spool import Spool


def main(bundle: str, folder: str, ledger: str, server: str, seed: str) -> None:
    written = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    append = Spool.append

    def noted(self: Spool, items: Sequence[Item], losses: Sequence[Loss] = ()) -> None:
        append(self, items, losses)
        lines = [f"kept {i.stream} {i.sequence} {i.kind} {i.rows}\n" for i in items]
        lines += [f"lost {x.stream} {x.first} {x.last} {x.kind} {x.rows}\n" for x in losses]
        # One write of a few kilobytes to a local file is whole or absent, whenever the process is killed.
        os.write(written, "".join(lines).encode())

    Spool.append = noted  # type: ignore[method-assign]  # the test's ear at the promise it checks
    draw = random.Random(int(seed))
    columns = np.random.default_rng(int(seed)).normal(size=(64, 4))
    columns[::7, 1] = np.nan
    with edgeml.load(bundle) as model:
        # An empty server leaves sending to `edgeml agent run`.
        model.record_to(folder, window_seconds=0.03, window_rows=200, server=server or None)
        while True:
            if draw.random() < 0.5:
                model.predict(columns[: draw.randrange(1, 64)])
            else:
                model.predict_one(columns[draw.randrange(64)])


if __name__ == "__main__":
    main(*sys.argv[1:])
