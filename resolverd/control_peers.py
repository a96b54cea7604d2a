"""Who may use the control socket, by what the kernel says of the other end. The file's mode says the same; a process
that was handed the socket's descriptor, or a mode somebody widened, does not get around this."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

_PEERGROUPS = 59
"""SO_PEERGROUPS of <asm-generic/socket.h>, since Linux 4.13; Python has no name for it."""
_UCRED = struct.Struct("3i")
_GROUPS = 1024
"""Octets: Python takes no more, which is room for 256 groups."""


def may_ask(peer: socket.socket, group: int) -> bool:
    """Whether ``peer`` is root, our own user or in ``group``, the socket file's. Where the system cannot tell, yes."""
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    process, user, primary = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return user in (0, os.geteuid()) or group == primary or group in _groups(peer, process)


def _groups(peer: socket.socket, process: int) -> tuple[int, ...]:
    """Supplementary groups; those of somebody with very many are read from /proc instead."""
    try:
        found = peer.getsockopt(socket.SOL_SOCKET, _PEERGROUPS, _GROUPS)
        return struct.unpack(f"{len(found) // 4}I", found)
    except OSError:
        return _groups_of(Path(f"/proc/{process}/status"))


def _groups_of(status: Path) -> tuple[int, ...]:
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return ()
    return tuple(int(word) for line in lines if line.startswith("Groups:") for word in line.split()[1:])
