"""Live queries for ``resolverd tail``: octets are put aside while somebody listens, and read by the daemon.

Nothing waits for a listener: what is more than it takes is dropped, and counted.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from resolverd.channel import Channel
from resolverd.feed import Seen, Tailed

INTERVAL = 0.1
"""Seconds between two messages to the daemon."""
MOST = 1000
"""Queries kept for one message."""
QUESTION = 300
"""Octets of a message that hold the whole of its first question (RFC 1035 2.3.4: a name has 255)."""


class Tap:
    """Where queries are noted. Belongs to one event loop."""

    def __init__(self, channel: Channel) -> None:
        self.is_open = False
        self._channel = channel
        self._seen: list[Seen] = []
        self._dropped = 0
        self._wanted = asyncio.Event()

    def turn(self, on: bool) -> None:
        """Begin, or stop, to note."""
        self.is_open = on
        if on:
            self._wanted.set()
        else:
            self._wanted.clear()
            self._seen.clear()
            self._dropped = 0

    def note(self, peer: Any, query: bytes, reply: bytes, seconds: float) -> None:
        """``peer`` (a socket address) got ``reply`` to ``query`` after ``seconds``."""
        if len(self._seen) >= MOST:
            self._dropped += 1
            return
        rcode = reply[3] & 0x0F if len(reply) > 3 else 2
        self._seen.append(Seen(time.time(), str(peer[0]), query[:QUESTION], rcode, seconds))

    async def run(self) -> None:
        """Send what was noted until cancelled. ConnectionError when the daemon is gone."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(INTERVAL)
            if self._seen:
                seen, self._seen = self._seen, []
                dropped, self._dropped = self._dropped, 0
                await self._channel.send(Tailed(tuple(seen), dropped))
