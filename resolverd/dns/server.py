"""DNS over UDP: drain the socket in one go, with a budget, so that everything else has its turn too.

asyncio's own datagram transport takes one datagram for each turn of the loop, at several times the cost.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from typing import Any

from .dispatch import Dispatcher

log = logging.getLogger(__name__)

BUDGET = 64
"""Datagrams answered in one turn of the loop."""
MAX_DATAGRAM = 4096
"""Octets read of a datagram; a longer one is no query, and is answered as the broken message it then is."""


class UdpServer:
    """Serves one bound socket, which it takes over."""

    def __init__(self, bound: socket.socket, dispatcher: Dispatcher) -> None:
        bound.setblocking(False)
        self._socket = bound
        self._dispatcher = dispatcher
        self.lost = 0
        """Replies that the system did not take."""
        asyncio.get_running_loop().add_reader(bound, self._drain)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _drain(self) -> None:
        receive, handle = self._socket.recvfrom, self._dispatcher.handle
        for _ in range(BUDGET):
            try:
                data, peer = receive(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                # An ICMP error about an earlier reply; the socket is as good as before.
                log.debug("while receiving: %s", error)
                continue
            handle(data, partial(self._send, peer), tcp=False)

    def _send(self, peer: Any, wire: bytes) -> None:
        try:
            self._socket.sendto(wire, peer)
        except OSError as error:
            # A full buffer, a peer that is gone, a port 0: one client's loss, which it repairs by asking again.
            self.lost += 1
            log.debug("a reply to %s was lost: %s", peer, error)
