"""Whether the way to the API server carries anything: asked every few seconds, so that dead streams end within ten.

Three things are looked for, since none sees everything. The kernel ends idle connections whose other end is gone
(:mod:`.kernel_silence`). Data that nobody acknowledges is found here: a connection from before a change of networks,
for example, while new ones work. And when the API server itself does not answer twice in a row, every stream that has
been silent since is ended, whatever a proxy on the way acknowledges. A stream that is merely idle, or whose pod takes
nothing, is never ended while the API server answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

log = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two questions while streams are open."""
IDLE_INTERVAL = 10.0
"""Seconds between them while none is."""
PATIENCE = 2.5
"""Seconds to wait for an answer: two in a row, and the interval before them, stay below ten."""
UNACKNOWLEDGED_LIMIT = 6.0
"""Seconds without an acknowledgement of what was sent after which a connection is dead."""
PAUSE = 0.5
"""Shortest time between two questions, in seconds, however often we are told to hurry."""
JITTER = 0.2
"""Part by which pauses vary: many hosts may have lost the same API server at the same moment."""


class PulseStream(Protocol):
    """What of a stream there is to look at."""

    def is_stuck(self, limit: float) -> bool:
        """Whether something it sent has not been acknowledged for ``limit`` seconds."""
        ...

    def heard_since(self, moment: float) -> bool:
        """Whether anything has arrived since ``moment`` of the loop's clock, as far as can be told."""
        ...

    async def ping(self) -> None:
        """Have the other end say something, if it can be asked."""
        ...

    def fail(self, why: str) -> None:
        """End it as broken."""
        ...


class Pulse:
    """Asks until stopped."""

    def __init__(self, ask: Callable[[], Awaitable[str]], streams: Callable[[], Iterable[PulseStream]]) -> None:
        """``ask`` has the API server answer something: empty, or what is wrong. OSError and TimeoutError: no answer."""
        self._ask = ask
        self._streams = streams
        self._now = asyncio.Event()
        self.trouble = ""
        """Why nothing can be carried; empty when it can."""
        self._task = asyncio.create_task(self._run())

    def hurry(self) -> None:
        """Ask at once: the host has woken up, or changed networks."""
        self._now.set()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._pause()
            self._now.clear()
            await self._beat()
            await asyncio.sleep(PAUSE)

    async def _pause(self) -> None:
        """Until it is time: the first stream makes a long pause a short one."""
        loop = asyncio.get_running_loop()
        began, part = loop.time(), random.uniform(1 - JITTER, 1)  # noqa: S311
        while not self._now.is_set():
            interval = INTERVAL if self.trouble or any(True for _ in self._streams()) else IDLE_INTERVAL
            left = began + interval * part - loop.time()
            if left <= 0:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, INTERVAL / 2)):
                    await self._now.wait()

    async def _beat(self) -> None:
        for stream in [stream for stream in self._streams() if stream.is_stuck(UNACKNOWLEDGED_LIMIT)]:
            stream.fail("nothing that was sent is acknowledged")
        began = asyncio.get_running_loop().time()
        why, answered = await self._try()
        if not answered:
            await asyncio.gather(*(stream.ping() for stream in self._streams()))
            why, answered = await self._try()
        if not answered:
            for stream in [stream for stream in self._streams() if not stream.heard_since(began)]:
                stream.fail(f"the way to the API server is dead: {why}")
        self._tell(why)

    async def _try(self) -> tuple[str, bool]:
        """What is wrong, and whether there was an answer at all."""
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._ask(), True
        except TimeoutError:
            return f"the API server does not answer within {PATIENCE:g} s", False
        except OSError as error:
            return f"the API server cannot be reached: {error}", False

    def _tell(self, why: str) -> None:
        if bool(why) != bool(self.trouble):
            log.log(logging.WARNING if why else logging.INFO, "%s", why or "the API server answers again")
        self.trouble = why
