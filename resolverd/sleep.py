"""Noticing that this host has slept: only one of the kernel's clocks goes on meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

INTERVAL = 2.0
"""Seconds between two looks, and the shortest sleep that counts."""


async def notice_sleep(
    clock: Callable[[], float], on_wake: Callable[[float], None], interval: float = INTERVAL
) -> None:
    """Call ``on_wake`` with the seconds slept, each time ``clock`` has jumped by more than ``interval``; for ever."""
    slept = clock()
    while True:
        await asyncio.sleep(interval)
        before, slept = slept, clock()
        if slept - before > interval:
            on_wake(slept - before)


def seconds_slept() -> float:
    """Since this host was started (clock_gettime(2)); 0 where the system does not tell."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
