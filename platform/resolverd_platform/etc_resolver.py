"""The back end ``etc-resolver``: on macOS a file in /etc/resolver sends a domain to a DNS server of its own.

Written after resolver(5), scutil(8) and what others print of them; it was never run on a Mac (docs/adr/0009-macos.md).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

from resolverd.errors import HostError
from resolverd.host import Applied, Capabilities, HostDns, OtherLink
from resolverd.names import is_domain

from . import resolver_file, scutil
from .command import Finished, Programs, Runner
from .resolver_file import MULTICAST, SEARCH, ResolverFile
from .resolver_folder import ResolverFolder
from .scutil import Client

log = logging.getLogger(__name__)

FOLDER = Path("/etc/resolver")
POLL = 2.0
"""Seconds between two looks at our files."""
REASSERT_PAUSE = 5.0
"""Shortest time between two corrections of what others did, in seconds."""
FIGHT, FIGHT_TIME = 3, 60.0
"""So many corrections within so many seconds are a fight: it is told, and goes on at its slow pace."""
_FLUSHES = (("/usr/bin/dscacheutil", "-flushcache"), ("/usr/bin/killall", "-HUP", "mDNSResponder"))
_SCUTIL = ("/usr/sbin/scutil", "--dns")
_ROUTES = (("/sbin/route", "-n", "get", "default"), ("/sbin/route", "-n", "get", "-inet6", "default"))
_IFCONFIG = ("/sbin/ifconfig",)


def take_back(folder: Path = FOLDER) -> list[str]:
    """Remove what a killed daemon left in ``folder``; what was done, in words. HostError, NoPermissionError."""
    return [f"our files in {folder} removed"] if ResolverFolder(folder).clear() else []


def look(system: str = sys.platform) -> tuple[bool, str]:
    """Whether this host reads /etc/resolver, and the fact."""
    if system == "darwin":
        return True, "macOS asks the servers that files in /etc/resolver name"
    return False, "only macOS reads /etc/resolver"


class EtcResolverBackend:
    """Keeps what it wrote only to notice changes: what is in force is always read from the folder."""

    name = "etc-resolver"

    def __init__(
        self,
        link: str,
        run: Runner | None = None,
        folder: Path = FOLDER,
        clock: Callable[[], float] = time.monotonic,
        poll: float = POLL,
    ) -> None:
        """``clock`` and ``poll`` are in seconds."""
        self._link = link
        self._run = Programs() if run is None else run
        self._folder = ResolverFolder(folder)
        self._clock = clock
        self._poll = poll
        self._written: Mapping[str, bytes] = {}
        self._applied = HostDns()
        self._host_search: tuple[str, ...] = ()
        self._corrections: deque[float] = deque(maxlen=FIGHT)

    async def capabilities(self) -> Capabilities:
        """``scutil --dns`` knows every client; which of them are our files' the folder tells."""
        dns, *routes, interfaces = await asyncio.gather(*map(self._ask, (_SCUTIL, *_ROUTES, _IFCONFIG)))
        if dns.code:
            raise HostError(_SCUTIL[0], f"it failed: {dns.err.strip() or dns.code}")
        there = self._folder.look()
        found = [client for client in scutil.clients(dns.out) if not self._is_ours(client, there)]
        ours = set(_search_of(there))
        self._host_search = tuple(
            dict.fromkeys(name for client in found if not client.domain for name in client.search if name not in ours)
        )
        gateways = (scutil.gateway(answer.out) for answer in routes if not answer.code)
        return Capabilities(
            backend=self.name,
            needs_link=False,
            host_search=self._host_search,
            other_links=_other_links(found, there),
            nameservers=tuple(dict.fromkeys(address for client in found for address in client.nameservers)),
            gateways=tuple(address for address in gateways if address is not None),
            subnets=tuple(dict.fromkeys(scutil.subnets(interfaces.out, self._link))),
        )

    async def apply(self, want: HostDns) -> Applied:
        if not want:
            await self.revert()
            return Applied()
        _check(want)
        self._link = want.link
        notes: list[str] = []
        self._applied = fitting = self._fitting(want, notes)
        if self._folder.bring(lambda made: self._render(fitting, made)):
            try:
                await self.flush()
            except HostError as error:
                notes.append(f"the host's cache was not flushed: {error}")
        if self._is_fight():
            notes.append(f"another program keeps changing {self._folder.path}")
        return Applied(fitting, tuple(notes))

    async def read(self) -> HostDns:
        there = {name: file for name, file in self._folder.look().items() if file.ours}
        search = _search_of(there)
        servers = next((file.servers for file in there.values() if file.servers), ())
        routing = tuple(name for name in there if name != SEARCH and name not in search)
        found = HostDns(self._link, servers, routing, search)
        return found if found else HostDns()

    async def flush(self) -> None:
        """What the manual pages and everybody's habit say; HostError when neither cache could be told."""
        for command in _FLUSHES:
            finished = await self._run(*command)
            if finished.code:
                raise HostError(command[0], f"it failed: {finished.err.strip() or finished.code}")

    async def revert(self) -> None:
        self._written, self._applied = {}, HostDns()
        if self._folder.clear():
            await self.flush()

    async def disturbances(self) -> AsyncGenerator[str, None]:
        """Files of ours that are gone or changed, looked for every two seconds, told of every five at most."""
        while True:
            await asyncio.sleep(self._poll)
            stray = next(self._folder.strays(self._written), "")
            now = self._clock()
            if not stray or (self._corrections and now - self._corrections[-1] < REASSERT_PAUSE):
                continue
            self._corrections.append(now)
            if self._is_fight():
                log.warning("another program keeps changing %s: see who with fs_usage", self._folder.path)
            yield stray

    async def close(self) -> None:
        """Nothing is open."""

    async def _ask(self, command: tuple[str, ...]) -> Finished:
        return await self._run(*command)

    def _is_ours(self, client: Client, there: Mapping[str, ResolverFile]) -> bool:
        """Of a file of ours, also of one that was there a moment ago; it belongs to no interface."""
        if client.link or client.options == scutil.MULTICAST or not client.domain:
            return False
        own = {server.address for server in self._applied.servers}
        known = client.domain in there and there[client.domain].ours
        return known or client.domain == SEARCH or bool(client.nameservers and own.issuperset(client.nameservers))

    def _fitting(self, want: HostDns, notes: list[str]) -> HostDns:
        """``want`` without the domains that may not be written, each with a note."""
        there = self._folder.look()
        others = {name: name for name, file in there.items() if not file.ours}
        others |= {file.domain: name for name, file in there.items() if not file.ours}
        left_out: dict[str, str] = {}
        for name in (*want.routing, *want.search):
            if name in others:
                left_out[name] = f"{self._folder.path / others[name]} is not ours and stays"
            elif name in (MULTICAST, SEARCH):
                left_out[name] = "no file of this name may be written"
        notes += [f"{name} is left out: {why}" for name, why in left_out.items()]
        rivals = [name for name, file in there.items() if file.search and not file.ours]
        if want.search and rivals:
            names = ", ".join(rivals)
            notes.append(f"names of one label may not be found: {names} in {self._folder.path} has a search list too")
        return HostDns(
            want.link,
            want.servers,
            tuple(name for name in want.routing if name not in left_out),
            tuple(name for name in want.search if name not in left_out),
        )

    def _render(self, want: HostDns, folder_is_ours: bool) -> Mapping[str, bytes]:
        """The files; macOS takes one search list only, so ours ends with the host's own."""
        written = {
            name: resolver_file.client(name, want.servers, folder_is_ours) for name in (*want.routing, *want.search)
        }
        if want.search:
            whole = dict.fromkeys((*want.search, *self._host_search))
            written[SEARCH] = resolver_file.search_list(tuple(whole), folder_is_ours)
        self._written = written
        return written

    def _is_fight(self) -> bool:
        full = len(self._corrections) == FIGHT
        return full and self._clock() - self._corrections[0] < FIGHT_TIME


def _search_of(there: Mapping[str, ResolverFile]) -> tuple[str, ...]:
    """Our search domains: those of our list that have a file of ours; the rest of it is the host's."""
    listed = there[SEARCH].search if SEARCH in there and there[SEARCH].ours else ()
    return tuple(name for name in listed if name in there and there[name].ours)


def _other_links(found: list[Client], there: Mapping[str, ResolverFile]) -> tuple[OtherLink, ...]:
    """Who else is asked for which domains: interfaces, multicast DNS, and files that are not ours."""
    files = {file.domain: f"{FOLDER}/{name}" for name, file in there.items() if not file.ours}
    links = scutil.other_links(
        client for client in found if client.link or client.options or client.domain not in files
    )
    return (*links, *(OtherLink(name, (domain,), ()) for domain, name in files.items()))


def _check(want: HostDns) -> None:
    """The plan lets none of these through; what is no domain must not become a path."""
    for name in (*want.routing, *want.search):
        if not is_domain(name) or name.endswith("."):
            raise HostError(
                "link domains", f"{name or '.'} is no domain that may be routed", "this is a bug: report it"
            )
    if len({server.port for server in want.servers}) != 1:
        raise HostError("resolver files", "the DNS servers must share one port", "this is a bug: report it")
