"""How long the other end of a TCP connection has been silent, as the kernel knows it (tcp(7), ``TCP_INFO``).

TCP_USER_TIMEOUT would not do: it ends connections whose other side answers and only takes nothing, too, such as those
to a program that is stopped in a debugger.
"""

from __future__ import annotations

import logging
import socket
import struct
from typing import NamedTuple

log = logging.getLogger(__name__)

_UNACKNOWLEDGED_AT, _LAST_DATA_AT = 24, 52
"""Where ``tcpi_unacked`` and ``tcpi_last_data_recv`` are in ``struct tcp_info``; ``tcpi_last_ack_recv`` follows."""
_SIZE = 60
_KEEPALIVE = (("TCP_KEEPIDLE", 3), ("TCP_KEEPINTVL", 2), ("TCP_KEEPCNT", 3))
"""Seconds, seconds, and probes: a connection that carries nothing is given up 9 s after the last sign of life."""


class Silence(NamedTuple):
    """What the kernel of this host has heard."""

    seconds: float
    """Since the last octet or acknowledgement."""
    unacknowledged: bool
    """Whether something we sent is on the way."""


def silence_of(connection: socket.socket) -> Silence | None:
    """None where the kernel does not tell, or the connection is no more."""
    if not hasattr(socket, "TCP_INFO"):
        return None
    try:
        found = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    except OSError:
        return None
    if len(found) < _SIZE:
        return None
    (unacknowledged,) = struct.unpack_from("=I", found, _UNACKNOWLEDGED_AT)
    data, acknowledgement = struct.unpack_from("=II", found, _LAST_DATA_AT)
    return Silence(min(data, acknowledgement) / 1000, unacknowledged > 0)


def keep_alive(connection: socket.socket) -> None:
    """Have the kernel ask, while nothing is carried, whether the other end is still there; without TCP_USER_TIMEOUT."""
    options = (("TCP_USER_TIMEOUT", 0), *_KEEPALIVE)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options:
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    except OSError as error:  # macOS refuses once the other end has reset it, which whoever reads it finds out
        log.debug("keep-alive: %s", error)
