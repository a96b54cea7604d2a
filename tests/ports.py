"""Ports for servers that a test starts by number."""

import random
import socket
from contextlib import closing
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""The ports that the kernel gives to whoever asks for any. A connection of any program may take one of them between a
test's look and its server's bind, so none of them is handed out here."""

LOWEST = 10_000
"""Below it stand the ports of services that a machine may have."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, UDP or TCP, and that the kernel gives to nobody who did not name it."""
    ephemeral = int(RANGE.read_text().split()[0])
    for port in random.sample(range(LOWEST, ephemeral), 200):
        if all(_is_free(port, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)):
            return port
    raise AssertionError(f"no free port among 200 between {LOWEST} and {ephemeral}")


def _is_free(port: int, kind: socket.SocketKind) -> bool:
    with closing(socket.socket(socket.AF_INET, kind)) as one:
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
