"""Which pod a connection to an address and port of the cluster goes to: what kube-proxy decides, for one host. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from resolverd.addresses import number_in, number_of
from resolverd.names import Address, is_domain

from .endpoints import Endpoint
from .objects import EndpointSlice, Service, ServicePort
from .snapshot import Key, Snapshot, Touched

MAX_CANDIDATES = 32
"""Most pods handed out for one connection; a service may have thousands."""


class Target(NamedTuple):
    """A port of a pod."""

    namespace: str
    pod: str
    port: int
    address: str = ""
    """The pod's, as its endpoint has it: one that was made anew under its name mostly has another, and is another."""

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
        self._addresses: dict[Key, tuple[int, ...]] = {}
        self._owners: dict[int, tuple[Key, ...]] = {}
        """Services that have the address: as a ClusterIP, an endpoint's, or from outside. Sets would take much more."""

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
    def owners(self) -> Mapping[int, tuple[Key, ...]]:
        """Every known address, by its number, and the services that have it."""
        return self._owners

    def find(
        self, address: Address, port: int, protocol: str = "TCP", *, turn: int = 0, first: Target | None = None
    ) -> tuple[Target, ...] | Refusal:
        """The pods to try, in this order, for a connection to ``address`` and ``port``.

        ``turn`` (a counter, or anything that varies) spreads connections over the pods that are ready; ``first``
        goes before them, if it is one of them. Pods that terminate are there only when no other is, and only while
        they serve (KEP-1669).
        """
        owners = self._owners.get(number_of(address))
        if not owners:
            return Refusal(f"{address} is no address of the cluster", known=False)
        service = self._service_of(owners, address)
        if service is None:
            return self._behind_endpoint(address, port, protocol, owners)
        found = self._behind_service(service, port, protocol)
        return found if isinstance(found, Refusal) else _ordered(found, turn, first)

    def affinity(self, address: Address) -> Service | None:
        """The service behind ``address``, if its clients are to keep their pod."""
        service = self._service_of(self._owners.get(number_of(address), ()), address)
        return service if service is not None and service.session_affinity == "ClientIP" else None

    def is_dns(self, address: Address) -> bool:
        """Whether ``address`` is a DNS service's, which answers at port 53 over UDP and over TCP."""
        service = self._service_of(self._owners.get(number_of(address), ()), address)
        ports = {(p.port, p.protocol) for p in service.ports} if service is not None else set()
        return {(53, "UDP"), (53, "TCP")} <= ports

    def is_alive(self, address: Address) -> bool:
        """Whether something that is ready stands behind ``address``: then it answers an echo request."""
        owners = self._owners.get(number_of(address), ())
        service = self._service_of(owners, address)
        if service is not None:
            return any(endpoint.ready for _, endpoint in self._endpoints([service.key]))
        return any(endpoint.ready for _, endpoint in self._endpoints(owners) if _has(endpoint, address))

    def _service_of(self, owners: Iterable[Key], address: Address) -> Service | None:
        """The service that a connection to ``address`` is for, and None when it is for an endpoint.

        The API server gives no ClusterIP twice; an endpoint that claims to have it does not count. Addresses from
        outside are whatever somebody wrote: they count when nothing in the cluster has the address.
        """
        found = [s for key in sorted(owners) if (s := self._snapshot.services.get(key)) is not None]
        own = next((s for s in found if number_of(address) in _numbers(s.cluster_ips)), None)
        outer = next((s for s in found if number_of(address) in _numbers(s.external_addresses)), None)
        if own is not None or outer is None:
            return own
        return None if any(_has(endpoint, address) for _, endpoint in self._endpoints(owners)) else outer

    def _behind_service(self, service: Service, port: int, protocol: str) -> list[Target] | Refusal:
        name = f"{service.namespace}/{service.name}"
        declared = next((p for p in service.ports if (p.port, p.protocol) == (port, protocol)), None)
        if declared is None:
            return Refusal(f"service {name} has no {protocol} port {port}", known=True)
        ready: dict[tuple[str, str, int], Target] = {}  # a pod is in the slices of both families
        leaving: dict[tuple[str, str, int], Target] = {}
        no_pod = False
        for item, endpoint in self._endpoints([service.key]):
            number = _number(item, declared)
            if number is None or not (endpoint.ready or (endpoint.terminating and endpoint.serving)):
                continue
            if not is_domain(endpoint.pod):
                no_pod = True
                continue
            target = _target(item, endpoint, number)
            (ready if endpoint.ready else leaving).setdefault(target[:3], target)
        if not ready and not leaving:
            why = "are no pods, and port-forward reaches pods only" if no_pod else "are not ready, or there are none"
            return Refusal(f"the endpoints of service {name} for port {port} {why}", known=True)
        return list((ready or leaving).values())

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
            target = _target(item, endpoint, port)
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


def _ordered(targets: list[Target], turn: int, first: Target | None) -> tuple[Target, ...]:
    start = turn % len(targets)
    around = (targets[start:] + targets[:start])[:MAX_CANDIDATES]
    if first not in targets or first is None:
        return tuple(around)
    return (first, *(target for target in around if target != first))[:MAX_CANDIDATES]


def _target(item: EndpointSlice, endpoint: Endpoint, port: int) -> Target:
    return Target(item.namespace, endpoint.pod, port, next(iter(endpoint.addresses), ""))


def _number(item: EndpointSlice, declared: ServicePort) -> int | None:
    """The pods' port of this slice for a service's port: the one of the same name and protocol."""
    wanted = (declared.name, declared.protocol)
    return next((p.port for p in item.ports if (p.name, p.protocol) == wanted and p.port), None)


def _addresses(snapshot: Snapshot, key: Key) -> Iterator[int]:
    service = snapshot.services.get(key)
    if service is not None:
        yield from _numbers(service.cluster_ips)
        yield from _numbers(service.external_addresses)
    for item in snapshot.by_service.get(key, ()):
        for endpoint in item.endpoints:
            yield from _numbers(endpoint.addresses)


def _has(endpoint: Endpoint, address: Address) -> bool:
    return number_of(address) in _numbers(endpoint.addresses)


def _numbers(texts: Iterable[str]) -> set[int]:
    """The addresses among ``texts``, by their numbers: cluster data may hold anything."""
    return {number for text in texts if (number := number_in(text)) is not None}
