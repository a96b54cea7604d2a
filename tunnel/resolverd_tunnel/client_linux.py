"""Whether the program at the other end of a connection still has it: what TCP cannot say, the host's kernel can.

After a FIN a client may be waiting for the rest of an answer, or be gone: on the wire both look alike. The clients
are on this host, and sock_diag(7) shows a socket that no program holds any more with inode 0.
"""

from __future__ import annotations

import errno
import socket
import struct
from enum import Enum, auto

from .netlink_socket import NetlinkSocket
from .packet import Opening

_SOCK_DIAG = 4
_BY_FAMILY = 20
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = 0xFFFFFFFF
_INODE_AT = 68
"""Where ``idiag_inode`` is in ``struct inet_diag_msg``."""


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
            struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, _ANY_STATE)
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
