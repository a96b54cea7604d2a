"""Which pod a connection to an address and port of the cluster goes to: what kube-proxy decides, for one host. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from zlib import crc32

from resolverd.names import Address, address_of, is_domain

from .objects import Endpoint, EndpointSlice, Service, ServicePort
from .snapshot import Key, Snapshot, Touched

MAX_CANDIDATES = 32
"""Most pods handed out for one connection; a service may have thousands."""


class Target(NamedTuple):
    """A port of a pod."""

    namespace: str
    pod: str
    port: int

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}:{self.port}"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no pod to go to."""

    reason: str
    known: bool
    """Whether the cluster has the address at all: then it is "refused", else "unreachable"."""


class TargetIndex:
    """Addresses of the cluster, and who is behind them. Holds the newest Snapshot it was given."""

    def __init__(self) -> None:
        self._snapshot = Snapshot()
        self._addresses: dict[Key, tuple[Address, ...]] = {}
        self._owners: dict[Address, tuple[Key, ...]] = {}
        """Services that have the address, as a ClusterIP or as an endpoint's. Sets would take several times as much."""

    def update(self, snapshot: Snapshot, touched: Iterable[Key]) -> None:
        """Take ``snapshot``, in which the services named in ``touched`` may differ from the one before."""
        self._snapshot = snapshot
        for key in touched:
            now = frozenset(_addresses(snapshot, key))
            before = frozenset(self._addresses.get(key, ()))
            alone = (key,)
            for address in before - now:
                left = tuple(owner for owner in self._owners[address] if owner != key)
                if left:
                    self._owners[address] = left
                else:
                    del self._owners[address]
            for address in now - before:
                others = self._owners.get(address)
                self._owners[address] = (*others, key) if others else alone
            if now:
                self._addresses[key] = tuple(now)
            else:
                self._addresses.pop(key, None)

    def fold(self, snapshot: Snapshot, touched: Touched) -> None:
        """:meth:`update` with what :func:`resolverd.cluster.snapshot.fold` returned."""
        self.update(snapshot, touched.services)

    @property
    def owners(self) -> Mapping[Address, tuple[Key, ...]]:
        """Every known address, and the services that have it."""
        return self._owners

    def find(
        self, address: Address, port: int, protocol: str = "TCP", *, turn: int = 0, client: Address | None = None
    ) -> tuple[Target, ...] | Refusal:
        """The pods to try, in this order, for a connection to ``address`` and ``port``.

        ``turn`` (a counter, or anything that varies) spreads connections over the pods that are ready; a service
        with session affinity goes by ``client`` instead, and keeps its choice while the pods stay. Pods that
        terminate are there only when no other is.
        """
        owners = self._owners.get(address)
        if not owners:
            return Refusal(f"{address} is no address of the cluster", known=False)
        by_cluster_ip = self._with_cluster_ip(owners, address)
        if by_cluster_ip is None:
            return self._behind_endpoint(address, port, protocol, owners)
        return self._behind_service(by_cluster_ip, port, protocol, _spread(by_cluster_ip, turn, client))

    def is_alive(self, address: Address) -> bool:
        """Whether something that is ready stands behind ``address``: then it answers an echo request."""
        owners = self._owners.get(address, ())
        service = self._with_cluster_ip(owners, address)
        if service is not None:
            return any(endpoint.ready for _, endpoint in self._endpoints([service.key]))
        return any(endpoint.ready for _, endpoint in self._endpoints(owners) if _has(endpoint, address))

    def _with_cluster_ip(self, owners: Iterable[Key], address: Address) -> Service | None:
        """The service whose ClusterIP ``address`` is. The API server never gives one twice; an endpoint that claims
        to have it does not count."""
        found = (self._snapshot.services.get(key) for key in sorted(owners))
        return next((s for s in found if s is not None and address in _parsed(s.cluster_ips)), None)

    def _behind_service(
        self, service: Service, port: int, protocol: str, spread: tuple[int, str]
    ) -> tuple[Target, ...] | Refusal:
        name = f"{service.namespace}/{service.name}"
        declared = next((p for p in service.ports if (p.port, p.protocol) == (port, protocol)), None)
        if declared is None:
            return Refusal(f"service {name} has no {protocol} port {port}", known=True)
        ready: dict[Target, None] = {}
        leaving: dict[Target, None] = {}
        no_pod = False
        for item, endpoint in self._endpoints([service.key]):
            number = _number(item, declared)
            if number is None or not (endpoint.ready or endpoint.terminating):
                continue
            if not is_domain(endpoint.pod):
                no_pod = True
                continue
            (leaving if endpoint.terminating else ready)[Target(item.namespace, endpoint.pod, number)] = None
        if not ready and not leaving:
            why = "are no pods, and port-forward reaches pods only" if no_pod else "are not ready, or there are none"
            return Refusal(f"the endpoints of service {name} for port {port} {why}", known=True)
        return _ordered(list(ready or leaving), spread)

    def _behind_endpoint(
        self, address: Address, port: int, protocol: str, owners: Iterable[Key]
    ) -> tuple[Target, ...] | Refusal:
        """A pod's own address: any port, ready or not, as in the cluster.

        Pods on the host's network share its address: first those that declare the port.
        """
        if protocol != "TCP":
            return Refusal(f"{address} is reached by TCP only", known=True)
        ranked: dict[Target, tuple[bool, bool]] = {}
        for item, endpoint in self._endpoints(owners):
            if not _has(endpoint, address) or not is_domain(endpoint.pod):
                continue
            target = Target(item.namespace, endpoint.pod, port)
            declares = any((p.port, p.protocol) == (port, protocol) for p in item.ports)
            rank = (not declares, not endpoint.ready)
            ranked[target] = min(rank, ranked.get(target, rank))
        if not ranked:
            return Refusal(f"the endpoint {address} is no pod, and port-forward reaches pods only", known=True)
        return tuple(sorted(ranked, key=lambda target: (ranked[target], target)))[:MAX_CANDIDATES]

    def _endpoints(self, owners: Iterable[Key]) -> Iterator[tuple[EndpointSlice, Endpoint]]:
        for key in sorted(owners):
            for item in self._snapshot.by_service.get(key, ()):
                for endpoint in item.endpoints:
                    yield item, endpoint


def _spread(service: Service, turn: int, client: Address | None) -> tuple[int, str]:
    """How to order pods: by turns, or, with session affinity, by client."""
    sticky = service.session_affinity == "ClientIP" and client is not None
    return (0, str(client)) if sticky else (turn, "")


def _ordered(targets: list[Target], spread: tuple[int, str]) -> tuple[Target, ...]:
    turn, client = spread
    if client:
        # Highest random weight: a pod that comes or goes moves only the clients it gains or loses.
        return tuple(sorted(targets, key=lambda target: crc32(f"{client} {target}".encode()))[:MAX_CANDIDATES])
    start = turn % len(targets)
    return tuple((targets[start:] + targets[:start])[:MAX_CANDIDATES])


def _number(item: EndpointSlice, declared: ServicePort) -> int | None:
    """The pods' port of this slice for a service's port: the one of the same name and protocol."""
    wanted = (declared.name, declared.protocol)
    return next((p.port for p in item.ports if (p.name, p.protocol) == wanted and p.port), None)


def _addresses(snapshot: Snapshot, key: Key) -> Iterator[Address]:
    service = snapshot.services.get(key)
    if service is not None:
        yield from _parsed(service.cluster_ips)
    for item in snapshot.by_service.get(key, ()):
        for endpoint in item.endpoints:
            yield from _parsed(endpoint.addresses)


def _has(endpoint: Endpoint, address: Address) -> bool:
    return address in _parsed(endpoint.addresses)


def _parsed(texts: Iterable[str]) -> tuple[Address, ...]:
    """The addresses among ``texts``: cluster data may hold anything."""
    return tuple(address for address in map(address_of, texts) if address is not None)
