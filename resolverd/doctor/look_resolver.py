"""Facts about how programs on this machine resolve names: read, never changed."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

from resolverd.errors import ResolverdError
from resolverd.host import OtherLink
from resolverd_platform import host_facts, resolv_owner, resolved_wire
from resolverd_platform.dbus import BUS, BUS_PATH, Bus, BusError, Call, RefusedError
from resolverd_platform.resolv_conf import Original, nameservers_of
from resolverd_platform.resolv_file import ResolvFile

from .facts import ResolverFacts

NSSWITCH = Path("/etc/nsswitch.conf")
NETWORK_MANAGER = "org.freedesktop.NetworkManager"
_NDOTS = re.compile(r"\bndots:(\d+)")


async def look(
    bus: Bus, device: str, resolv_conf: Path = host_facts.RESOLV_CONF, nsswitch: Path = NSSWITCH
) -> ResolverFacts:
    """What the bus and the two files say; ``device`` is our own link, which is left out."""
    facts = host_facts.read(device, resolv_conf)
    file = ResolvFile(resolv_conf)
    try:
        text, owner = file.read(), resolv_owner.describe(file)
    except ResolverdError as error:
        text, owner = None, str(error)
    trouble, is_running, mode, links = await _on_bus(bus, device)
    return ResolverFacts(
        bus=trouble,
        is_running=is_running,
        is_used=resolv_owner.uses_resolved(nameservers_of(Original(text))),
        owner=owner,
        has_resolv_conf=text is not None,
        nameservers=facts.nameservers,
        search=facts.search,
        ndots=_ndots(text or ""),
        hosts=_hosts(nsswitch),
        network_manager=mode,
        links=links,
        subnets=facts.subnets,
    )


async def _on_bus(bus: Bus, device: str) -> tuple[str, bool, str | None, tuple[OtherLink, ...]]:
    """Why there is no bus; whether resolved is on it; NetworkManager's DNS mode; domains of other links."""
    try:
        is_running = await _is_owned(bus, resolved_wire.SERVICE)
        mode = await _mode(bus) if await _is_owned(bus, NETWORK_MANAGER) else None
        links = await _links(bus, device) if is_running else ()
    except BusError as error:
        return str(error) or type(error).__name__, False, None, ()
    except ModuleNotFoundError as error:  # it is installed on Linux only
        return f"there is no {error.name} to reach it with", False, None, ()
    finally:
        await bus.close()
    return "", is_running, mode, links


async def _is_owned(bus: Bus, name: str) -> bool:
    (owned,) = await bus.call(Call(BUS, BUS_PATH, BUS, "NameHasOwner", "s", (name,)))
    return bool(owned)


async def _mode(bus: Bus) -> str:
    about = f"{NETWORK_MANAGER}.DnsManager"
    call = Call(
        NETWORK_MANAGER,
        "/org/freedesktop/NetworkManager/DnsManager",
        resolved_wire.PROPERTIES,
        "Get",
        "ss",
        (about, "Mode"),
    )
    try:
        (mode,) = await bus.call(call)
    except RefusedError:  # before 1.6
        return "default"
    return str(mode)


async def _links(bus: Bus, device: str) -> tuple[OtherLink, ...]:
    properties: dict[str, Any]
    (properties,) = await bus.call(resolved_wire.properties_of(resolved_wire.PATH, resolved_wire.MANAGER))
    try:
        own = socket.if_nametoindex(device)
    except OSError:
        own = -1  # no link's: 0 stands for the whole host
    return resolved_wire.other_links(resolved_wire.domain_entries(properties), own)


def _ndots(text: str) -> int:
    """Of the last options line that has it (resolv.conf(5))."""
    lines = [line for line in text.splitlines() if line.split()[:1] == ["options"]]
    found = [int(match[1]) for line in lines for match in _NDOTS.finditer(line)]
    return found[-1] if found else 1


def _hosts(path: Path) -> tuple[str, ...] | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    line = next((line for line in lines if line.partition(":")[0].strip() == "hosts"), None)
    if line is None:
        return None
    value = line.partition("#")[0].partition(":")[2]
    return tuple(re.findall(r"\[[^]]*\]|\S+", value))
