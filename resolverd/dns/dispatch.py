"""What the UDP and TCP servers share: a reply leaves at once, or once its addresses are routed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .holds_client import HoldsClient
from .responder import Reply, Responder


class Dispatcher:
    """A responder and, with a tunnel, the holds that its replies wait for."""

    def __init__(self, responder: Responder, holds: HoldsClient | None = None) -> None:
        self._responder = responder
        self.holds = holds
        self._now = asyncio.get_running_loop().time

    def handle(self, data: bytes, send: Callable[[bytes], None], *, tcp: bool) -> bool:
        """Have the reply to ``data`` sent: before this returns, or within a few hundredths of a second.

        False where silence is due.
        """
        reply = self._responder.respond(data, tcp=tcp)
        if reply is None:
            return False
        if isinstance(reply, bytes):
            send(reply)
            return True
        holds, prepared = self.holds, reply.prepared
        if holds is None or not prepared.addresses or self._now() < prepared.fresh_until:
            send(reply.wire)
        else:
            holds.ask(prepared.addresses, lambda: self._release(reply, send))
        return True

    def _release(self, reply: Reply, send: Callable[[bytes], None]) -> None:
        """Send ``reply``, and let the next one like it pass without asking."""
        if self.holds is not None:
            reply.prepared.fresh_until = self.holds.fresh_until(reply.prepared.addresses)
        send(reply.wire)
