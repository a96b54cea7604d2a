"""Where connections end: a private namespace, or this host's own TCP after readdressing. The seam between the two."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from .copying import IsAlive, PacketLoop
from .packet import Opening


class Inside(Protocol):
    """One place where the kernel ends the connections that come out of the tunnel's device."""

    name: str

    def packet_loop(self, host: int, is_alive: IsAlive, is_in_use: Callable[[Opening], bool]) -> PacketLoop:
        """What moves packets between the device ``host`` and here, not started yet.

        ``is_alive`` tells which addresses echo, ``is_in_use`` which connections somebody still cares for.
        """
        ...

    def listen(self, family: socket.AddressFamily, port: int, backlog: int) -> socket.socket:
        """A non-blocking socket that accepts connections to ``port`` of every address of a family. OSError."""
        ...

    def ends(self, client: socket.socket) -> Opening:
        """What the client of an accepted connection connected to. OSError when that cannot be told."""
        ...

    def look(self) -> None:
        """The host's links have changed: see whether all that this needs is still there. OSError."""
        ...

    def close(self) -> None: ...
