"""Puts a recorder between a Model and its engine: what ``model.record_to`` calls, and ``load`` for EDGEML_TELEMETRY.

Comes in: a model's bundle and engine, and settings. Goes out: functions that the model calls in place of the engine's
while it records. They count what they saw and answered and never raise anything of their own; telemetry is imported
here and by the modules beside it (``recording_*``) only, so that a model that does not record does not load it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.bundle.manifest import several_outputs
from edgeml.bundle.read import Bundle
from edgeml.bundle.zip_layout import MANIFEST, PROFILE
from edgeml.jsonutil import dumps
from edgeml.profile import check_profile
from edgeml.runtimes.base import Array, Engine, Row
from edgeml.runtimes.frames import read_columns, read_row
from edgeml.runtimes.kernels import library
from edgeml.runtimes.recording_counts import Counts
from edgeml.runtimes.recording_plans import ROW_METHODS
from edgeml.runtimes.recording_row import row_recorder
from edgeml.schema import MATRIX, Schema
from edgeml.telemetry.counting import Layout
from edgeml.telemetry.recorder import About, Recorder
from edgeml.telemetry.settings import Settings

if TYPE_CHECKING:
    from edgeml.telemetry.sampling import Reservoir


class Recording:
    """One model that records: the functions it calls, and ``recorder``."""

    def __init__(self, bundle: Bundle, engine: Engine, settings: Settings) -> None:
        """Start recording. Raises ProfileError, TelemetryError, EngineError where it cannot."""
        profile = check_profile(bundle.json(PROFILE)) if PROFILE in bundle else None
        manifest = bundle.manifest
        about = About(
            name=manifest["name"],
            version=manifest["version"],
            manifest_sha256=sha256(bundle.member(MANIFEST)).hexdigest(),
            profile=None if profile is None else dumps(profile),
            profile_sha256=manifest["profile_sha256"],
            # A truth is compared with one label; rows of several are counted as unmatched.
            classes=None if several_outputs(manifest["classes"]) else manifest["classes"],
        )
        self.settings = settings
        self._engine = engine
        self._schema: Schema = bundle.schema
        layout = Layout(bundle.schema, profile, manifest["methods"])
        self._counts = Counts(layout, settings.window_rows, library.entry())
        self._names = tuple(c.name for c in bundle.schema.columns if c.used)
        self.recorder = Recorder(about, layout, self._counts, settings)
        self._counts.on_fresh = self.recorder.ensure_running
        self._sampler: Reservoir | None = self.recorder.sampler
        self.recorder.start()

    # --- many rows
    def run(self, methods: Sequence[str], X: Any) -> dict[str, Array]:
        """What ``Model._run`` does, recorded: one call of the first method, whose rows are counted once."""
        recorder, start = self.recorder, time.perf_counter_ns()
        try:
            columns, rows = read_columns(X, self._schema, self._engine.text_library)
            answers = self._engine.run(columns, rows, methods)
        except Exception as error:  # counted by its kind, and raised again as it is
            recorder.failed(error)
            raise
        first = methods[0]
        self._count(first, "batch", columns, rows, answers[first], time.perf_counter_ns() - start)
        return answers

    # --- one row
    def one(self, method: str) -> Callable[[Row], Any]:
        """``Engine.one``, recorded."""
        recorder, engine_one = self.recorder, self._engine.one(method)
        planned = [m for m in ROW_METHODS if m in self._counts.layout.scores]
        schema = self._schema

        def slow(row: Row, answer: Any, nanoseconds: int) -> None:
            try:
                if isinstance(answer, np.ndarray):
                    answers = answer[None]
                else:
                    answers = np.empty(1, dtype=object)
                    answers[0] = answer
                self._count(method, "one", read_row(row, schema), 1, answers, nanoseconds)
            except Exception as error:  # whatever it is, the application has its answer
                recorder.internal(error)

        one = row_recorder(
            engine_one, self._counts, planned.index(method), recorder.failed, slow, recorder.window_is_full
        )
        return one if self._sampler is None else self._sampled(one, method)

    # --- counting
    def _count(
        self, method: str, kind: str, columns: Mapping[str, Any], rows: int, answer: Array, nanoseconds: int
    ) -> None:
        try:
            if self._counts.add(method, kind, columns, rows, answer, nanoseconds):
                self.recorder.window_is_full()
            if self._sampler is not None and kind == "batch":
                self._sampler.offer(rows, lambda at: self._row(columns, at), answer.__getitem__, method)
        except Exception as error:  # counted as such; the application has its answer
            self.recorder.internal(error)

    def _sampled(self, one: Callable[[Row], Any], method: str) -> Callable[[Row], Any]:
        sampler, recorder, schema = self._sampler, self.recorder, self._schema
        assert sampler is not None

        def sampled(row: Row) -> Any:
            answer = one(row)
            try:
                sampler.offer(1, lambda at: self._row(read_row(row, schema), 0), lambda at: answer, method)
            except Exception as error:  # counted as such; the application has its answer
                recorder.internal(error)
            return answer

        return sampled

    def _row(self, columns: Mapping[str, Any], at: int) -> dict[str, Any]:
        """Row ``at`` as Python values by column name."""
        if self._schema.form == "matrix":
            cells = columns[MATRIX][at].tolist()
            return {c.name: cell for c, cell in zip(self._schema.columns, cells, strict=True) if c.used}
        return {name: columns[name][at : at + 1].tolist()[0] for name in self._names}
