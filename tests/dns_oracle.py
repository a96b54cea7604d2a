"""A second reading of the Kubernetes DNS specification 1.1, and of what CoreDNS does where it is silent.

It shares no code with the server and takes no care of speed: it writes down every record of the whole cluster, from
the objects as the API gives them, and looks a name up in that. What is below no record and above none does not exist.
Only what has no end (insecure pod records, labels in front of an IPv6 address) is computed from the name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

Raw = dict[str, Any]
Name = tuple[str, ...]
"""Labels in lower case."""
Data = tuple[str, str]
"""Type and data of a record, as dig shows it."""
Row = tuple[str, str, str]
"""Owner, type and data."""

LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True)
class World:
    """A cluster as the API shows it, and the settings that matter."""

    namespaces: tuple[str, ...] = ()
    services: tuple[Raw, ...] = ()
    slices: tuple[Raw, ...] = ()
    pods: tuple[Raw, ...] = ()
    domain: Name = ("cluster", "local")
    short: frozenset[str] = frozenset()
    """Namespaces with short names."""
    ranges: tuple[str, ...] = ()
    pod_records: str = "insecure"
    pod_names: bool = False
    server: str = "198.18.53.1"


@dataclass
class Said:
    """What is expected."""

    rcode: str
    answer: set[Row] = field(default_factory=set)
    additional: set[Row] = field(default_factory=set)
    soa: str = ""
    """Owner of the SOA record of a negative answer."""


def text(name: Name) -> str:
    return ".".join(name) + "."


def kind_of(address: str) -> str:
    return "A" if ip_address(address).version == 4 else "AAAA"


def spelled(address: str) -> str:
    return str(ip_address(address))


class Zone:
    """Every record of a world, by name; names of services without the cluster domain, reverse names in full."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.records: dict[Name, set[Data]] = defaultdict(set)
        self.behind: dict[tuple[Name, int, str], set[str]] = defaultdict(set)
        """Addresses of an SRV record's target, by the name that was asked, the port and the target."""
        self.aliases: dict[Name, Name] = {}
        for fixed in ((), ("svc",), ("pod",), ("dns",)):
            self.records[fixed] = set()
        self.records[("ns", "dns")].add((kind_of(world.server), world.server))
        self.records[()].add(("NS", text(("ns", "dns", *world.domain))))
        self.records[("dns-version",)].add(("TXT", "1.1.0"))
        for namespace in world.namespaces:
            self.records[(namespace, "svc")] = set()
            if world.pod_records != "disabled":
                self.records[(namespace, "pod")] = set()
        for service in world.services:
            if service["metadata"]["namespace"] in world.namespaces:
                self._service(service)
        if world.pod_records == "verified":
            self._pods()
        self._reverse()

    def _service(self, service: Raw) -> None:
        meta, spec = service["metadata"], service["spec"]
        base = (meta["name"], meta["namespace"], "svc")
        if spec.get("type") == "ExternalName":
            target = spec.get("externalName") or ""
            if target and not _is_address(target):
                self.aliases[base] = tuple(target.removesuffix(".").split("."))
            return
        addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
        endpoints = list(self._endpoints(meta["namespace"], meta["name"]))
        for label in {name for name, _, _, _ in endpoints}:
            self._enter((label, *base), [entry for entry in endpoints if entry[0] == label], base)
        if addresses[:1] == ["None"]:
            entries = endpoints
        else:
            self.records[base] |= set()
            ports = [(p.get("name") or "", p.get("protocol") or "TCP", p["port"]) for p in spec.get("ports") or []]
            entries = [("", address, port, protocol_of) for address in addresses for port, protocol_of in _split(ports)]
        if entries:
            self._enter(base, entries, base)
        for port in {variant for _, _, (name, _), _ in entries for variant in _optional(name)}:
            for protocol in {variant for _, _, _, name in entries for variant in _optional(name)}:
                found = [
                    entry
                    for entry in entries
                    if port.removeprefix("_") in ("", entry[2][0])
                    and protocol.removeprefix("_") in ("", entry[3].lower())
                ]
                if found:
                    self._enter((port, protocol, *base), found, base)

    def _endpoints(self, namespace: str, name: str) -> Iterator[Any]:
        """Label, address, (port name, number), protocol: one for each ready address and port."""
        for item in self.world.slices:
            owner = (item["metadata"].get("labels") or {}).get(LABEL)
            if (item["metadata"]["namespace"], owner) != (namespace, name):
                continue
            ports = [(p.get("name") or "", p.get("protocol") or "TCP", p.get("port")) for p in item.get("ports") or []]
            for endpoint in item.get("endpoints") or []:
                if (endpoint.get("conditions") or {}).get("ready") is False:
                    continue
                for address in endpoint["addresses"]:
                    for port, protocol in _split(ports):
                        yield self._label(endpoint, address), address, port, protocol

    def _label(self, endpoint: Raw, address: str) -> str:
        if endpoint.get("hostname"):
            return str(endpoint["hostname"])
        target = endpoint.get("targetRef") or {}
        if self.world.pod_names and target.get("kind") == "Pod" and len(target["name"]) < 64:
            return str(target["name"])
        dashed = address.replace(".", "-").replace(":", "-")
        return dashed + "0" if address.endswith("::") else dashed

    def _enter(self, name: Name, entries: list[Any], base: Name) -> None:
        """A, AAAA and SRV records of ``name``."""
        weight = max(1, 100 // len(entries))
        for label, address, (_, number), _ in entries:
            self.records[name].add((kind_of(address), spelled(address)))
            if number is not None:
                target = text(((label, *base) if label else base) + self.world.domain)
                self.records[name].add(("SRV", f"0 {weight} {number} {target}"))
                self.behind[name, number, target].add(spelled(address))

    def _pods(self) -> None:
        for pod in self.world.pods:
            address, namespace = (pod.get("status") or {}).get("podIP"), pod["metadata"]["namespace"]
            if address and namespace in self.world.namespaces:
                self.add_pod(address.replace(".", "-").replace(":", "-"), namespace, address)

    def add_pod(self, label: str, namespace: str, address: str) -> None:
        name = (label, namespace, "pod")
        target = text(name + self.world.domain)
        self.records[name] |= {(kind_of(address), spelled(address)), ("SRV", f"0 100 0 {target}")}
        self.behind[name, 0, target].add(spelled(address))

    def _reverse(self) -> None:
        named: dict[str, str] = {}
        for service in sorted(self.world.services, key=lambda s: (s["metadata"]["namespace"], s["metadata"]["name"])):
            spec, meta = service["spec"], service["metadata"]
            if spec.get("type") != "ExternalName":
                for address in spec.get("clusterIPs") or [spec.get("clusterIP") or "None"]:
                    if address != "None":
                        target = text((meta["name"], meta["namespace"], "svc", *self.world.domain))
                        named.setdefault(spelled(address), target)
        for address, target in named.items():
            self.records[_pointer(address)].add(("PTR", target))
        owners = {
            (item["metadata"]["namespace"], (item["metadata"].get("labels") or {}).get(LABEL) or "")
            for item in self.world.slices
        }
        for namespace, owner in owners:
            for label, address, _, _ in self._endpoints(namespace, owner) if owner else ():
                if spelled(address) not in named:
                    target = text((label, owner, namespace, "svc", *self.world.domain))
                    self.records[_pointer(address)].add(("PTR", target))

    def exists(self, name: Name) -> bool:
        return any(known[len(known) - len(name) :] == name for known in (*self.records, *self.aliases))


def _split(ports: list[Any]) -> list[Any]:
    return [((name, number), protocol) for name, protocol, number in ports] or [(("", None), "")]


def _optional(label: str) -> set[str]:
    """The spellings of a port or a protocol in a name: with an underscore, without, and the one for any."""
    return {label.lower(), "_" + label.lower(), "_"} - {""}


def _pointer(address: str) -> Name:
    return tuple(ip_address(address).reverse_pointer.split("."))


def _is_address(label: str) -> bool:
    try:
        ip_address(label)
    except ValueError:
        return False
    return True


def expected(zone: Zone, asked: Name, kind: str) -> Said:
    """What a question must be answered with, nobody else being asked."""
    world = zone.world
    if asked[-2:] in (("in-addr", "arpa"), ("ip6", "arpa")):
        return _expected_reverse(zone, asked, kind)
    place = _place(world, asked)
    if place is None:
        return Said("REFUSED")
    soa = place[1]
    if asked == soa and kind == "SOA":
        return Said("NOERROR", {(text(asked), "SOA", "")})
    found = _chase(zone, asked, kind, [])
    if found.rcode == "NXDOMAIN" or not found.answer:
        found.soa = text(soa)
    return found


def _place(world: World, asked: Name) -> tuple[Name, Name] | None:
    """The name without the cluster domain, and its zone."""
    if asked[-len(world.domain) :] == world.domain:
        return asked[: -len(world.domain)], world.domain
    if asked and asked[-1] == "svc":
        return asked, ("svc",)
    if asked and asked[-1] in world.short:
        return (*asked, "svc"), asked[-1:]
    return None


def _chase(zone: Zone, asked: Name, kind: str, before: list[Name]) -> Said:
    """Look up ``asked``, to which the aliases ``before`` have led."""
    place = _place(zone.world, asked)
    if place is None:
        return Said("REFUSED")
    inside, _ = place
    target = zone.aliases.get(inside)
    if target is None:
        return _plain(zone, asked, inside, kind)
    if kind not in ("A", "AAAA", "CNAME"):
        return Said("NOERROR")
    alias = (text(asked), "CNAME", text(target))
    if kind == "CNAME":
        return Said("NOERROR", {alias})
    folded = tuple(label.lower() for label in target)
    if len(before) >= 11 or folded in (*before, asked):
        return Said("NOERROR")
    rest = _chase(zone, folded, kind, [*before, asked])
    if rest.rcode == "REFUSED":
        return Said("NOERROR", {alias})
    return Said("NOERROR", {alias, *rest.answer} if rest.answer else set())


def _plain(zone: Zone, asked: Name, inside: Name, kind: str) -> Said:
    """The records of a name that is no alias."""
    front: Name = ()
    if len(inside) >= 3 and inside[-1] == "pod":
        front, inside = inside[:-3], inside[-3:]
        if len(front) > 2:
            return Said("NXDOMAIN")
        address = _insecure(inside[0])
        if zone.world.pod_records == "insecure" and inside[1] in zone.world.namespaces and address:
            zone.add_pod(inside[0], inside[1], address)  # such a name exists as soon as it is asked for
    if (front and inside not in zone.records) or not zone.exists(inside):
        return Said("NXDOMAIN")
    said = Said("NOERROR")
    for found, data in zone.records.get(inside, ()):
        if found != kind:
            continue
        said.answer.add((text(asked), found, data))
        if found == "SRV":
            _, _, number, target = data.split()
            addresses = zone.behind[inside, int(number), target]
            said.additional |= {(target, kind_of(address), address) for address in addresses}
        if found == "NS":
            said.additional.add((data, kind_of(zone.world.server), zone.world.server))
    return said


def _insecure(label: str) -> str:
    """The address that any pod might have."""
    four = label.count("-") == 3 and "--" not in label
    try:
        found = ip_address(label.replace("-", "." if four else ":"))
    except ValueError:
        return ""
    if "." in label or ":" in label:
        return ""
    if isinstance(found, IPv6Address) and found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(found)


def _expected_reverse(zone: Zone, asked: Name, kind: str) -> Said:
    soa = next((apex for apex in _reverse_zones(zone.world) if asked[-len(apex) :] == apex), None)
    name = asked[-34:] if asked[-2] == "ip6" else asked
    if soa is None:
        if name not in zone.records:
            return Said("REFUSED")
        soa = asked[-2:]
    if asked == soa:
        return Said("NOERROR", {(text(asked), "SOA", "")}) if kind == "SOA" else Said("NOERROR", soa=text(soa))
    if not zone.exists(name):
        return Said("NXDOMAIN", soa=text(soa))
    answer = {(text(asked), found, data) for found, data in zone.records.get(name, ()) if found == kind}
    return Said("NOERROR", answer, soa="" if answer else text(soa))


def _reverse_zones(world: World) -> Iterator[Name]:
    """The reverse zones of the ranges, cut at octets and nibbles."""
    for written in world.ranges:
        network = ip_network(written)
        step = 8 if network.version == 4 else 4
        digits = -(-network.prefixlen // step)
        for part in network.subnets(new_prefix=digits * step):
            address: IPv4Address | IPv6Address = part.network_address
            whole = tuple(address.reverse_pointer.split("."))
            yield whole[-(digits + 2) :]
