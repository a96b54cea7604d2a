"""Turns: of many connections to one pod that are asked for at once, some are made at a time.

Each costs the API server and us some milliseconds. Thousands begun together would all take longer than anybody waits
for one. Those to another pod, whose node may be dead, keep nobody waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

from .transport import NoWayError

MOST = 64
"""Connections that are being made to one pod."""


class _Queue:
    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(MOST)
        self.users = 0
        """How many have a turn or wait for one."""
        self.failure: NoWayError | None = None
        """Of the last turn, if there was no way."""
        self.failed_at = 0.0


class Turns:
    """A queue for each pod that is being connected to."""

    def __init__(self) -> None:
        self._queues: dict[Hashable, _Queue] = {}

    def __len__(self) -> int:
        return len(self._queues)

    @asynccontextmanager
    async def turn(self, pod: Hashable) -> AsyncIterator[None]:
        """Wait for a turn and have it. NoWayError of somebody before who found no way meanwhile."""
        clock = asyncio.get_running_loop().time
        queue = self._queues.setdefault(pod, _Queue())
        queue.users += 1
        began = clock()
        try:
            async with queue.turns:
                if queue.failure is not None and queue.failed_at > began:
                    raise NoWayError(*queue.failure.args)
                try:
                    yield
                except NoWayError as error:
                    queue.failure, queue.failed_at = error, clock()
                    raise
                queue.failure = None
        finally:
            queue.users -= 1
            if not queue.users:
                del self._queues[pod]
