"""Noticing that somebody changed a link's settings, without a call on the bus.

systemd-resolved signals no change of a link's domains. But it saves what it is told of a link in a file named by the
link's number (``link_save_user``, since 233), by writing another and renaming it: the folder's time changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER = Path("/run/systemd/resolve/netif")
POLL = 0.5
"""Seconds between two looks; each is one stat(2)."""


class SavedSettings:
    """The folder, and its time when it was last ours. A folder that is not there never changes."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._known = self._time()
        self._ours = 0

    @contextmanager
    def ours(self) -> Iterator[None]:
        """What changes while entered is our own doing."""
        self._ours += 1
        try:
            yield
        finally:
            self._ours -= 1
            self._known = self._time()

    async def changes(self) -> AsyncGenerator[str, None]:
        """A reason whenever somebody else had settings of a link saved."""
        while True:
            await asyncio.sleep(POLL)
            now = self._time()
            if not self._ours and now != self._known:
                self._known = now
                yield "the settings of a link were changed"

    def _time(self) -> int:
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return 0


async def either(*sources: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
    """What any of ``sources`` yields, as it comes; raises what one of them raises."""
    waiting = {asyncio.ensure_future(anext(source)): source for source in sources}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                source = waiting.pop(task)
                with suppress(StopAsyncIteration):
                    reason = task.result()
                    waiting[asyncio.ensure_future(anext(source))] = source
                    yield reason
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for source in sources:
            await source.aclose()
