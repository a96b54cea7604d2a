"""The back end ``systemd-resolved``: per-link DNS settings over the system bus (resolved 237 and later)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from typing import Any

from resolverd.errors import HostError
from resolverd.host import Applied, Capabilities, HostDns, Returned, Server
from resolverd.names import is_domain

from . import host_facts, resolved_wire
from .dbus import BUS, BUS_PATH, Bus, BusError, Call, Match, NoBusError, RefusedError, Signal
from .host_facts import HostFacts
from .resolved_errors import LIMIT_NAMES, LINK_GONE_NAMES, MISSING_NAMES, explain, no_link
from .resolved_saved import SavedSettings, either
from .resolved_wire import (
    LINK,
    MANAGER,
    MODES,
    PATH,
    PROPERTIES,
    SERVICE,
    LinkState,
    cut,
    manager,
    other_links,
    properties_of,
)

DOMAIN_LIMITS = (1024, 256, 32)
"""LINK_SEARCH_DOMAINS_MAX since 258, since 240, and before. Above it the whole call is refused."""
_FEATURES = (("GetDelegate", 1024), ("SetLinkDefaultRoute", 256))
"""Methods of the Manager that came with (or before) a higher limit; there is no property that tells the version."""
_NEW_LINK_TRIES = 10
_NEW_LINK_PAUSE = 0.05
"""Seconds between tries: resolved hears of a new link by netlink, maybe after our call."""
_RECONNECT_PAUSE = 1.0
"""Seconds between looks whether the bus is there again."""
_NO_LINK = -1
"""No link's number; 0 stands for what is host-wide."""
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"
_SIGNALS = (
    Match(BUS, BUS_PATH, BUS, "NameOwnerChanged", SERVICE),
    Match(SERVICE, PATH, PROPERTIES, "PropertiesChanged", MANAGER),
)


class ResolvedBackend:
    """Keeps no state but what saves calls: what is in force is always read from resolved."""

    name = "systemd-resolved"

    def __init__(
        self,
        link: str,
        bus: Bus,
        facts: Callable[[str], HostFacts] = host_facts.read,
        saved: SavedSettings | None = None,
    ) -> None:
        self._link = link
        self._bus = bus
        self._facts = facts
        self._saved = SavedSettings() if saved is None else saved
        self._limit = 0
        self._applied = HostDns()
        self._elsewhere: tuple[Server, ...] | None = None
        """The servers of all other links when they were last looked at."""

    async def capabilities(self) -> Capabilities:
        """The Manager knows every link's domains and servers, and the host-wide ones of /etc/resolv.conf."""
        (properties,) = await self._call(properties_of(PATH, MANAGER))
        own, facts = _index_of(self._link) or _NO_LINK, self._facts(self._link)
        entries = resolved_wire.domain_entries(properties)
        host_wide = (name for index, name, routing in entries if not index and not routing)
        self._elsewhere = elsewhere = resolved_wire.servers_elsewhere(properties.get("DNS", ()), own)
        return Capabilities(
            backend=self.name,
            bus=self._bus.binding,
            domain_limit=await self._domain_limit(),
            host_search=tuple(dict.fromkeys((*host_wide, *facts.search_of_its_own))),
            other_links=other_links(entries, own),
            nameservers=tuple(dict.fromkeys((*(server.address for server in elsewhere), *facts.nameservers))),
            gateways=facts.gateways,
            subnets=facts.subnets,
        )

    async def apply(self, want: HostDns) -> Applied:
        if not want:
            if await self.read():
                await self.revert()
            return Applied()
        _check_names(want)
        self._link = want.link
        index = _index_of(want.link)
        if not index:
            raise no_link(want.link)
        notes: list[str] = []
        fitting = cut(want, self._limit)
        self._applied = fitting  # before the calls: what they signal is no disturbance
        with self._saved.ours():
            fitting, changed = await self._bring(index, fitting, notes)
        if fitting != want:
            notes.append(f"this systemd-resolved takes {self._limit} domains a link; the rest was left out")
        self._applied = fitting
        return Applied(fitting, tuple(notes), changed)

    async def read(self) -> HostDns:
        index = _index_of(self._link)
        if not index:
            return HostDns()
        state = await self._state(index)
        found = HostDns(self._link, state.servers, state.routing, state.search)
        return found if found else HostDns()

    async def flush(self) -> None:
        await self._call(manager("FlushCaches"))

    async def revert(self) -> None:
        """A link that is gone has taken its settings along."""
        self._applied = HostDns()
        index = _index_of(self._link)
        if not index:
            return
        try:
            with self._saved.ours():
                await self._bus.call(manager("RevertLink", "i", index))
        except BusError as error:
            if not _is(error, LINK_GONE_NAMES):
                raise explain(error, self._link) from error
        await self.flush()

    def disturbances(self) -> AsyncGenerator[str, None]:
        """resolved coming and going, settings of a link changed by another, and the bus itself breaking."""
        return either(self._heard(), self._saved.changes())

    async def _heard(self) -> AsyncGenerator[str, None]:
        """What signals tell: not that domains alone were changed."""
        lost = False
        while True:
            try:
                if lost:
                    await self._bus.call(Call(BUS, BUS_PATH, BUS, "GetId"))
                    lost = False
                    yield Returned("the system bus is back")
                async for signal in self._bus.signals(_SIGNALS):
                    if reason := self._disturbance(signal):
                        yield reason
            except BusError as error:
                if not lost and isinstance(error, NoBusError):
                    yield f"the system bus is lost: {error}"
                lost = True
                await asyncio.sleep(_RECONNECT_PAUSE)

    async def close(self) -> None:
        await self._bus.close()

    def _disturbance(self, signal: Signal) -> str:
        if signal.member == "NameOwnerChanged" and signal.body[0] == SERVICE:
            self._limit = 0  # it may be another version now
            return Returned("systemd-resolved was started") if signal.body[2] else "systemd-resolved has stopped"
        if signal.member == "PropertiesChanged" and signal.body[0] == MANAGER and "DNS" in signal.body[1]:
            return self._server_disturbance(signal.body[1]["DNS"])
        return ""

    def _server_disturbance(self, entries: Any) -> str:
        """Ours changed by another; or those of another link, which comes or goes, and its domains with it."""
        own = _index_of(self._link)
        ours = {server.address for server in resolved_wire.servers_of(entries, own)}
        if self._applied and ours != {server.address for server in self._applied.servers}:
            return f"the DNS servers of {self._link} were changed"
        if self._elsewhere is not None and resolved_wire.servers_elsewhere(entries, own or _NO_LINK) != self._elsewhere:
            return "the DNS servers of another link were changed"
        return ""

    async def _bring(self, index: int, want: HostDns, notes: list[str]) -> tuple[HostDns, bool]:
        """Send what differs from what is in force, and nothing else; what was taken, and whether anything was sent."""
        state = await self._state(index)
        fresh, moved = not state.same_servers(want), not state.same_domains(want)
        changed = fresh or moved
        # First of all: a link that has servers and no domains yet would be asked everything.
        if changed or state.default_route:
            changed = await self._tolerant(manager("SetLinkDefaultRoute", "ib", index, False), notes) or changed
        if fresh:
            await self._set_servers(index, want, notes)
        if moved:
            want = await self._set_domains(index, want)
        for mode, method in MODES.items():
            if fresh or state.modes.get(mode, "no") != "no":
                changed = await self._tolerant(manager(method, "is", index, "no"), notes) or changed
        if changed:
            await self.flush()
        return want, changed

    async def _set_servers(self, index: int, want: HostDns, notes: list[str]) -> None:
        try:
            await self._bus.call(resolved_wire.set_servers(index, want.servers))
        except BusError as error:
            if not _is(error, MISSING_NAMES):
                raise explain(error, self._link) from error
            if any(server.port != resolved_wire.PORT for server in want.servers):
                fix = "let the DNS server listen on port 53"
                raise HostError("systemd-resolved", "before version 246 it asks port 53 only", fix) from error
            await self._call(resolved_wire.set_servers_before_246(index, want.servers))
            notes.append(_missing("SetLinkDNSEx"))

    async def _set_domains(self, index: int, want: HostDns) -> HostDns:
        """The domains that were taken: above its limit resolved refuses them all."""
        while True:
            try:
                await self._bus.call(resolved_wire.set_domains(index, want))
            except BusError as error:
                count = len(want.search) + len(want.routing)
                lower = next((limit for limit in DOMAIN_LIMITS if limit < count), 0)
                if not lower or not _is(error, LIMIT_NAMES):
                    raise explain(error, self._link) from error
                self._limit = lower
                want = cut(want, lower)
            else:
                return want

    async def _tolerant(self, call: Call, notes: list[str]) -> bool:
        """Whether ``call`` was understood: a version that lacks it cannot do what it would turn off."""
        try:
            await self._bus.call(call)
        except BusError as error:
            if not _is(error, MISSING_NAMES):
                raise explain(error, self._link) from error
            notes.append(_missing(call.member))
            return False
        return True

    async def _state(self, index: int) -> LinkState:
        """The link's settings. HostError when resolved does not come to know the link within half a second."""
        for tries in range(_NEW_LINK_TRIES, 0, -1):
            try:
                (path,) = await self._bus.call(manager("GetLink", "i", index))
                (properties,) = await self._bus.call(properties_of(path, LINK))
            except BusError as error:
                if tries == 1 or not _is(error, LINK_GONE_NAMES):
                    raise explain(error, self._link) from error
                await asyncio.sleep(_NEW_LINK_PAUSE)
            else:
                return resolved_wire.link_state(properties)
        raise no_link(self._link)

    async def _domain_limit(self) -> int:
        """Found by what this version can do, once; corrected by :meth:`_set_domains` when it turns out lower."""
        if not self._limit:
            (interfaces,) = await self._call(Call(SERVICE, PATH, INTROSPECTABLE, "Introspect"))
            fits = (limit for method, limit in _FEATURES if f'"{method}"' in interfaces)
            self._limit = next(fits, DOMAIN_LIMITS[-1])
        return self._limit

    async def _call(self, call: Call) -> tuple[Any, ...]:
        try:
            return await self._bus.call(call)
        except BusError as error:
            raise explain(error, self._link) from error


def _index_of(link: str) -> int:
    """The number of a link, 0 when it does not exist."""
    try:
        return socket.if_nametoindex(link)
    except OSError:
        return 0


def _check_names(want: HostDns) -> None:
    """The plan lets none of these through; resolved would take the root, and the whole internet with it."""
    for name in (*want.routing, *want.search):
        if not is_domain(name):
            raise HostError(
                "link domains", f"{name or '.'} is no domain that may be routed", "this is a bug: report it"
            )


def _is(error: BusError, names: frozenset[str]) -> bool:
    return isinstance(error, RefusedError) and error.name in names


def _missing(method: str) -> str:
    return f"this systemd-resolved has no {method}"
