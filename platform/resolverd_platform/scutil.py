"""What macOS's own programs print about its network: scutil --dns, route -n get, ifconfig. Pure.

They are made for people and change now and then: whatever is not understood is skipped, never an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_network

from resolverd.host import OtherLink, Subnet
from resolverd.names import Address, address_of, fold

_BLOCK = re.compile(r"resolver #\d+")
_ENTRY = re.compile(r"\s+(?P<key>[a-z_ ]+?)\s*(\[\d+\])?\s*:\s*(?P<value>.*?)\s*")
_INTERFACE = re.compile(r"(?P<name>[\w.-]+): flags=[0-9a-f]+<(?P<flags>[A-Z0-9_,]*)>")
SCOPED = "DNS configuration (for scoped queries)"
"""Begins the part that says what is asked by way of one interface: every resolver once more."""
MULTICAST = "mdns"


@dataclass(frozen=True, slots=True)
class Client:
    """A DNS client ("resolver #N") of ``scutil --dns``."""

    domain: str = ""
    """What it is asked for, folded; empty for everything."""
    link: str = ""
    """The interface it belongs to; empty for a file in /etc/resolver, and for multicast DNS."""
    search: tuple[str, ...] = ()
    nameservers: tuple[Address, ...] = ()
    options: str = ""


def clients(text: str) -> Iterator[Client]:
    """The clients of ``scutil --dns``, those for scoped queries left out."""
    block: list[tuple[str, str]] | None = None
    for line in text.partition(SCOPED)[0].splitlines():
        if _BLOCK.match(line):
            if block is not None:
                yield _client(block)
            block = []
        elif block is not None and (entry := _ENTRY.fullmatch(line)):
            block.append((entry["key"].strip(), entry["value"]))
    if block is not None:
        yield _client(block)


def _client(entries: list[tuple[str, str]]) -> Client:
    def of(key: str) -> list[str]:
        return [value for name, value in entries if name == key]

    link = re.search(r"\((.+)\)", " ".join(of("if_index")))
    return Client(
        domain=_bare(" ".join(of("domain"))),
        link=link[1] if link else "",
        search=tuple(filter(None, map(_bare, of("search domain")))),
        nameservers=tuple(_addresses(of("nameserver"))),
        options=" ".join(of("options")),
    )


def other_links(found: Iterable[Client]) -> tuple[OtherLink, ...]:
    """Who is asked for which domains."""
    routing: dict[str, dict[str, None]] = {}
    search: dict[str, dict[str, None]] = {}
    for client in found:
        if client.domain:
            name = client.link or client.options or "/etc/resolver"
            routing.setdefault(name, {})[client.domain] = None
            search.setdefault(name, {}).update(dict.fromkeys(client.search))
    return tuple(OtherLink(name, tuple(routing[name]), tuple(search[name])) for name in routing)


def gateway(text: str) -> Address | None:
    """The next hop in what ``route -n get default`` prints; None for a default route without one (``link#25``)."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "gateway":
            return _address(value)
    return None


def subnets(text: str, own_link: str) -> Iterator[Subnet]:
    """The networks of the interfaces that are up in what ``ifconfig`` prints; loopback and ``own_link`` left out.

    Of a point-to-point link that is the other end alone, as macOS routes it.
    """
    link = ""
    for line in text.splitlines():
        if interface := _INTERFACE.match(line):
            flags = interface["flags"].split(",")
            link = interface["name"] if "UP" in flags and "LOOPBACK" not in flags else ""
        elif link and link != own_link and (subnet := _subnet(line.split(), link)):
            yield subnet


def _subnet(words: list[str], link: str) -> Subnet | None:
    match words:
        case ["inet", _, "-->", peer, *_]:
            address, length = _address(peer), "32"
        case ["inet", text, "netmask", mask, *_] if re.fullmatch("0x[0-9a-f]{8}", mask):
            address, length = _address(text), str(IPv4Address(int(mask, 16)))
        case ["inet6", _, "-->", peer, *_]:
            address, length = _address(peer), "128"
        case ["inet6", text, "prefixlen", bits, *_] if re.fullmatch("[0-9]{1,3}", bits):
            address, length = _address(text), bits
        case _:
            return None
    if address is None or address.is_link_local or address.is_unspecified:
        return None
    try:
        return Subnet(ip_network(f"{address}/{length}", strict=False), link)
    except ValueError:
        return None


def _addresses(texts: Iterable[str]) -> Iterator[Address]:
    for text in texts:
        if (address := _address(text)) is not None:
            yield address


def _address(text: str) -> Address | None:
    return address_of(text.strip().partition("%")[0])


def _bare(text: str) -> str:
    return fold(text.strip()).strip(".")
