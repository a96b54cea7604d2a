"""Listening sockets where connections end: one for each port number and family that somebody connected to."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from .inside import Inside

log = logging.getLogger(__name__)

MOST = 1024
"""Listeners at a time; the one that was longest without a new connection goes first."""
BACKLOG = 1024
_ACCEPTS = 64
"""Connections taken in one go, so that others get their turn."""
PAUSE = 0.5
"""Seconds until a connection that could not be taken is tried again: mostly there is no descriptor left for it."""
_PASSING = {errno.ECONNABORTED, errno.EINTR, errno.EPROTO}

Key = tuple[socket.AddressFamily, int]


class Listeners:
    """The listeners, opened when they are needed. A port nobody listens on refuses by itself."""

    def __init__(self, inside: Inside, on_accept: Callable[[socket.socket], None]) -> None:
        self._inside = inside
        self._on_accept = on_accept
        self._open: dict[Key, socket.socket] = {}
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}
        """Those that are not asked for connections at the moment."""
        self._failure = ""
        """Why the last connection could not be taken; empty when it was."""

    def ensure(self, family: socket.AddressFamily, port: int) -> None:
        """Listen on ``port`` of every address of ``family``. OSError."""
        key = family, port
        listener = self._open.pop(key, None)
        if listener is None:
            if len(self._open) >= MOST:
                self._close(next(iter(self._open)))
            listener = self._inside.listen(family, port, BACKLOG)
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)
        self._open[key] = listener

    def close(self) -> None:
        for key in tuple(self._open):
            self._close(key)

    def _close(self, key: Key) -> None:
        listener = self._open.pop(key)
        asyncio.get_running_loop().remove_reader(listener)
        if timer := self._resting.pop(listener, None):
            timer.cancel()
        listener.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _PASSING:
                    continue
                self._rest(listener, error)
                return
            self._failure = ""
            client.setblocking(False)
            try:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:  # macOS refuses once the client has reset it, which whoever carries it finds out
                log.debug("a connection that was just accepted: %s", error)
            self._on_accept(client)

    def _rest(self, listener: socket.socket, error: OSError) -> None:
        """Leave it alone for a moment: the connection stays where it is, and would be told of again and again."""
        why = error.strerror or str(error)
        if why != self._failure:
            self._failure = why
            log.error("accepting a connection: %s; it is tried again every %g s", why, PAUSE)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        self._resting[listener] = loop.call_later(PAUSE, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        del self._resting[listener]
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)
