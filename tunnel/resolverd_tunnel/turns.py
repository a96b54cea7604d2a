"""Turns: of many connections to one pod that are asked for at once, some are made at a time.

Each costs the API server and us some milliseconds. Thousands begun together would all take longer than anybody waits
for one. Those to another pod, whose node may be dead, keep nobody waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

MOST = 64
"""Connections that are being made to one pod."""


class _Queue:
    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(MOST)
        self.users = 0
        """How many have a turn or wait for one."""


class Turns:
    """A queue for each pod that is being connected to."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, _Queue] = {}

    def __len__(self) -> int:
        return len(self._queues)

    @asynccontextmanager
    async def turn(self, pod: Hashable) -> AsyncIterator[bool]:
        """Wait for a turn and have it; whether there was a wait."""
        queue = self._queues.setdefault(pod, _Queue())
        queue.users += 1
        waits = queue.turns.locked()
        try:
            async with queue.turns:
                yield waits
        finally:
            queue.users -= 1
            if not queue.users:
                del self._queues[pod]
