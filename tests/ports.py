"""Ports for processes that must be told theirs, such as a monitor that is killed and comes back at the same address."""

import itertools
import os
import socket

# Below those that Linux hands out by itself: no connection of another process, nor the one made to find out whether a
# server is up, comes to stand on such a port between two starts of its server.
_FIRST, _PORTS = 20_000, 12_000
_turns = itertools.count()


def free_port() -> int:
    """A port of this machine nobody listens on; another in each call, and most likely in each process."""
    for turn in itertools.islice(_turns, _PORTS):
        port = _FIRST + (os.getpid() * 101 + turn) % _PORTS
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")
