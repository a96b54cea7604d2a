"""A stand-in for the routes and interfaces of a Mac behind ifconfig, route and netstat: it keeps state, and fails in
the words of the real programs, as people have printed them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from resolverd.names import Address, Network
from resolverd_tunnel.programs import Finished

SOCKET_SAYS = "route: writing to routing socket: "


@dataclass(frozen=True)
class Entry:
    network: Network
    link: str
    flags: str
    gateway: str


@dataclass
class MacNetwork:
    """The routing table is there with a default route, a subnet, and this host's own address."""

    root: bool = True
    old: bool = False
    """route ends with 0 whatever happens."""
    entries: list[Entry] = field(
        default_factory=lambda: [
            Entry(ip_network("0.0.0.0/0"), "en0", "UGScg", "192.168.1.1"),
            Entry(ip_network("127.0.0.0/8"), "lo0", "UCS", "127.0.0.1"),
            Entry(ip_network("192.168.1.0/24"), "en0", "UCS", "link#11"),
            Entry(ip_network("192.168.1.51/32"), "lo0", "UHLWIi", "52:54:0:c9:18:27"),
            Entry(ip_network("fe80::/64"), "utun4", "UcI", "fe80::1%utun4"),
        ]
    )
    commands: list[str] = field(default_factory=list)
    broken: Callable[[Sequence[str]], Finished | None] = lambda _: None

    def __call__(self, command: Sequence[str]) -> Finished:
        self.commands.append(" ".join(command))
        if (broken := self.broken(command)) is not None:
            return broken
        match command:
            case ["/sbin/ifconfig", link, *arguments]:
                return self._ifconfig(link, arguments)
            case ["/sbin/route", "-n", "get", _, address]:
                return self._get(ip_address(address))
            case ["/sbin/route", "-n", verb, _, kind, target, "-interface", link]:
                assert kind == ("-net" if "/" in target else "-host")
                return self._change(verb, ip_network(target), link, host=kind == "-host")
            case ["/usr/sbin/netstat", "-rn", "-f", family]:
                return Finished(0, "\n".join(self._table(4 if family == "inet" else 6)))
        raise AssertionError(command)

    def number(self, link: str) -> int:
        return 1 + sum(map(ord, link))

    def name(self, ifindex: int) -> str:
        (link,) = {entry.link for entry in self.entries if self.number(entry.link) == ifindex} or {"utun7"}
        return link

    def _ifconfig(self, link: str, arguments: Sequence[str]) -> Finished:
        match arguments:
            case ["inet", address, peer, "netmask", _]:
                self.entries.append(Entry(ip_network(peer), link, "UH", address))
            case ["inet6", address, "prefixlen", "128", "alias"]:
                self.entries.append(Entry(ip_network(address), "lo0", "UHL", "link#17"))
            case ["mtu", size, "up"] if size.isdigit():
                pass
            case _:
                return Finished(1, "", f"ifconfig: {arguments[0]}: bad value\n")
        return Finished(0, "")

    def _change(self, verb: str, network: Network, link: str, host: bool) -> Finished:
        shown = f"{verb} {'host' if host else 'net'} {network.network_address}"
        if not self.root:
            return Finished(77, "", "route: must be root to alter routing table\n")
        there = [entry for entry in self.entries if entry.network == network]
        if verb == "add" and there:
            return self._failed(f"{shown}: gateway {link}: File exists\n", "File exists")
        if verb == "delete" and not [entry for entry in there if entry.link == link]:
            return self._failed(f"{shown}: not in table\n", "not in table")
        if verb == "add":
            self.entries.append(Entry(network, link, "UHS" if host else "USc", link))
        else:
            self.entries = [entry for entry in self.entries if (entry.network, entry.link) != (network, link)]
        return Finished(0, f"{shown}: gateway {link}\n")

    def _failed(self, out: str, why: str) -> Finished:
        return Finished(0 if self.old else 1, out, f"{SOCKET_SAYS}{why}\n")

    def _get(self, address: Address) -> Finished:
        fitting = [entry for entry in self.entries if address in entry.network]
        if not fitting:
            return Finished(1, "", f"{SOCKET_SAYS}not in table\n")
        entry = max(fitting, key=lambda one: one.network.prefixlen)
        host = entry.network.prefixlen == entry.network.max_prefixlen
        lines = [f"   route to: {address}"]
        if entry.network.prefixlen:
            lines.append(f"destination: {entry.network.network_address}")
            lines += [] if host else [f"       mask: {entry.network.netmask}"]
        else:
            lines += ["destination: default", "       mask: default"]
        lines += [f"    gateway: {entry.gateway}"] if "G" in entry.flags else []
        letters = {"H": "HOST", "C": "CLONING", "c": "PRCLONING", "S": "STATIC"}
        flags = ["UP", *(name for letter, name in letters.items() if letter in entry.flags), "DONE"]
        flags += ["LOCAL"] if entry.link == "lo0" else []
        lines += [f"  interface: {entry.link}", f"      flags: <{','.join(flags)}>", " recvpipe  sendpipe  ssthresh"]
        return Finished(0, "\n".join(lines))

    def _table(self, version: int) -> list[str]:
        head = ["Routing tables", "", "Internet:" if version == 4 else "Internet6:"]
        head.append("Destination        Gateway            Flags        Netif Expire")
        rows = [entry for entry in self.entries if entry.network.version == version]
        return [*head, *(f"{shown(e.network, e.flags)}  {e.gateway}  {e.flags}  {e.link}" for e in rows)]


def shown(network: IPv4Network | IPv6Network, flags: str) -> str:
    """As netstat abbreviates it."""
    if not network.prefixlen:
        return "default"
    if network.version == 6:
        if network.network_address.is_link_local:
            return f"{network.network_address}%utun4/{network.prefixlen}"
        return str(network.network_address) if network.prefixlen == 128 else str(network)
    if "H" in flags:
        return str(network.network_address)
    octets = str(network.network_address).split(".")[: -(-network.prefixlen // 8)]
    bare = ".".join(octets)
    return bare if network.prefixlen == 8 * len(octets) < 32 else f"{bare}/{network.prefixlen}"
