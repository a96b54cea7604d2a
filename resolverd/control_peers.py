"""Who may use the control socket, by what the kernel says of the other end. The file's mode says the same; a process
that was handed the socket's descriptor, or a mode somebody widened, does not get around this."""

from __future__ import annotations

import os
import socket
import struct

_PEERGROUPS = 59
"""SO_PEERGROUPS of <asm-generic/socket.h>, since Linux 4.13; Python has no name for it."""
_UCRED = struct.Struct("3i")
_GROUPS = 4 * 65536
"""Octets of as many groups as a process may have."""


def may_ask(peer: socket.socket, group: int) -> bool:
    """Whether ``peer`` is root, our own user or in ``group``, the socket file's. Where the system cannot tell, yes."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    _, user, primary = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return user in (0, os.geteuid()) or group == primary or group in _groups(peer)


def _groups(peer: socket.socket) -> tuple[int, ...]:
    try:
        found = peer.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, _GROUPS)
    except OSError:
        return ()
    return struct.unpack(f"{len(found) // 4}I", found)
