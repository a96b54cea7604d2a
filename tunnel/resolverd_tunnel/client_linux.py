"""What the host's kernel knows of the clients' ends of connections, and TCP does not say.

After a FIN a client may be waiting for the rest of an answer, or be gone: on the wire both look alike. The clients
are on this host, and sock_diag(7) shows a socket that no program holds any more with inode 0.
"""

from __future__ import annotations

import errno
import socket
import struct
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address

from .netlink_socket import NetlinkSocket
from .packet import Opening

_SOCK_DIAG = 4
_BY_FAMILY = 20
_ANY_STATE = 0xFFFFFFFF
_SYNCHRONIZED = sum(1 << state for state in (1, 4, 5, 8, 9, 11))
"""Established, and every way of ending in which something may still arrive (``enum`` in linux/tcp_states.h)."""
_NO_COOKIE = 0xFFFFFFFF
_PORTS_AT, _ADDRESSES_AT, _INODE_AT = 4, 8, 68
"""Where ``id.idiag_sport``, ``id.idiag_src`` and ``idiag_inode`` are in ``struct inet_diag_msg``."""


class ClientState(Enum):
    HELD = auto()
    """A program holds the socket."""
    LEFT = auto()
    """None does."""
    UNKNOWN = auto()
    """It is no socket of this host's network namespace (a container's, say), or the kernel does not tell."""


class ClientSockets:
    """Asks the kernel of the network namespace in which it is made. OSError."""

    def __init__(self) -> None:
        self._kernel = NetlinkSocket(_SOCK_DIAG)

    def close(self) -> None:
        self._kernel.close()

    def state(self, ends: Opening) -> ClientState:
        """What became of the client of a connection."""
        family = socket.AF_INET if ends.client.version == 4 else socket.AF_INET6
        body = (
            _head(family, _ANY_STATE)
            + struct.pack("!HH", ends.client_port, ends.port)
            + ends.client.packed.ljust(16, b"\0")
            + ends.address.packed.ljust(16, b"\0")
            + struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
        )
        try:
            (answer,) = self._kernel.exchange(_BY_FAMILY, 0, [body])
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                return ClientState.UNKNOWN
            raise
        if not isinstance(answer, bytes) or len(answer) < _INODE_AT + 4:
            return ClientState.UNKNOWN
        (inode,) = struct.unpack_from("=I", answer, _INODE_AT)
        return ClientState.HELD if inode else ClientState.LEFT

    def connections(self) -> list[Opening]:
        """Every connection that a program of this host has open; none where the kernel does not tell."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                answers, _ = self._kernel.dump(_BY_FAMILY, _head(family, _SYNCHRONIZED) + bytes(48))
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EOPNOTSUPP):
                    continue
                raise
            found += [_ends_of(answer) for answer in answers if len(answer) >= _INODE_AT]
        return found


def _head(family: int, states: int) -> bytes:
    """The beginning of ``struct inet_diag_req_v2``."""
    return struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, states)


def _ends_of(answer: bytes) -> Opening:
    client_port, port = struct.unpack_from("!HH", answer, _PORTS_AT)
    here, there = answer[_ADDRESSES_AT : _ADDRESSES_AT + 16], answer[_ADDRESSES_AT + 16 : _ADDRESSES_AT + 32]
    if answer[0] == socket.AF_INET:
        return Opening(IPv4Address(here[:4]), client_port, IPv4Address(there[:4]), port)
    client, address = IPv6Address(here), IPv6Address(there)
    return Opening(client.ipv4_mapped or client, client_port, address.ipv4_mapped or address, port)
