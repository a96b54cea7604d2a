"""The back end ``none``: nothing on the host is changed; our DNS server is there for whoever asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

from resolverd.host import Applied, Capabilities, HostDns

from . import host_facts
from .host_facts import HostFacts


class NoneBackend:
    name = "none"

    def __init__(self, link: str = "", facts: Callable[[str], HostFacts] = host_facts.read) -> None:
        self._link = link
        self._facts = facts

    async def capabilities(self) -> Capabilities:
        facts = self._facts(self._link)
        return Capabilities(
            backend=self.name,
            host_search=facts.search,
            nameservers=facts.nameservers,
            gateways=facts.gateways,
            subnets=facts.subnets,
        )

    async def apply(self, want: HostDns) -> Applied:
        """Takes nothing, and says so by what it returns."""
        return Applied()

    async def read(self) -> HostDns:
        return HostDns()

    async def flush(self) -> None:
        """Nothing of ours is cached anywhere."""

    async def revert(self) -> None:
        """Nothing of ours is there."""

    async def disturbances(self) -> AsyncGenerator[str, None]:
        """Never yields: there is nothing to disturb."""
        await asyncio.Event().wait()
        yield ""

    async def close(self) -> None:
        """Nothing is open."""
