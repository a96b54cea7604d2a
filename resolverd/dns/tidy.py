"""Python's collector of garbage, when nobody waits for an answer: looking through what is known takes long.

What the DNS process holds (the Snapshot, replies) has no cycles and goes with its last reference. Cycles are what
asyncio makes: a transport for each TCP connection, tracebacks of what was cancelled. By itself the collector would run
when ten thousand objects have come, which is in the middle of a storm of changes, and take 10 to 25 ms.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

LOOK = 1.0
"""Seconds between two looks; nobody asked in between: it is quiet."""
SOME = 20_000
"""Objects that came since the last time and have not gone again, some 4 MiB: enough for a quiet second."""
MANY = 100_000
"""The same where there never is a quiet second."""


async def tidy(asked: Callable[[], int], look: float = LOOK) -> None:
    """Collect when there is enough, for ever; ``asked`` tells how many questions there were so far.

    The collector does nothing by itself from here on.
    """
    gc.disable()
    before = asked()
    while True:
        await asyncio.sleep(look)
        now, grown = asked(), gc.get_count()[0]
        if grown > MANY or (grown > SOME and now == before):
            gc.collect()
        before = now
