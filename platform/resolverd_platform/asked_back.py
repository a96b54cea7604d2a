"""What the host's resolver really does with a name: asked of systemd-resolved by name, elsewhere by getaddrinfo."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from ipaddress import ip_address

from resolverd.errors import one_line
from resolverd.host_lookup import addresses_of

from . import host_facts, resolv_owner
from .dbus import Bus, BusError, RefusedError
from .override import OverrideBackend
from .resolv_conf import Original, nameservers_of
from .resolv_file import ResolvFile
from .resolved_wire import manager

PATIENCE = 5.0
"""Seconds for one lookup."""
_IN = 1
_PTR = 12
_SYNTHETIC = 1 << 19
"""SD_RESOLVED_SYNTHETIC: out of /etc/hosts, or a name of this host (org.freedesktop.resolve1(5))."""
_CACHED = 1 << 20
"""SD_RESOLVED_FROM_CACHE."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What came of asking the host's resolver."""

    by: str
    """Who was asked."""
    link: str = ""
    """The link whose servers answered; empty: it is not said, or nobody did."""
    addresses: tuple[str, ...] = ()
    """For a reverse name: the names."""
    error: str = ""
    synthetic: bool = False
    """The host answered by itself, as out of /etc/hosts."""
    cached: bool = False


async def ask_back(name: str, backend: str, bus: Bus) -> Lookup:
    """Look ``name`` up as any program here would. What is redirected to us is not what systemd-resolved is asked."""
    if backend != OverrideBackend.name and resolv_owner.uses_resolved(
        nameservers_of(Original(ResolvFile(host_facts.RESOLV_CONF).read()))
    ):
        return await _ask_resolved(name, bus)
    try:
        return Lookup("getaddrinfo", addresses=tuple(_by_libc(name)))
    except OSError as error:
        return Lookup("getaddrinfo", error=one_line(str(error.strerror or error)))


def _by_libc(name: str) -> list[str]:
    if not _is_reverse(name):
        return addresses_of(name, PATIENCE)
    digits = name.removesuffix(".").split(".")[-3::-1]
    v6 = name.endswith("ip6.arpa")
    text = ":".join("".join(digits[at : at + 4]) for at in range(0, 32, 4)) if v6 else ".".join(digits)
    try:
        return [socket.getnameinfo((str(ip_address(text)), 0), socket.NI_NAMEREQD)[0]]
    except ValueError:
        raise OSError("getaddrinfo cannot ask for this") from None


async def _ask_resolved(name: str, bus: Bus) -> Lookup:
    by = "systemd-resolved"
    try:
        if _is_reverse(name):
            records, flags = await bus.call(manager("ResolveRecord", "isqqt", 0, name, _IN, _PTR, 0))
            links = [entry[0] for entry in records]
            found = [_target(bytes(entry[3])) for entry in records]
        else:
            entries, _, flags = await bus.call(manager("ResolveHostname", "isit", 0, name, socket.AF_UNSPEC, 0))
            links = [entry[0] for entry in entries]
            found = [str(ip_address(bytes(entry[2]))) for entry in entries]
    except RefusedError as error:
        return Lookup(by, error=one_line(error.text))
    except BusError as error:
        return Lookup(by, error=one_line(str(error)))
    link = next((_link_name(index) for index in links if index), "")
    return Lookup(by, link, tuple(dict.fromkeys(found)), "", bool(flags & _SYNTHETIC), bool(flags & _CACHED))


def _target(record: bytes) -> str:
    """The name in a PTR record on the wire, behind owner, type, class, TTL and length (never compressed)."""
    at = 0
    while record[at]:
        at += 1 + record[at]
    at += 11
    found: list[str] = []
    while record[at]:
        found.append(record[at + 1 : at + 1 + record[at]].decode("ascii", "replace"))
        at += 1 + record[at]
    return one_line(".".join(found))


def _link_name(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return f"#{index}"


def _is_reverse(name: str) -> bool:
    return name.removesuffix(".").endswith((".in-addr.arpa", ".ip6.arpa"))
