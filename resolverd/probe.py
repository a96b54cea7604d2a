"""Which name and port prove that everything works. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from resolverd.cluster.objects import EndpointSlice, Service
from resolverd.cluster.snapshot import Key, Snapshot


@dataclass(frozen=True, slots=True)
class Probe:
    """A name to resolve and, when ``port`` is not 0, a TCP port to connect to."""

    name: str
    port: int


def choose(snapshot: Snapshot, namespace: str, domain: str) -> Probe | None:
    """A service with a ready pod behind a TCP port, of ``namespace`` first; else any name; None in an empty cluster.

    The choice is stable: the same cluster gives the same probe.
    """
    ordered = sorted(snapshot.services.values(), key=lambda s: (s.namespace != namespace, s.key))
    for service in ordered:
        if service.cluster_ips and (port := _reachable_port(service, snapshot.by_service.get(service.key, ()))):
            return Probe(_full_name(service.key, domain), port)
    resolvable = next((service for service in ordered if service.cluster_ips), None)
    return Probe(_full_name(resolvable.key, domain), 0) if resolvable else None


def _reachable_port(service: Service, slices: tuple[EndpointSlice, ...]) -> int:
    """A TCP port of ``service`` that leads to a ready pod; 0 when there is none."""
    for port in service.ports:
        for item in slices:
            served = any(p.name == port.name and p.protocol == "TCP" and p.port for p in item.ports)
            if served and any(endpoint.ready and endpoint.pod for endpoint in item.endpoints):
                return port.port
    return 0


def _full_name(key: Key, domain: str) -> str:
    return f"{key[1]}.{key[0]}.svc.{domain}"
