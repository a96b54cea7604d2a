"""The back end ``override``: every DNS question of the host comes to our server, which passes on what is not ours.

For hosts without a systemd-resolved that could be told which names are ours: containers, above all. It works by
nftables, or where that cannot be, by ``/etc/resolv.conf`` itself (docs/adr/0007-override.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

from resolverd.errors import HostError
from resolverd.host import Applied, Capabilities, HostDns
from resolverd.names import is_domain

from . import host_facts, nft
from .host_facts import HostFacts, searched
from .journal import Journal
from .redirect import MARK, Redirect
from .replacement import Replacement
from .resolv_conf import Original, nameservers_of
from .resolv_file import ResolvFile

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.53.53", "::1")
"""Where our server listens when there is no device: an address of 127.0.0.0/8 that nobody else uses, so that its port
53 is free for way B; of IPv6 there is only one."""
POLL = 0.5
"""Seconds between two looks at the file: a stat costs microseconds, and sees what watching a folder misses (mounts,
network file systems, a link's target in another folder)."""


class Way(Protocol):
    """One of the two ways."""

    mark: int

    def original(self) -> Original:
        """/etc/resolv.conf as it would be without us."""
        ...

    async def apply(self, want: HostDns) -> Applied: ...
    async def read(self) -> HostDns: ...
    async def revert(self) -> None: ...
    def disturbance(self) -> str:
        """Why the host may have lost what we did, empty when it has not."""
        ...


class OverrideBackend:
    name = "override"

    def __init__(
        self,
        link: str,
        state: Path,
        file: Path = host_facts.RESOLV_CONF,
        why_not_nft: Callable[[int], Awaitable[str]] = nft.why_not,
        *,
        containers: bool = False,
    ) -> None:
        """``state`` is the state directory: the journal is there. ``containers``: redirect theirs, too (way A)."""
        self._link = link
        self._file = ResolvFile(file)
        self._why_not_nft = why_not_nft
        self._redirect = Redirect(self._file, containers=containers)
        self._replacement = Replacement(self._file, Journal(state))
        self._way: Way | None = None
        self._applies = 0
        """How often the host was made, or found, as wanted."""

    async def capabilities(self) -> Capabilities:
        way = await self._chosen()
        original, facts = way.original(), self._facts()
        return Capabilities(
            backend=self.name,
            needs_link=False,
            takes_all=True,
            mark=way.mark,
            host_search=searched(original.text or "", self._replacement.hostname()),
            nameservers=nameservers_of(original),
            gateways=facts.gateways,
            subnets=facts.subnets,
        )

    async def apply(self, want: HostDns) -> Applied:
        if not want:
            await self.revert()
            return Applied()
        _check_names(want)
        way = await self._chosen()
        if all(address.is_link_local for address in nameservers_of(way.original())):
            why = "all its name servers are link-local, and our server cannot ask those"
            raise HostError(str(self._file.path), why, "add another nameserver there")
        applied = await way.apply(want)
        self._applies += 1
        return applied

    async def read(self) -> HostDns:
        return await self._redirect.read() or await self._replacement.read()

    async def flush(self) -> None:
        """Programs that ask the servers of /etc/resolv.conf themselves keep no answers that we could drop."""

    async def revert(self) -> None:
        await self._redirect.revert()
        await self._replacement.revert()

    async def disturbances(self) -> AsyncGenerator[str, None]:
        told = ("", 0)
        while True:
            try:
                reason = self._way.disturbance() if self._way else ""
            except HostError as error:
                reason = str(error)
            # The same again after it was set right is another disturbance: who undoes it at once is never seen idle.
            if reason and (reason, self._applies) != told:
                told = (reason, self._applies)
                yield reason
            elif not reason:
                told = ("", 0)
            await asyncio.sleep(POLL)

    async def close(self) -> None:
        """Both ways are closed by ``revert``; what they still hold would be undone by its end, as by ours."""

    async def _chosen(self) -> Way:
        """Way A where it can be; decided once, at the start."""
        if self._way is None:
            reason = await self._why_not_nft(MARK)
            self._way = self._replacement if reason else self._redirect
            how = f"by {self._file.path}, since {reason}" if reason else "by nftables"
            log.info("override %s", how)
        return self._way

    def _facts(self) -> HostFacts:
        return host_facts.read(self._link, self._file.path)


def _check_names(want: HostDns) -> None:
    """The plan lets none of these through; a line break in one would be a line of resolv.conf."""
    for name in (*want.routing, *want.search):
        if not is_domain(name):
            raise HostError(
                "search domains", f"{name or '.'} is no domain that may be searched", "this is a bug: report it"
            )
