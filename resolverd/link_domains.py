"""Which domains our link gets: every wish is heard once and either passes or is withheld with a reason. Pure.

Also the user's own search entries and the cluster domain are judged: systemd-resolved treats a search domain as a
routing domain too, so nothing reaches the host unfiltered.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from itertools import islice
from typing import NamedTuple

from .cluster.snapshot import Snapshot
from .errors import one_line
from .host import Capabilities
from .names import Network, fold, is_domain, is_label, labels, reverse_zones
from .planned import ClusterFacts, LinkDomain, Origin, Withheld
from .settings import Settings
from .suffixes import SHARED, SHARED_PARTS, Collision, Collisions, Reason

MAX_REVERSE_ZONES = 32
"""Most reverse zones for one range: a range that is not cut at octets could fill the link's domain limit alone."""

_CLUSTER_NAMES = frozenset({Origin.CLUSTER_DOMAIN, Origin.SVC})


class Decision(NamedTuple):
    domains: tuple[LinkDomain, ...]
    withheld: tuple[Withheld, ...]
    namespaces: frozenset[str]
    warnings: tuple[str, ...]


def decide(
    settings: Settings, snapshot: Snapshot, capabilities: Capabilities, facts: ClusterFacts, collisions: Collisions
) -> Decision:
    """The link's domains in the order of :class:`Origin`; what does not depend on order ends up sorted."""
    judge = _Judge(settings, collisions)
    zones, uncut = _reverse_zones(facts.ranges) if _takes_more(settings, snapshot) else ([], [])
    for wish in _wishes(settings, snapshot, facts):
        judge.hear(wish)
    for wish in _mapped(settings, judge.passed, capabilities):
        judge.hear(wish)
    for wish in _searched(settings, snapshot, facts):
        judge.hear(wish)
    for entry in _search(settings, snapshot, facts):
        if not is_label(fold(entry)):
            judge.withhold(entry, Origin.SEARCH, Collision(Reason.INVALID_NAME, "not the name of a namespace"))
    for zone in zones:
        judge.hear(LinkDomain(zone, False, Origin.REVERSE_ZONE))
    for name in sorted(_namespaces(settings, snapshot)):
        judge.hear(LinkDomain(name, False, Origin.NAMESPACE))
    for network in uncut:
        judge.withhold(str(network), Origin.REVERSE_ZONE, Collision(Reason.DOMAIN_LIMIT, "too many reverse zones"))
    namespaces = frozenset(domain.name for domain in judge.passed if domain.origin is Origin.NAMESPACE)
    domains = _fit(judge, capabilities.domain_limit, facts.asked)
    still = _Still(domains, _bare(facts.domain))
    return Decision(
        domains,
        tuple(still.explain(name, kind, why) for name, kind, why in judge.withheld),
        namespaces,
        (*judge.warnings, *_absent_search(settings, snapshot, facts)),
    )


def _takes_more(settings: Settings, snapshot: Snapshot) -> bool:
    """Whether more than the cluster domain, ``svc`` and search is wanted now.

    Not before the cluster is known: until then our server can only fail what another might answer.
    """
    return snapshot.synced and settings.host.route_namespaces


def _wishes(settings: Settings, snapshot: Snapshot, facts: ClusterFacts) -> Iterator[LinkDomain]:
    """The cluster domain and other suffixes, most important first."""
    domain = _bare(facts.domain)
    yield LinkDomain(domain, False, Origin.CLUSTER_DOMAIN)
    if settings.host.route_namespaces:
        yield LinkDomain("svc", False, Origin.SVC)
    if snapshot.synced:
        for suffix in sorted({_bare(suffix) for suffix in settings.dns.include_suffixes}):
            yield LinkDomain(suffix, False, Origin.INCLUDE_SUFFIX)


def _mapped(settings: Settings, passed: Iterable[LinkDomain], capabilities: Capabilities) -> Iterator[LinkDomain]:
    """The user's own names, where nothing that ``passed`` brings them to us: the cluster domain may be withheld, or
    another link have a longer domain. Single labels come by the search domains.
    """
    own = frozenset(domain.name for domain in passed)
    others = frozenset(name for link in capabilities.other_links for name in (*link.routing, *link.search))
    for name in sorted({_bare(mapping.name) for mapping in settings.dns.mappings}):
        parts = labels(name)
        nearest = next((above for start in range(len(parts)) if (above := ".".join(parts[start:])) in own | others), "")
        if len(parts) > 1 and (nearest not in own or nearest in others):
            yield LinkDomain(name, False, Origin.MAPPING)


def _searched(settings: Settings, snapshot: Snapshot, facts: ClusterFacts) -> Iterator[LinkDomain]:
    domain = _bare(facts.domain)
    for namespace in _search(settings, snapshot, facts):
        if is_label(fold(namespace)):
            yield LinkDomain(f"{fold(namespace)}.svc.{domain}", True, Origin.SEARCH)


def _search(settings: Settings, snapshot: Snapshot, facts: ClusterFacts) -> tuple[str, ...]:
    """Namespaces for single labels: the user's, else the context's if the cluster has it."""
    if settings.dns.search is not None:
        return tuple(dict.fromkeys(settings.dns.search))
    if not settings.host.route_namespaces or not facts.namespace or _absent_search(settings, snapshot, facts):
        return ()
    return (facts.namespace,)


def _absent_search(settings: Settings, snapshot: Snapshot, facts: ClusterFacts) -> tuple[str, ...]:
    """A warning when the context's namespace is not in the cluster, so that single labels will not work."""
    asked_for = settings.dns.search is None and settings.host.route_namespaces and facts.namespace
    if not asked_for or not snapshot.synced or facts.namespace in snapshot.namespaces:
        return ()
    return (f"the context's namespace {one_line(facts.namespace)} does not exist: single labels are not searched",)


def _namespaces(settings: Settings, snapshot: Snapshot) -> Iterable[str]:
    if not _takes_more(settings, snapshot):
        return ()
    only = settings.cluster.namespaces
    return (name for name in snapshot.namespaces if not only or name in only)


def _reverse_zones(ranges: Collection[Network]) -> tuple[list[str], list[Network]]:
    """The reverse zones of ``ranges``, and those ranges that would need too many."""
    zones: list[str] = []
    uncut: list[Network] = []
    v4 = collapse_addresses(each for each in ranges if isinstance(each, IPv4Network))
    v6 = collapse_addresses(each for each in ranges if isinstance(each, IPv6Network))
    merged: list[Network] = [*v4, *v6]
    for network in merged:
        some = list(islice(reverse_zones(network), MAX_REVERSE_ZONES + 1))
        if len(some) > MAX_REVERSE_ZONES:
            uncut.append(network)
        else:
            zones += some
    return zones, uncut


@dataclass(slots=True)
class _Judge:
    settings: Settings
    collisions: Collisions
    passed: list[LinkDomain] = field(default_factory=list)
    withheld: list[tuple[str, Origin, Collision]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    includes: frozenset[str] = field(init=False)
    excludes: frozenset[str] = field(init=False)
    allowed: frozenset[str] = field(init=False)
    cluster_domain: Collision | None = None
    """Why nothing of the cluster domain is routed: a search domain below it shares its fate."""

    def __post_init__(self) -> None:
        dns = self.settings.dns
        self.includes = frozenset(map(_bare, dns.include_suffixes))
        self.excludes = frozenset(map(_bare, dns.exclude_suffixes))
        self.allowed = frozenset(map(_bare, dns.allow_collisions)) | self.includes

    def hear(self, wish: LinkDomain) -> None:
        why = self._objection(wish)
        if why is None:
            self.passed.append(wish)
            return
        self.withhold(wish.name, wish.origin, why)
        if wish.origin is Origin.CLUSTER_DOMAIN:
            self.cluster_domain = why
            self._hear_parts(wish.name, why)

    def _hear_parts(self, domain: str, why: Collision) -> None:
        """Of a cluster domain that is others' too, what Kubernetes has in it: with that the full names work."""
        if why.reason not in SHARED:
            return
        for part in SHARED_PARTS:
            wish = LinkDomain(f"{part}.{domain}", False, Origin.CLUSTER_DOMAIN)
            objection = self._objection(wish, is_part=True)
            if objection is not None:
                self.withhold(wish.name, wish.origin, objection)
                continue
            self.passed.append(wish)
            if part == "svc":
                self.cluster_domain = None

    def withhold(self, name: str, kind: Origin, why: Collision) -> None:
        self.withheld.append((name, kind, why))

    def _objection(self, wish: LinkDomain, *, is_part: bool = False) -> Collision | None:
        if not is_domain(wish.name) or (wish.origin is Origin.NAMESPACE and not is_label(wish.name)):
            return Collision(Reason.INVALID_NAME, "not a well-formed domain name")
        if wish.origin is Origin.SEARCH and self.cluster_domain is not None:
            return self.cluster_domain
        # Only an equally long exclude withdraws a route: under a longer one the route stays and our server forwards,
        # and a shorter one is overruled by the more specific domain.
        is_mapping = wish.origin is Origin.MAPPING
        if wish.name in self.excludes and wish.name not in self.includes and not is_mapping:
            if wish.name in self.allowed:
                self._warn_once(f"allow-collisions has {wish.name} in vain: exclude-suffixes has .{wish.name}")
            return Collision(Reason.EXCLUDED, f"exclude-suffixes has .{wish.name}")
        is_whole = wish.origin is Origin.CLUSTER_DOMAIN and not is_part
        collision = self.collisions.of_cluster_domain(wish.name) if is_whole else self.collisions.of(wish.name)
        if collision is None or (wish.name not in self.allowed and not is_mapping):
            return collision
        self._warn(wish, collision)
        return None

    def _warn(self, wish: LinkDomain, collision: Collision) -> None:
        name = wish.name
        option = "include-suffixes" if name in self.includes else "allow-collisions"
        if wish.origin is Origin.MAPPING:
            option = "mappings"
        why = f"although {collision.detail} ({collision.reason.value})"
        self._warn_once(f"{option} routes .{name} to the cluster {why}: it takes {collision.stake}")

    def _warn_once(self, warning: str) -> None:
        if warning not in self.warnings:
            self.warnings.append(warning)


def _fit(judge: _Judge, limit: int, asked: tuple[str, ...]) -> tuple[LinkDomain, ...]:
    """The domains that a link with room for ``limit`` takes, each once; the others are withheld."""
    # As a routing domain beside it a search domain would be lost: resolved keeps one entry a name, the routing one.
    searched = {domain.name for domain in judge.passed if domain.search}
    unique = {domain.name: domain for domain in reversed(judge.passed) if domain.search or domain.name not in searched}
    order = tuple(Origin)
    heard = {name: place for place, name in enumerate(dict.fromkeys(domain.name for domain in judge.passed))}
    lately = {name: place - len(asked) for place, name in enumerate(asked)}

    def importance(domain: LinkDomain) -> tuple[int, int, int]:
        if domain.origin is Origin.NAMESPACE and domain.name in lately:  # before the reverse zones, the latest first
            return order.index(Origin.REVERSE_ZONE), lately[domain.name], 0
        return order.index(domain.origin), 0, heard[domain.name]

    ranked = sorted(unique.values(), key=importance)
    kept, dropped = (ranked[:limit], ranked[limit:]) if limit else (ranked, [])
    full = Collision(Reason.DOMAIN_LIMIT, f"the link takes {limit} domains at most")
    for domain in sorted(dropped, key=lambda each: heard[each.name]):
        judge.withhold(domain.name, domain.origin, full)
    return tuple(sorted(kept, key=lambda each: heard[each.name]))


class _Still:
    """Which names of a withheld domain the cluster answers all the same."""

    def __init__(self, domains: tuple[LinkDomain, ...], cluster_domain: str) -> None:
        self._trees = {"svc", f"svc.{cluster_domain}"}
        roots = {*self._trees, cluster_domain}
        self._roots = [d.name for d in domains if d.origin in _CLUSTER_NAMES and d.name in roots]
        self._domain = cluster_domain
        self._searched = {domain.name for domain in domains if domain.search}

    def explain(self, name: str, kind: Origin, why: Collision) -> Withheld:
        return Withheld(name, kind, why.reason, self._names(name, kind, why.reason), why.detail)

    def _names(self, name: str, kind: Origin, reason: Reason) -> tuple[str, ...]:
        nameless = kind is Origin.NAMESPACE and reason is Reason.INVALID_NAME
        if nameless or kind not in (Origin.NAMESPACE, *_CLUSTER_NAMES):
            return ()
        namespace = name if kind is Origin.NAMESPACE else "NAMESPACE"
        trees = [root if root in self._trees else f"svc.{root}" for root in self._roots]
        below = [f"NAME.{namespace}.{tree}" for tree in trees]
        single = ["NAME"] if f"{namespace}.svc.{self._domain}" in self._searched else []
        return (*below, *single)


def _bare(suffix: str) -> str:
    """``.Corp.Internal.`` as ``corp.internal``; the root becomes the empty name, which is no domain."""
    return fold(suffix.strip()).removeprefix("*").strip(".")
