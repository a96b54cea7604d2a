"""Asking the tunnel process to route addresses before an answer with them leaves, and remembering what it has.

An answer whose addresses have no routes yet waits for them, for ``PATIENCE`` at most: as long as a tunnel process that
has died takes to come back. One that still does not answer is then left alone for ``PAUSE``. Addresses that are known
to have routes are asked for again now and then, and nobody waits for that. ``BEGUN_ANEW`` says that the tunnel process
began anew and knows of no requests.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from resolverd.holds import BEGUN_ANEW, MAX_ADDRESSES, decode_reply, encode_request
from resolverd.names import Address

log = logging.getLogger(__name__)

PATIENCE = 0.7
"""Seconds that an answer waits for its routes; systemd-resolved asks again after 0.75."""
HELD = 60.0
"""Seconds after which an address is asked for again, so that unused routes can end on the other side."""
ROUTED = 240.0
"""Seconds that a route is there for sure, whatever became of the tunnel process; it keeps them for longer."""
PAUSE = 1.0
"""Seconds without asking again for what was not routed in time."""
MAX_REMEMBERED = 100_000
_LARGEST_NUMBER = 2**32 - 1


@dataclass(slots=True, eq=False)
class _Waiting:
    """Answers that wait for the same addresses, which may take several requests."""

    addresses: tuple[Address, ...]
    open: set[int] = field(default_factory=set)
    callbacks: list[Callable[[], None]] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class HoldsClient:
    """The DNS process's end of the holds socket; call it from its event loop."""

    def __init__(self, end: socket.socket, on_forgotten: Callable[[], None]) -> None:
        """Takes over ``end``. ``on_forgotten`` is called when nothing is held any more."""
        end.setblocking(False)
        self._socket = end
        self._on_forgotten = on_forgotten
        self._loop = asyncio.get_running_loop()
        self._until: dict[Address, float] = {}
        """When each address is asked for again."""
        self._routed: dict[Address, float] = {}
        """Until when each has its route."""
        self._waiting: dict[tuple[Address, ...], _Waiting] = {}
        self._by_number: dict[int, _Waiting] = {}
        # Not from 1: replies to a DNS process that died are still in the socket, and must fit no request of ours.
        self._number = secrets.randbelow(_LARGEST_NUMBER)
        self._loop.add_reader(end, self._drain)

    def fresh_until(self, addresses: tuple[Address, ...]) -> float:
        """Until when, on the loop's clock, none of ``addresses`` needs asking for; 0 when one does."""
        return min((self._until.get(address, 0.0) for address in addresses), default=float("inf"))

    def ask(self, addresses: tuple[Address, ...], callback: Callable[[], None]) -> None:
        """Have ``addresses`` routed, then call ``callback``: after ``PATIENCE`` in any case, perhaps at once."""
        now = self._loop.time()
        missing = tuple(address for address in addresses if self._until.get(address, 0.0) <= now)
        if not missing:
            callback()
            return
        if all(self._routed.get(address, 0.0) > now for address in missing):
            self._remember(missing, PAUSE)
            if missing not in self._waiting:
                self._begin(missing)
            callback()
            return
        waiting = self._waiting.get(missing) or self._begin(missing)
        if waiting is None:
            self._remember(missing, PAUSE)
            callback()
            return
        waiting.callbacks.append(callback)

    def close(self) -> None:
        """Let go of the socket; answers that wait leave now."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        for waiting in list(self._waiting.values()):
            self._release(waiting)

    def _begin(self, addresses: tuple[Address, ...]) -> _Waiting | None:
        """Ask for ``addresses``; None when the other side takes no request."""
        waiting = _Waiting(addresses)
        if not self._send(waiting):
            return None
        waiting.timer = self._loop.call_later(PATIENCE, self._give_up, waiting)
        self._waiting[addresses] = waiting
        return waiting

    def _send(self, waiting: _Waiting) -> bool:
        """Send the requests; False when the other side does not take them."""
        for start in range(0, len(waiting.addresses), MAX_ADDRESSES):
            self._number = self._number % _LARGEST_NUMBER + 1
            try:
                self._socket.send(encode_request(self._number, waiting.addresses[start : start + MAX_ADDRESSES]))
            except OSError as error:
                log.debug("the tunnel process takes no request: %s", error)
                self._close_numbers(waiting)
                return False
            waiting.open.add(self._number)
            self._by_number[self._number] = waiting
        return True

    def _drain(self) -> None:
        while True:
            try:
                data = self._socket.recv(64)
            except BlockingIOError:
                return
            except OSError as error:
                log.debug("the holds socket fails: %s", error)
                data = b""
            if not data:
                log.info("the tunnel process is gone: answers no longer wait for routes")
                self._loop.remove_reader(self._socket)
                return
            try:
                self._on_reply(decode_reply(data))
            except ValueError as error:
                log.warning("the tunnel process sent nonsense: %s", error)

    def _on_reply(self, number: int) -> None:
        if number == BEGUN_ANEW:
            self._until.clear()  # and not _routed: the device outlives its process, and so do the routes
            self._on_forgotten()
            return
        waiting = self._by_number.pop(number, None)
        if waiting is None:
            return
        waiting.open.discard(number)
        if not waiting.open:
            self._remember(waiting.addresses, HELD)
            self._routed.update(dict.fromkeys(waiting.addresses, self._loop.time() + ROUTED))
            self._release(waiting)

    def _give_up(self, waiting: _Waiting) -> None:
        log.debug("no route in time for %d addresses", len(waiting.addresses))
        self._remember(waiting.addresses, PAUSE)
        self._release(waiting)

    def _release(self, waiting: _Waiting) -> None:
        """Let the answers leave."""
        if waiting.timer is not None:
            waiting.timer.cancel()
        self._close_numbers(waiting)
        if self._waiting.get(waiting.addresses) is waiting:
            del self._waiting[waiting.addresses]
        for callback in waiting.callbacks:
            callback()

    def _close_numbers(self, waiting: _Waiting) -> None:
        for number in waiting.open:
            self._by_number.pop(number, None)
        waiting.open.clear()

    def _remember(self, addresses: tuple[Address, ...], seconds: float) -> None:
        if len(self._until) + len(addresses) > MAX_REMEMBERED:
            self._until.clear()
            self._routed.clear()
        until = self._loop.time() + seconds
        self._until.update(dict.fromkeys(addresses, until))
