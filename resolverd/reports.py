"""What the worker processes last said of themselves, and asking them for what is so now."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from resolverd.feed import Ask, Report
from resolverd.workers import Worker

ASK_DEADLINE = 1.0
"""Seconds a worker has to say how it is when ``status`` is asked for; a healthy one takes a millisecond."""


class Reports:
    """The newest report of each worker. Several may ask at once: each hears of what came since."""

    def __init__(self) -> None:
        self.dns: dict[str, Any] = {"queries": 0, "rcodes": {}}
        self.tunnel: dict[str, Any] = {}
        self._next = {"dns": asyncio.Event(), "tunnel": asyncio.Event()}
        """Set, once, when the next report of a worker comes."""

    def take(self, report: Report) -> None:
        """A worker has reported."""
        if report.worker == "dns":
            self.dns = dict(report.values)
        else:
            self.tunnel = dict(report.values)
        came, self._next[report.worker] = self._next[report.worker], asyncio.Event()
        came.set()

    async def ask(self, workers: Iterable[Worker]) -> frozenset[str]:
        """Have what ``workers`` say of themselves as it is now; the names of those that do not answer."""
        waiting = {worker.name: self._next[worker.name] for worker in workers if worker.ready.is_set()}
        for worker in workers:
            if worker.name in waiting:
                worker.tell(Ask())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASK_DEADLINE):
                for came in waiting.values():
                    await came.wait()
        return frozenset(name for name, came in waiting.items() if not came.is_set())
