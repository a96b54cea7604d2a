"""Bring the host to the plan and keep it there: the one caller of ``apply``."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from resolverd.contention import Contention
from resolverd.errors import ResolverdError
from resolverd.host import Applied, Capabilities, HostDns, ResolverBackend, Returned

log = logging.getLogger(__name__)

RETRY_PAUSES = (0.5, 1.0, 2.0)
"""Seconds until the next try after each failure in a row. Nobody tells us when a frozen resolver thaws."""
FLUSH_PAUSE = 1.0
"""Shortest time between two flushes of the host's cache, in seconds: it holds other people's names too."""
LOOK_AGAIN = 15.0
"""Seconds between two looks at what else the host's resolver has been told."""
SETTLE = 0.05
"""Seconds to wait for more signals of a disturbance: a restart sends several."""


@dataclass(slots=True, eq=False)
class Reconciler:
    """Holds the newest wish, and a back end that is asked for nothing else."""

    backend: ResolverBackend
    on_capabilities: Callable[[Capabilities], None]
    capabilities: Capabilities = field(default_factory=Capabilities)
    applied: Applied = field(default_factory=Applied)
    error: ResolverdError | None = None
    in_force: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while the host has what we want."""
    contention: Contention = field(default_factory=Contention)
    clock: Callable[[], float] = time.monotonic
    _want: HostDns | None = None
    _due: bool = False
    """Whether there is a reason of our own to set things now; else what differs is another program's doing."""
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _flush: asyncio.Event = field(default_factory=asyncio.Event)
    _bus: asyncio.Lock = field(default_factory=asyncio.Lock)

    def want(self, dns: HostDns) -> None:
        """The host shall be like this, as soon as possible."""
        if dns != self._want:
            self._want = dns
            self._set_now()

    @property
    def trouble(self) -> ResolverdError | None:
        """What is wrong: the last failure, else another program that keeps changing our settings."""
        return self.error or self.contention.error(self.applied.dns.link, self.clock())

    def flush(self) -> None:
        """Answers changed: what the host cached of them is to be dropped."""
        self._flush.set()

    async def look(self) -> Capabilities:
        """Ask the host what it can do and what others told it."""
        async with self._bus:
            self.capabilities = await self.backend.capabilities()
        return self.capabilities

    async def read(self) -> HostDns | None:
        """What is in force now; None when that cannot be read."""
        try:
            async with self._bus:
                return await self.backend.read()
        except ResolverdError as error:
            log.debug("what is in force: %s", error)
            return None

    async def run(self) -> None:
        """Keep the host as wanted until cancelled; what is wrong with it is retried and shown, never raised."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._apply_forever())
            tasks.create_task(self._flush_forever())
            tasks.create_task(self._watch_disturbances())
            tasks.create_task(self._look_forever())

    async def revert(self) -> None:
        """Take everything of ours back; errors are logged, since nothing can be done about them any more."""
        self.in_force.clear()
        try:
            async with self._bus:
                await self.backend.revert()
        except ResolverdError as error:
            log.warning("%s", error)

    def _set_now(self) -> None:
        self._due = True
        self._wake.set()

    async def _apply_forever(self) -> None:
        failures = 0
        while True:
            await self._wait(RETRY_PAUSES[min(failures, len(RETRY_PAUSES)) - 1] if failures else None)
            while not self._due and (patience := self.contention.patience(self.clock())):
                await self._notice_a_loss()
                await self._wait(patience)
            want, due = self._want, self._due
            if want is None:
                continue
            self._due = False
            try:
                async with self._bus:
                    self.applied = await self.backend.apply(want)
            except ResolverdError as error:
                failures += 1
                self._due = True  # whatever was lost meanwhile was lost with the resolver
                self._fail(error)
            else:
                failures, self.error = 0, None
                self.in_force.set()
                if self.applied.changed and not due:
                    self._blame_another()

    def _fail(self, error: ResolverdError) -> None:
        self.in_force.clear()
        if str(error) != str(self.error):
            log.error("%s", error)
        self.error = error

    def _blame_another(self) -> None:
        log.warning("the host's resolver: another program had changed our settings; they are set again")
        self.contention.lost(self.clock())

    async def _notice_a_loss(self) -> None:
        """While lost settings must not be set again yet, say that they are not in force."""
        try:
            async with self._bus:
                found = await self.backend.read()
        except ResolverdError as error:
            self._fail(error)
            return
        if found != self.applied.dns:
            self.in_force.clear()

    async def _wait(self, longest: float | None) -> None:
        try:
            async with asyncio.timeout(longest):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _flush_forever(self) -> None:
        while True:
            await self._flush.wait()
            self._flush.clear()
            try:
                async with self._bus:
                    await self.backend.flush()
            except ResolverdError as error:
                log.debug("flush: %s", error)
            await asyncio.sleep(FLUSH_PAUSE)

    async def _watch_disturbances(self) -> None:
        told = ""
        while True:
            try:
                async for reason in self.backend.disturbances():
                    await self._take_disturbance(reason)
            except ResolverdError as error:  # what is disturbed meanwhile is found by looking now and then
                if str(error) != told:
                    log.warning("the host's resolver cannot be watched: %s", error)
                told = str(error)
            await asyncio.sleep(RETRY_PAUSES[0])

    async def _take_disturbance(self, reason: str) -> None:
        log.info("the host's resolver: %s", reason)
        await asyncio.sleep(SETTLE)
        await self._look_and_tell()
        if isinstance(reason, Returned):
            self._set_now()
        else:
            self._wake.set()

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN)
            await self._look_and_tell()
            self._wake.set()

    async def _look_and_tell(self) -> None:
        before = self.capabilities
        try:
            now = await self.look()
        except ResolverdError as error:
            log.debug("capabilities: %s", error)
            return
        if now != before:
            self.on_capabilities(now)
