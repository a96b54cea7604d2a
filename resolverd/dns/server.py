"""DNS over UDP: drain the socket in one go, with a budget, so that everything else has its turn too.

asyncio's own datagram transport takes one datagram for each turn of the loop, at several times the cost.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from functools import partial
from typing import Any

from .burst import burst_of
from .dispatch import Dispatcher
from .tap import Tap

log = logging.getLogger(__name__)


class UdpServer:
    """Serves one bound socket, which it takes over."""

    def __init__(self, bound: socket.socket, dispatcher: Dispatcher) -> None:
        bound.setblocking(False)
        self._socket = bound
        self._dispatcher = dispatcher
        self._burst = burst_of(bound)
        self._loop = asyncio.get_running_loop()
        self._lost = 0
        self._loop.add_reader(bound, self._drain)

    @property
    def lost(self) -> int:
        """Replies that the system did not take."""
        return self._lost + self._burst.lost

    def close(self) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _drain(self) -> None:
        """Answer one burst. The loop calls again while there is more."""
        burst, again = self._burst, self._dispatcher.again
        try:
            count = burst.receive()
        except OSError as error:
            # An ICMP error about an earlier reply; the socket is as good as before.
            log.debug("while receiving: %s", error)
            return
        dispatcher, now = self._dispatcher, self._dispatcher.now()
        if dispatcher.tap is not None:
            self._answer_noted(dispatcher.tap, count)
            return
        fast = 0
        for place in range(count):
            data = burst.data(place)
            wire = again(data, now)
            if wire is not None:
                burst.reply(place, wire)
                fast += 1
            else:
                dispatcher.handle(data, partial(self._send, burst.peer(place)), tcp=False)
        burst.send()
        if fast:
            dispatcher.latencies.add(dispatcher.now() - now, fast)

    def _answer_noted(self, tap: Tap, count: int) -> None:
        """The same, one by one: somebody wants to see what is asked."""
        burst, dispatcher = self._burst, self._dispatcher
        for place in range(count):
            data, peer, now = burst.data(place), burst.peer(place), dispatcher.now()
            send = dispatcher.noting(tap, peer, data, partial(self._send, peer))
            wire = dispatcher.again(data, now)
            if wire is None:
                dispatcher.handle(data, send, tcp=False)
            else:
                send(wire)
                dispatcher.latencies.add(dispatcher.now() - now)

    def _send(self, peer: Any, wire: bytes) -> None:
        try:
            self._socket.sendto(wire, peer)
        except OSError as error:
            # A full buffer, a peer that is gone, a port 0: one client's loss, which it repairs by asking again.
            self._lost += 1
            log.debug("a reply to %s was lost: %s", peer, error)
