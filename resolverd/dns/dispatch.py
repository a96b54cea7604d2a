"""What the UDP and TCP servers share: a reply leaves at once, or once its addresses are routed."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from .forward import Forwarder
from .holds_client import HoldsClient
from .outward import Outward
from .responder import Reply, Responder
from .tally import Latencies
from .tap import Tap


class Dispatcher:
    """A responder, whoever else is asked and, with a tunnel, the holds that replies wait for."""

    def __init__(
        self, responder: Responder, holds: HoldsClient | None = None, now: Callable[[], float] | None = None
    ) -> None:
        """``now`` is the clock; the loop's when there is none."""
        self._responder = responder
        self.holds = holds
        self.forwarder: Forwarder | None = None
        self.again = responder.again
        """The reply over UDP to a question that came before, octet for octet; None: ``handle`` has it sent."""
        self.now = now or asyncio.get_running_loop().time
        self.latencies = Latencies()
        self.tap: Tap | None = None
        """Where queries are noted, while somebody wants to see them."""

    def handle(self, data: bytes, send: Callable[[bytes], None], *, tcp: bool) -> bool:
        """Have the reply to ``data`` sent: before this returns, or within a few hundredths of a second.

        Within the lookup timeout when others are asked. False where silence is due.
        """
        began = self.now()
        reply = self._responder.respond(data, tcp=tcp, now=began)
        if reply is None:
            return False
        send = partial(self._timed, send, began)
        if isinstance(reply, bytes):
            send(reply)
        elif isinstance(reply, Outward):
            self._ask(reply, send)
        else:
            self._leave(reply, send)
        return True

    def _timed(self, send: Callable[[bytes], None], began: float, wire: bytes) -> None:
        self.latencies.add(self.now() - began)
        send(wire)

    def noting(self, tap: Tap, peer: Any, query: bytes, send: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """``send``, with a note of it in ``tap``."""
        began = self.now()

        def noted(wire: bytes) -> None:
            send(wire)
            tap.note(peer, query, wire, self.now() - began)

        return noted

    def _ask(self, outward: Outward, send: Callable[[bytes], None]) -> None:
        """Have others answer, where there is a way to them."""
        if self.forwarder is None:
            self._leave(self._responder.complete(outward, None), send)
            return
        finish = self._responder.complete
        self.forwarder.ask(outward.wanted, lambda outcome: self._leave(finish(outward, outcome), send))

    def _leave(self, reply: Reply, send: Callable[[bytes], None]) -> None:
        """Send ``reply`` as soon as its addresses are routed."""
        holds, prepared = self.holds, reply.prepared
        if self.now() < prepared.fresh_until:
            send(reply.wire)
        elif holds is None:
            prepared.fresh_until = math.inf
            send(reply.wire)
        else:
            holds.ask(prepared.addresses, lambda: self._release(holds, reply, send))

    def _release(self, holds: HoldsClient, reply: Reply, send: Callable[[bytes], None]) -> None:
        """Send ``reply``, and let the next one like it pass without asking."""
        reply.prepared.fresh_until = holds.fresh_until(reply.prepared.addresses)
        send(reply.wire)
