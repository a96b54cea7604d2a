"""What is known of a cluster besides its objects: its ranges, its DNS domain, whether port-forwards are allowed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_network

from resolverd.cluster.client import ApiClient, ApiError, UnreachableError
from resolverd.cluster.corefile import domain_of
from resolverd.cluster.ranges import OBSERVED, SETTING, Seen, Told, discover
from resolverd.cluster.rights import Scope, missing_forwards
from resolverd.cluster.snapshot import Change
from resolverd.names import Network
from resolverd.settings import ClusterSettings

log = logging.getLogger(__name__)

REFUSED = (60.0, 3600.0)
"""Seconds until what was refused is asked for again; doubled each time, up to the second."""


@dataclass(slots=True, eq=False)
class Facts:
    """Asked of the API server until it answers, once for each session, and what it refuses now and then again; ranges
    are also seen in what is followed."""

    settings: ClusterSettings
    ranges: tuple[Network, ...] = ()
    """The cluster's own, as far as they are known."""
    domain: str = ""
    """The cluster's DNS domain as CoreDNS is configured with it; empty: not told."""
    knows_domain: bool = False
    """Whether that was looked for."""
    is_refused: bool = False
    """Whether some of it may not be read, or not yet: an API server that starts refuses everybody."""
    missing_forwards: tuple[str, ...] = ()
    """What may not be done of what port-forwards need, in words."""
    given: asyncio.Event = field(default_factory=asyncio.Event)
    """The API server gave us something: what it did not answer may be asked again."""
    _told: Told = field(default_factory=Told)
    _seen: Seen = field(default_factory=Seen)
    _changed: bool = False

    @property
    def told_ranges(self) -> dict[Network, str]:
        """Those that the cluster itself names, or the setting, and which of its objects does."""
        return self._told.ranges

    @property
    def sources(self) -> tuple[tuple[Network, str], ...]:
        """Who says so, for each of ``ranges``."""
        return tuple((network, self.told_ranges.get(network, OBSERVED)) for network in self.ranges)

    def forget(self) -> None:
        """It is another cluster."""
        self._told, self._seen = Told(), Seen()
        self.domain, self.knows_domain, self._changed = "", False, True

    def look(self, changes: Iterable[Change]) -> bool:
        """See the addresses in ``changes``; whether anything that is known here is another than at the last look."""
        learned, self._changed = self._changed, False
        if not (self._seen.look(tuple(changes)) or learned):
            return False
        seen = self._seen.outside(self.told_ranges) if self.settings.ranges is None else ()
        self.ranges = (*self.told_ranges, *seen)
        return True

    async def run(self, client: ApiClient, scope: Scope, on_news: Callable[[], None]) -> None:
        """Ask until there are answers, and then for what was refused; ``on_news`` is called after each answer."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_asking(client, on_news))
            tasks.create_task(self._until_answered(lambda: self.ask_forwards(client, scope), on_news))

    async def _keep_asking(self, client: ApiClient, on_news: Callable[[], None]) -> None:
        """Rights are given later, and an API server that starts refuses everybody."""
        pause, longest = REFUSED
        await self._until_answered(lambda: self.ask(client), on_news)
        while self.is_refused:
            await asyncio.sleep(pause)
            pause = min(longest, 2 * pause)
            await self._until_answered(lambda: self.ask(client, again=True), on_news)

    async def _until_answered(self, ask: Callable[[], Awaitable[bool]], on_news: Callable[[], None]) -> None:
        """``ask``, and again whenever the API server has given us something, until it answers that, too."""
        while True:
            self.given.clear()
            if await ask():
                break
            await self.given.wait()
        on_news()

    async def ask(self, client: ApiClient, *, again: bool = False) -> bool:
        """Ask for ranges and domain; False when there is no answer. ``again``: only those ranges that were refused."""
        try:
            ranges = self._ask_ranges(client, self._told if again else None)
            told, domain = await asyncio.gather(ranges, domain_of(client))
        except (ApiError, UnreachableError) as error:
            log.debug("facts of the cluster: %s", error)
            return False
        self._told, self.domain = told, domain or ""
        self.is_refused = told.is_refused or domain is None
        self.knows_domain = self._changed = True
        return True

    async def ask_forwards(self, client: ApiClient, scope: Scope) -> bool:
        """Ask whether port-forwards are allowed; False when there is no answer, and it is as it was."""
        try:
            self.missing_forwards = await missing_forwards(client, scope)
        except (ApiError, UnreachableError) as error:
            log.debug("whether port-forwards are allowed: %s", error)
            return not error.is_passing
        return True

    async def _ask_ranges(self, client: ApiClient, before: Told | None) -> Told:
        if self.settings.ranges is not None:
            return Told({ip_network(text): SETTING for text in self.settings.ranges})
        return await discover(client, before)
