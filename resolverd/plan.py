"""What this host shall be told, and why: settings, cluster and host facts in, one value with its reasons out. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterator

from .cluster.snapshot import Snapshot
from .host import Capabilities, HostDns
from .link_domains import decide
from .planned import ClusterFacts, HostPlan, LinkDomain, Origin, Withheld
from .routes import plan_routes
from .settings import Settings
from .suffixes import Collisions

MOST_NAMED = 3
"""Suffixes named in a warning."""

__all__ = ["ClusterFacts", "HostPlan", "LinkDomain", "Origin", "Withheld", "make"]


def make(
    settings: Settings, snapshot: Snapshot, capabilities: Capabilities, facts: ClusterFacts, suffixes: Container[str]
) -> HostPlan:
    """The plan for this host at this moment.

    ``suffixes`` holds the public suffixes, see :class:`resolverd.suffixes.Collisions`. Raises UsageError when a
    network in the tunnel's settings is none.
    """
    decision = decide(settings, snapshot, capabilities, facts, Collisions(suffixes, capabilities))
    routes, warnings = plan_routes(settings.tunnel, capabilities, facts)
    return HostPlan(
        dns=_host_dns(decision.domains, capabilities, facts),
        domains=decision.domains,
        withheld=decision.withheld,
        namespaces=decision.namespaces,
        has_svc=settings.host.route_namespaces or any(domain.name == "svc" for domain in decision.domains),
        routes=routes,
        warnings=(*decision.warnings, *warnings, *_asked_of_nobody(settings)),
    )


def _asked_of_nobody(settings: Settings) -> Iterator[str]:
    """What of the user's includes cannot be answered."""
    includes = settings.dns.include_suffixes
    if includes and not settings.tunnel.enabled:
        named = ", ".join(includes) if len(includes) <= MOST_NAMED else f"{len(includes)} include-suffixes"
        only = "only services are found there, since the cluster's DNS service is reached by the tunnel alone"
        yield f"{named} without a tunnel: {only}"


def _host_dns(domains: tuple[LinkDomain, ...], capabilities: Capabilities, facts: ClusterFacts) -> HostDns:
    """Nothing at all without a server: a domain routed to nobody would fail."""
    if facts.server is None or (capabilities.needs_link and not facts.link):
        return HostDns()
    return HostDns(
        link=facts.link,
        servers=(facts.server, *facts.more_servers),
        routing=tuple(domain.name for domain in domains if not domain.search),
        search=tuple(domain.name for domain in domains if domain.search),
    )
