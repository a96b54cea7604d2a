"""What this host shall be told, and why: settings, cluster and host facts in, one value with its reasons out. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import collapse_addresses
from itertools import islice

from .cluster.snapshot import Snapshot
from .errors import one_line
from .host import Capabilities, HostDns, HostRoutes, Server
from .names import Address, Network, fold, is_domain, is_label, reverse_zones
from .routes import plan_routes
from .settings import Settings
from .suffixes import Collisions, Reason

MAX_REVERSE_ZONES = 32
"""Most reverse zones for one range: a range that is not cut at octets would fill the link's domain limit alone."""


class Origin(StrEnum):
    """Where a link domain comes from, most important first: the order in which a domain limit is filled."""

    CLUSTER_DOMAIN = "cluster-domain"
    SVC = "svc"
    INCLUDE_SUFFIX = "include-suffix"
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


def make(
    settings: Settings, snapshot: Snapshot, capabilities: Capabilities, facts: ClusterFacts, suffixes: Container[str]
) -> HostPlan:
    """The plan; ``suffixes`` holds the public suffixes (:class:`resolverd.suffixes.Collisions`)."""
    facts = replace(facts, domain=_bare(facts.domain))
    judge = _Judge(settings, facts, Collisions(suffixes, capabilities))
    for domain in _candidates(settings, snapshot, facts):
        judge.hear(domain)
    for network in _uncovered(facts.ranges):
        judge.withhold(str(network), Origin.REVERSE_ZONE, Reason.DOMAIN_LIMIT, "it needs too many reverse zones")
    namespaces = frozenset(domain.name for domain in judge.passed if domain.origin is Origin.NAMESPACE)
    domains = judge.fit(capabilities.domain_limit)
    routes, warnings = plan_routes(settings.tunnel, capabilities, facts)
    return HostPlan(
        dns=_host_dns(domains, facts),
        domains=domains,
        withheld=judge.withheld,
        namespaces=namespaces,
        routes=routes,
        warnings=(*judge.warnings, *_absent_search(settings, snapshot, facts), *warnings),
    )
