"""Python's collector of garbage, a little at a time: looking through what is known takes long.

What the DNS process holds (the Snapshot, replies) has no cycles and goes with its last reference, and so does nearly
everything else here. So the collector looks at what has come since its last look, while that is little, and never
again at what it has seen: not at a hundred thousand endpoints (35 ms and more) for the sake of a few objects. What was
in use at that moment and became a cycle later is looked for once an hour, if there may be much of it.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

FEW = 5_000
"""Objects after which the collector looks by itself: more of them have come since the last time than have gone."""
NEVER = 1_000_000
LOOK = 0.5
"""Seconds between two looks at what is new. Nobody asked anything in between: it is quiet."""
THOROUGH = 3600.0
"""Seconds until everything is looked through in a quiet moment."""
AT_LATEST = 24 * THOROUGH
"""The same where there never is one."""
MUCH = 50_000
"""Objects, some 10 MiB, that there have to be more than after the last time: only then it is worth while."""


def look_at_new_only() -> None:
    """From now on, when the collector looks by itself."""
    gc.set_threshold(FEW, NEVER, NEVER)


def tidy_new() -> None:
    """Look at what is new, now, and not again. What takes the place of something else does not count for Python's own
    looks: a storm of changes, or of new names, would heap it up."""
    gc.collect(0)
    gc.freeze()


async def tidy_for_ever(asked: Callable[[], int], look: float = LOOK) -> None:
    """Look at what is new all the time, and through everything when it is worth while.

    ``asked`` tells how many questions there were so far.
    """
    loop = asyncio.get_running_loop()
    before, last, known = asked(), loop.time(), 0
    while True:
        await asyncio.sleep(look)
        tidy_new()
        now, passed = asked(), loop.time() - last
        if passed > AT_LATEST or (passed > THOROUGH and now == before):
            if gc.get_freeze_count() - known > MUCH:
                gc.unfreeze()
                gc.collect()
                gc.freeze()
                known = gc.get_freeze_count()
            last = loop.time()
        before = now


def let_go(transport: asyncio.BaseTransport) -> None:
    """Of a transport that is closed: asyncio's refer to themselves, by methods of their own.

    Python 3.12 clears these itself, but not where the other side broke the connection.
    """
    for name in ("_read_ready_cb", "_write_ready"):
        vars(transport).pop(name, None)
