"""The congestion control of connections that never leave this host."""

from __future__ import annotations

import socket

_CONGESTION = (b"cubic", b"reno")
"""The system's default may be bbr, which paces: between two sockets of one host that costs more than half."""


def set_congestion_control(listener: socket.socket) -> None:
    """Choose a plain one; the sockets that ``listener`` accepts inherit it. Nothing where it cannot be chosen."""
    option = getattr(socket, "TCP_CONGESTION", None)
    if option is None:
        return
    for name in _CONGESTION:
        try:
            listener.setsockopt(socket.IPPROTO_TCP, option, name)
        except OSError:  # not built into this kernel
            continue
        return
