"""The running monitor: the database, the thread that takes batches in, retention, limits and figures, in one object.

``serve.py`` makes it, ``app.py`` starts and stops it with the server, routes find it at ``request.app.state.monitor``.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edgeml.fleet.checkpoint import CheckpointThread
from edgeml.fleet.device_state import Device
from edgeml.fleet.enrol import ACTIVE, find_device, recent_devices
from edgeml.fleet.ingest import Ingest, IngestSettings
from edgeml.fleet.limits import new_limits
from edgeml.fleet.prometheus import Metrics
from edgeml.fleet.retention import Retention, RetentionThread
from edgeml.fleet.settings import Settings
from edgeml.fleet.store import Store

log = logging.getLogger("edgeml.monitor")

_MAX_DEVICES = 100_000
# Hashing a password takes 32 MB and a core for 0.2 s: two at once, and a short queue.
_MAX_HASHING = 2
_MAX_WAITING = 20


class Monitor:
    """See the module. ``store`` stays the caller's to close."""

    def __init__(self, store: Store, settings: Settings, retention: Retention | None = None) -> None:
        self.store, self.settings = store, settings
        self.retention = retention or Retention()
        self.limits = new_limits(settings)
        self.metrics = Metrics()
        self.metrics.add_database(store)
        self.ingest = Ingest(store, IngestSettings(retention=self.retention))
        self.devices = DeviceCache(store)
        self.hashing = ThreadPoolExecutor(_MAX_HASHING, thread_name_prefix="edgeml-hash")
        self.hash_queue = BoundedSemaphore(_MAX_WAITING)
        self._retention: Any = None
        self._checkpoints = CheckpointThread(store) if store.dialect == "sqlite" else None
        self.metrics.add_ingest(self.ingest.counters)

    def start(self) -> None:
        """Begin to take batches in, and to run retention now and then."""
        self.devices.warm()
        self.ingest.start()
        if self._checkpoints is not None:
            self._checkpoints.start()
        if self.settings.retention_seconds:
            self._retention = RetentionThread(self.store, self.retention, self.settings.retention_seconds)
            self._retention.start()
            thread = self._retention
            self.metrics.watch_retention(lambda: thread.runs, lambda: bool(thread.last_error))

    def stop(self) -> None:
        """End both; what was acknowledged, or will be, is in the database."""
        if self._retention is not None:
            self._retention.stop()
        self.ingest.stop(float(self.settings.shutdown_seconds))
        if self._checkpoints is not None:
            self._checkpoints.stop()
        self.hashing.shutdown(cancel_futures=True)

    def not_ready(self) -> str | None:
        """Why batches cannot be taken now, in a word, or None. Raises MonitorDatabaseError."""
        self.store.check()
        state = self.ingest.state()
        return None if state == "running" else state


class DeviceCache:
    """Devices and their keys, as every batch needs them. Threads may share it.

    It is filled at the start and by enrolments: to look up 333 devices a second, as they come back to a server that was
    restarted, delayed the batches of a whole minute by up to a second. Nothing expires, or they all would at once: a
    device's state may change under the cache, for which ingest asks again in its transaction; its key cannot.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[str, tuple[Device, Ed25519PublicKey]] = OrderedDict()

    def get(self, device_id: str) -> tuple[Device, Ed25519PublicKey] | None:
        """A device that is kept, or None; asks no database."""
        return self._known.get(device_id)

    def look_up(self, device_id: str) -> tuple[Device, Ed25519PublicKey] | None:
        """A device from the database, or None. Raises MonitorDatabaseError."""
        device = find_device(self._store, device_id)
        return None if device is None else (device, self.add(device))

    def warm(self) -> None:
        """Look up whom the server will hear of first: those that were heard of last."""
        for device in recent_devices(self._store, _MAX_DEVICES):
            self.add(device)

    def add(self, device: Device) -> Ed25519PublicKey:
        """Keep a device, and give its key."""
        key = Ed25519PublicKey.from_public_bytes(device.public_key)
        if device.state == ACTIVE:
            # Only what may send is kept: a device that is reinstated is found to be at once.
            self._known[device.id] = (device, key)
            while len(self._known) > _MAX_DEVICES:
                self._known.popitem(last=False)
        return key

    def forget(self, device_id: str) -> None:
        """Ask the database about this device the next time."""
        self._known.pop(device_id, None)
