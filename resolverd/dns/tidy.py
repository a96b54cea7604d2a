"""Python's collector of garbage, a little at a time: looking through what is known takes long.

What the DNS process holds (the Snapshot, replies) has no cycles and goes with its last reference, and so does nearly
everything else here. So the collector looks at what has come since its last look, while that is little, and never
again at what it has seen: not at a hundred thousand endpoints (35 ms and more) for the sake of a few objects. What was
in use at that moment and became a cycle later is found once an hour, when nobody asks anything.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

FEW = 5_000
"""Objects after which it looks: more of them have come since the last time than have gone."""
NEVER = 1_000_000
LOOK = 1.0
"""Seconds between two looks whether anybody has asked: nobody did, it is quiet."""
THOROUGH = 3600.0
"""Seconds until everything is looked through in a quiet second."""
AT_LATEST = 24 * THOROUGH
"""The same where there never is a quiet second."""


def begin() -> None:
    """Let the collector look at what is new, only."""
    gc.set_threshold(FEW, NEVER, NEVER)
    if _settle not in gc.callbacks:
        gc.callbacks.append(_settle)


def tidy_new() -> None:
    """Look at what is new, now. What takes the place of something else is not counted: a storm would heap it up."""
    gc.collect(0)


async def tidy_all(asked: Callable[[], int], look: float = LOOK) -> None:
    """Look through everything when it is time, for ever; ``asked`` tells how many questions there were so far."""
    loop = asyncio.get_running_loop()
    before, last = asked(), loop.time()
    while True:
        await asyncio.sleep(look)
        now, passed = asked(), loop.time() - last
        if passed > AT_LATEST or (passed > THOROUGH and now == before):
            gc.unfreeze()
            gc.collect()
            last = loop.time()
        before = now


def let_go(transport: asyncio.BaseTransport) -> None:
    """Of a transport that is closed: asyncio's refer to themselves, by methods of their own.

    Python 3.12 clears these itself, but not where the other side broke the connection.
    """
    for name in ("_read_ready_cb", "_write_ready"):
        vars(transport).pop(name, None)


def _settle(phase: str, _: dict[str, int]) -> None:
    """What is still here after a look is not looked at again."""
    if phase == "stop":
        gc.freeze()
