"""A worker's part of ``status``: sent about once a second while it changes, and at once when somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from resolverd.channel import Channel
from resolverd.feed import Report

PAUSE = 1.0
"""Shortest time between two reports nobody asked for, in seconds."""


class Reporter:
    """Reports what ``values`` returns: plain JSON values under the keys of the status document."""

    def __init__(self, worker: str, channel: Channel, values: Callable[[], Mapping[str, object]]) -> None:
        self._worker = worker
        self._channel = channel
        self._values = values
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Report at once, whether or not anything changed."""
        self._asked.set()

    async def run(self) -> None:
        """Report until cancelled. ConnectionError when the daemon is gone."""
        told: Mapping[str, object] | None = None
        while True:
            asked = self._asked.is_set()
            self._asked.clear()
            now = self._values()
            if asked or now != told:
                await self._channel.send(Report(self._worker, now))
                told = now
            try:
                async with asyncio.timeout(PAUSE):
                    await self._asked.wait()
            except TimeoutError:
                continue
