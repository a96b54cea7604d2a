"""Fakes that keep state, and small things that many tests need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from resolverd.errors import ResolverdError
from resolverd.host import Applied, Capabilities, HostDns


async def eventually(condition: Callable[[], bool], longest: float = 10.0) -> None:
    """Wait until ``condition`` holds; AssertionError after ``longest`` seconds, which only a hang takes."""
    deadline = asyncio.get_running_loop().time() + longest
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError("it never came true")
        await asyncio.sleep(0.005)


@dataclass
class FakeBackend:
    """A resolver back end over a variable: what was applied is what is in force."""

    name: str = "fake"
    now: HostDns = field(default_factory=HostDns)
    facts: Capabilities = field(default_factory=lambda: Capabilities("fake"))
    failures: list[ResolverdError] = field(default_factory=list)
    """Raised by ``apply``, one each time."""
    applied: list[HostDns] = field(default_factory=list)
    tried: list[HostDns] = field(default_factory=list)
    flushes: int = 0
    _disturbed: asyncio.Queue[str | ResolverdError] = field(default_factory=asyncio.Queue)

    async def capabilities(self) -> Capabilities:
        return self.facts

    async def apply(self, want: HostDns) -> Applied:
        self.tried.append(want)
        if self.failures:
            raise self.failures.pop(0)
        changed = self.now != want
        if changed:
            self.applied.append(want)
            self.now = want
        return Applied(want, changed=changed)

    async def read(self) -> HostDns:
        return self.now

    async def flush(self) -> None:
        self.flushes += 1

    async def revert(self) -> None:
        self.now = HostDns()

    async def disturbances(self) -> AsyncIterator[str]:
        while True:
            reason = await self._disturbed.get()
            if isinstance(reason, ResolverdError):
                raise reason
            yield reason

    async def close(self) -> None:
        return

    def disturb(self, reason: str | ResolverdError) -> None:
        """``disturbances`` yields, or raises, ``reason``."""
        self._disturbed.put_nowait(reason)
