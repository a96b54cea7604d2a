"""Which name and port prove that everything works. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from resolverd.cluster.objects import EndpointSlice, Service
from resolverd.cluster.snapshot import Key, Snapshot
from resolverd.names import is_label


@dataclass(frozen=True, slots=True)
class Probe:
    """A name to resolve and, when ``port`` is not 0, a TCP port to connect to."""

    name: str
    port: int


MOST = 5
"""Candidates given: one service that is broken must not make everything look broken."""


def candidates(snapshot: Snapshot, namespace: str, domain: str) -> tuple[Probe, ...]:
    """Services with a ready pod behind a TCP port, those of ``namespace`` first; else any one name; else nothing.

    The choice is stable: the same cluster gives the same probes.
    """
    named = (s for s in snapshot.services.values() if s.cluster_ips and is_label(s.name) and is_label(s.namespace))
    ordered = sorted(named, key=lambda s: (s.namespace != namespace, s.key))
    found: list[Probe] = []
    for service in ordered:
        port = _reachable_port(service, snapshot.by_service.get(service.key, ()))
        if port and len(found) < MOST:
            found.append(Probe(_full_name(service.key, domain), port))
    return tuple(found or [Probe(_full_name(service.key, domain), 0) for service in ordered[:1]])


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
