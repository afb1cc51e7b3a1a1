"""Ports for servers that have to know theirs before they start."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path
from typing import Final

_OF_CONNECTIONS: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST: Final = 20_000  # Ray's workers have those below, where nobody tells them otherwise


def free_port() -> int:
    """A port that nobody listens on, and that no connection of anybody's is given before a server has it."""
    first, last = map(int, _OF_CONNECTIONS.read_text().split())
    ports = [port for port in range(_FIRST, 65_536) if not first <= port <= last] or range(_FIRST, 65_536)
    while True:
        port = random.SystemRandom().choice(ports)  # tests draw from seeds that other tests have, too
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
