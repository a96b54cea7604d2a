"""Messages of any size between two of our processes, over a pair of sockets that outlives the processes at its ends.

The daemon makes the pair (``resolverd.sockets.message_pair``) and hands an end to each process that it starts again.
A message is pickled and goes in pieces, each with who sends it and for whom it is: what was meant for a process that
died is left aside by the next one. Both learn when the other began anew. Pickle is safe here as it is in
:mod:`resolverd.channel`: nobody else can write to the pair.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import pickle
import secrets
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

_HEAD = struct.Struct("!IIB")
"""Sender, receiver (0: whoever is there), and flags."""
_HELLO, _FIRST, _LAST = 1, 2, 4
PIECE = 32 * 1024
"""Octets of a message in one piece; a few of them fit into any socket's buffer."""
LARGEST = _HEAD.size + PIECE
"""Octets that the pair has to take at once."""
PAUSE = 0.005
"""Seconds until the next try where nobody tells that there is room."""
_BUDGET = 32
"""Pieces read in one go, so that others get their turn."""


class Parcels:
    """One end of the pair; call it from its event loop."""

    def __init__(self, end: socket.socket, on_message: Callable[[Any], None], on_begun: Callable[[], None]) -> None:
        """Takes over ``end``. ``on_begun``: a process is at the other end that has been told nothing yet."""
        end.setblocking(False)
        self._end = end
        self._on_message = on_message
        self._on_begun = on_begun
        self.on_sent: Callable[[], None] = lambda: None
        """Called when everything has left that had to wait."""
        self._loop = asyncio.get_running_loop()
        self._own = 1 + secrets.randbelow(2**32 - 1)
        self._peer = 0
        self._queue: deque[bytes] = deque()
        self._pieces: list[bytes] = []
        self._later: asyncio.TimerHandle | None = None
        self._loop.add_reader(end, self._drain)
        self._put(0, _HELLO)

    @property
    def is_busy(self) -> bool:
        """Whether something waits because the other process does not read: better wait with the next message."""
        return bool(self._queue)

    def send(self, message: Any) -> None:
        """Send one picklable message; it is lost when the other process ends, or is not there yet."""
        if not self._peer:
            return
        data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        starts = range(0, len(data), PIECE)
        for start in starts:
            flags = (_FIRST if start == 0 else 0) | (_LAST if start == starts[-1] else 0)
            self._put(self._peer, flags, data[start : start + PIECE])

    def close(self) -> None:
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        if self._later is not None:
            self._later.cancel()
        self._end.close()

    def _put(self, receiver: int, flags: int, data: bytes = b"") -> None:
        was_idle = not self._queue
        self._queue.append(_HEAD.pack(self._own, receiver, flags) + data)
        if was_idle:
            self._flush()

    def _flush(self) -> None:
        """Send what there is; the rest as soon as there is room for it."""
        while self._queue:
            try:
                self._end.send(self._queue[0])
            except BlockingIOError:
                self._loop.add_writer(self._end, self._go_on)
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:  # macOS: its datagram sockets never tell when there is room again
                    self._later = self._loop.call_later(PAUSE, self._go_on)
                    return
                log.debug("the other process takes nothing: %s", error)
                self._queue.clear()
                return
            self._queue.popleft()

    def _go_on(self) -> None:
        self._loop.remove_writer(self._end)
        self._flush()
        if not self._queue:
            self.on_sent()

    def _drain(self) -> None:
        for _ in range(_BUDGET):
            try:
                piece = self._end.recv(LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                log.debug("the other process cannot be heard: %s", error)
                piece = b""
            if len(piece) < _HEAD.size:  # nobody has the other end any more
                self._loop.remove_reader(self._end)
                return
            if self._take(piece):
                return  # it was enough to do: others get their turn

    def _take(self, piece: bytes) -> bool:
        """Whether a message was whole with it."""
        sender, receiver, flags = _HEAD.unpack_from(piece)
        if receiver not in (0, self._own):
            return False
        if flags & _HELLO:
            if sender != self._peer:
                self._greet(sender)
            return False
        if sender != self._peer:
            return False
        if flags & _FIRST:
            self._pieces.clear()
        self._pieces.append(piece[_HEAD.size :])
        if not flags & _LAST:
            return False
        whole = b"".join(self._pieces)
        self._pieces.clear()
        self._on_message(pickle.loads(whole))  # noqa: S301  # see the module's docstring
        return True

    def _greet(self, peer: int) -> None:
        self._peer = peer
        self._pieces.clear()
        self._queue.clear()  # it was for a process that is gone
        self._put(peer, _HELLO)
        self._on_begun()
