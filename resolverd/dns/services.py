"""Names of services, of their ports and of their endpoints (Kubernetes DNS specification 1.1, sections 2.3 to 2.5)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from resolverd.addresses import plain_address
from resolverd.cluster.endpoints import Endpoint
from resolverd.cluster.objects import EndpointPort, Service, ServicePort
from resolverd.cluster.snapshot import Key
from resolverd.names import Address, fold

from .found import Asked, Found, address_records
from .index import Dependency
from .records import MAX_LABEL, Name, Record, Srv, Type, parse_name
from .rules import Labels

NO_PORT = EndpointPort("", "", None)
"""Stands for the ports of what has none: its addresses are found all the same."""
MAX_FRONT = 2
"""Most labels before a service: an endpoint, or a port and a protocol."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One address with one port behind a service."""

    endpoint: str
    """Empty for a cluster IP."""
    address: Address
    port: int | None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which port a name asks for; empty text asks for every one."""

    port: str = ""
    protocol: str = ""

    def fits(self, port: ServicePort | EndpointPort) -> bool:
        return self.port in ("", fold(port.name)) and self.protocol in ("", fold(port.protocol))


def endpoint_name(endpoint: Endpoint, address: str, pod_names: bool) -> str:
    """The one label under which an endpoint's address is found (CoreDNS ``plugin/kubernetes/kubernetes.go``).

    What cannot be a label, a pod's name with dots in it, say, is passed over.
    """
    if endpoint.hostname and len(endpoint.hostname) <= MAX_LABEL:
        return endpoint.hostname
    if pod_names and endpoint.pod and len(endpoint.pod) <= MAX_LABEL and "." not in endpoint.pod:
        return endpoint.pod
    dashed = address.replace(".", "-").replace(":", "-")
    return f"{dashed}0" if address.endswith("::") else dashed


def find_service(front: Labels, key: Key, asked: Asked) -> Found:
    """Answer for the service ``key``, with ``front`` before its name."""
    snapshot = asked.index.snapshot
    depends: frozenset[Dependency] = frozenset({key, key[0]})
    service = snapshot.services.get(key)
    if service is None or key[0] not in snapshot.namespaces or len(front) > MAX_FRONT:
        return Found(False, depends=depends)
    if service.type == "ExternalName":
        return _external(service, front, asked)
    entries = list(_entries(service, front, asked))
    exists = bool(entries or _is_bare(service, front) or _is_above_a_port(service, front, asked))
    if asked.type == Type.SRV:
        records, additional = _srv(service, entries, asked)
        return Found(exists, records, additional, depends)
    addresses = (entry.address for entry in entries)
    kind = asked.type if asked.type in (Type.A, Type.AAAA) else 0
    return Found(exists, address_records(asked.owner, asked.config.ttl, addresses, kind), (), depends)


def _external(service: Service, front: Labels, asked: Asked) -> Found:
    """The alias itself; following it is :mod:`resolverd.dns.answer`'s work. An address literal is no alias."""
    depends: frozenset[Dependency] = frozenset({service.key, service.namespace})
    target = None if plain_address(service.external_name) else parse_name(service.external_name)
    if front or target is None:
        return Found(False, depends=depends)
    shown = asked.type in (Type.A, Type.AAAA, Type.CNAME)
    return Found(True, (asked.record(Type.CNAME, target),) if shown else (), (), depends)


def _is_bare(service: Service, front: Labels) -> bool:
    """A service with a cluster IP has its name whatever is behind it; a headless one only with its endpoints."""
    return not front and not service.headless


def _is_above_a_port(service: Service, front: Labels, asked: Asked) -> bool:
    """Whether ``_tcp.web`` stands above an existing ``_http._tcp.web`` (RFC 8020)."""
    return len(front) == 1 and any(_port_entries(service, Wanted(protocol=_bare(front[0])), asked))


def _entries(service: Service, front: Labels, asked: Asked) -> Iterator[Entry]:
    if len(front) == 1:
        return (entry for entry in _endpoints(service, Wanted(), asked) if fold(entry.endpoint) == front[0])
    return _port_entries(service, Wanted(_bare(front[0]), _bare(front[1])) if front else Wanted(), asked)


def _bare(label: str) -> str:
    """Underscores before a port and a protocol are optional."""
    return label.removeprefix("_")


def _port_entries(service: Service, wanted: Wanted, asked: Asked) -> Iterator[Entry]:
    if service.headless:
        yield from _endpoints(service, wanted, asked)
        return
    for text in service.cluster_ips:
        if (address := plain_address(text)) is not None:
            yield from (Entry("", address, port.port) for port in service.ports or (NO_PORT,) if wanted.fits(port))


def _endpoints(service: Service, wanted: Wanted, asked: Asked) -> Iterator[Entry]:
    """Every ready address with every wanted port."""
    for item in asked.index.snapshot.by_service.get(service.key, ()):
        ports = [port for port in item.ports or (NO_PORT,) if wanted.fits(port)]
        for endpoint in item.endpoints if ports else ():
            if endpoint.ready:
                yield from _endpoint_entries(endpoint, ports, asked.config.endpoint_pod_names)


def _endpoint_entries(endpoint: Endpoint, ports: Iterable[EndpointPort], pod_names: bool) -> Iterator[Entry]:
    for text in endpoint.addresses:
        if (address := plain_address(text)) is not None:
            name = endpoint_name(endpoint, text, pod_names)
            yield from (Entry(name, address, port.port) for port in ports)


def _srv(service: Service, entries: list[Entry], asked: Asked) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """SRV records, one for each target and port number, and the addresses of their targets.

    The weight shares 100 among all entries, before equal records are taken for one, as CoreDNS does.
    """
    weight = max(1, 100 // len(entries)) if entries else 0
    records: dict[Srv, None] = {}
    targets: dict[Name, dict[Address, None]] = {}
    for entry in entries:
        front = (entry.endpoint,) if entry.endpoint else ()
        target = asked.full_name(*front, service.name, service.namespace, "svc")
        if entry.port is not None and target is not None:
            records[Srv(0, weight, entry.port, target)] = None
            targets.setdefault(target, {})[entry.address] = None
    ttl = asked.config.ttl
    additional = (record for name, found in targets.items() for record in address_records(name, ttl, found))
    return tuple(Record(asked.owner, Type.SRV, ttl, srv) for srv in records), tuple(additional)
