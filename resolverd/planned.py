"""The values a plan is made from and made of: picklable, comparable, each with its reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from .errors import one_line
from .host import HostDns, HostRoutes, Server
from .names import Address, Network
from .suffixes import Reason


class Origin(StrEnum):
    """Where a link domain comes from, most important first: the order in which a domain limit is filled."""

    CLUSTER_DOMAIN = "cluster-domain"
    SVC = "svc"
    INCLUDE_SUFFIX = "include-suffix"
    MAPPING = "mapping"
    SEARCH = "search"
    REVERSE_ZONE = "reverse-zone"
    NAMESPACE = "namespace"


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the plan needs of the cluster and of our side that no Snapshot holds."""

    domain: str
    """The cluster domain, a text name: ``cluster.local``."""
    ranges: tuple[Network, ...] = ()
    """Service and pod ranges, as far as they are known."""
    namespace: str = "default"
    """The kubeconfig context's."""
    server: Server | None = None
    """Our DNS server; None: not there yet, or not reachable by the host's resolver."""
    link: str = ""
    api_servers: tuple[Address, ...] = ()
    asked: tuple[str, ...] = ()
    """Namespaces asked for lately, the latest first: they are kept when the link cannot take all."""
    sources: tuple[tuple[Network, str], ...] = ()
    """Who says so, for each of the ranges, as far as that is known."""
    more_servers: tuple[Server, ...] = ()
    """Where our server listens besides, for a back end that can use it."""


@dataclass(frozen=True, slots=True)
class LinkDomain:
    """A domain for our link: names below it are asked of our server, single labels too when ``search``."""

    name: str
    search: bool
    origin: Origin

    def __str__(self) -> str:
        return self.name if self.search else f"~{self.name}"


@dataclass(frozen=True, slots=True)
class Withheld:
    """A domain the host is not told, and what works all the same."""

    name: str
    kind: Origin
    reason: Reason
    still: tuple[str, ...]
    """Patterns of names that the cluster still answers."""
    detail: str


@dataclass(frozen=True, slots=True)
class HostPlan:
    """The whole desired state of the host, with its reasons."""

    dns: HostDns = field(default_factory=HostDns)
    domains: tuple[LinkDomain, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    namespaces: frozenset[str] = frozenset()
    """Namespaces whose short names, ``service.namespace``, are the cluster's."""
    has_svc: bool = True
    """Whether ``service.namespace.svc`` is the cluster's, too."""
    routes: HostRoutes = field(default_factory=HostRoutes)
    warnings: tuple[str, ...] = ()
    """What the user's own settings bring about that the filter would have prevented."""

    def to_json(self) -> dict[str, object]:
        """The ``host`` part of the status document, as planned."""
        return {
            "link": self.dns.link,
            "domains": [str(domain) for domain in self.domains if not domain.search],
            "search": [domain.name for domain in self.domains if domain.search],
            "withheld": [
                {
                    "name": one_line(item.name),
                    "kind": item.kind.value,
                    "reason": item.reason.value,
                    "still": list(item.still),
                    "detail": item.detail,
                }
                for item in self.withheld
            ],
            "warnings": list(self.warnings),
        }
