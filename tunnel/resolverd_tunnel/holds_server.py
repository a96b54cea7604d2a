"""Answers the DNS process (:mod:`resolverd.holds`): an address is routed before its name is answered."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable

from resolverd.holds import BEGUN_ANEW, MAX_REQUEST, decode_request, encode_reply
from resolverd.names import Address

log = logging.getLogger(__name__)

_BUDGET = 32


class HoldsServer:
    """Serves requests from one end of the socketpair, which it owns."""

    def __init__(self, end: socket.socket, hold: Callable[[Iterable[Address]], None]) -> None:
        """``hold`` returns when every route that will be there is there; it may raise OSError."""
        end.setblocking(False)
        self._end = end
        self._hold = hold
        self._reply(BEGUN_ANEW)

    def start(self) -> None:
        """Serve, from when it is known what may be routed; requests made before wait. Idempotent."""
        asyncio.get_running_loop().add_reader(self._end, self._serve)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._end)
        self._end.close()

    def _serve(self) -> None:
        for _ in range(_BUDGET):
            try:
                request = self._end.recv(MAX_REQUEST + 1)
            except BlockingIOError:
                return
            except ConnectionError:
                request = b""
            if not request:
                asyncio.get_running_loop().remove_reader(self._end)
                return
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        try:
            number, addresses = decode_request(request)
        except ValueError as error:
            log.error("a request for routes: %s", error)
            return
        try:
            self._hold(addresses)
        except OSError as error:
            log.error("adding routes: %s", error.strerror)
        self._reply(number)

    def _reply(self, number: int) -> None:
        try:
            self._end.send(encode_reply(number))
        except (BlockingIOError, ConnectionError):  # it has stopped listening, and answers without us
            return
