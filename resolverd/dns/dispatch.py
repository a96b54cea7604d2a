"""What the UDP and TCP servers share: a reply leaves at once, or once its addresses are routed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .forward import Forwarder
from .holds_client import HoldsClient
from .outward import Outward
from .responder import Reply, Responder


class Dispatcher:
    """A responder, whoever else is asked and, with a tunnel, the holds that replies wait for."""

    def __init__(self, responder: Responder, holds: HoldsClient | None = None) -> None:
        self._responder = responder
        self.holds = holds
        self.forwarder: Forwarder | None = None
        self._now = asyncio.get_running_loop().time

    def handle(self, data: bytes, send: Callable[[bytes], None], *, tcp: bool) -> bool:
        """Have the reply to ``data`` sent: before this returns, or within a few hundredths of a second.

        Within the lookup timeout when others are asked. False where silence is due.
        """
        reply = self._responder.respond(data, tcp=tcp)
        if reply is None:
            return False
        if isinstance(reply, bytes):
            send(reply)
        elif isinstance(reply, Outward):
            self._ask(reply, send)
        else:
            self._leave(reply, send)
        return True

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
        if holds is None or not prepared.addresses or self._now() < prepared.fresh_until:
            send(reply.wire)
        else:
            holds.ask(prepared.addresses, lambda: self._release(reply, send))

    def _release(self, reply: Reply, send: Callable[[bytes], None]) -> None:
        """Send ``reply``, and let the next one like it pass without asking."""
        if self.holds is not None:
            reply.prepared.fresh_until = self.holds.fresh_until(reply.prepared.addresses)
        send(reply.wire)
