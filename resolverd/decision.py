"""Whose name it is, by which rule, and where that rule comes from. Pure.

:func:`resolverd.dns.claims.claim_of` decides; here its decision is explained, never made a second time. The settings
come with their origins, the namespaces and the cluster domain with who says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from .dns.claims import WPAD, Claim, Elsewhere, claim_of, longest_suffix
from .dns.rules import DnsConfig, Kind, Labels, zone_of
from .dns_policy import searched
from .names import Network, labels
from .planned import HostPlan, Withheld
from .settings import Settings

BUILT_IN = "built in"
"""The origin of a rule that no setting changes."""
_NO_ORIGIN = "default"


class RuleKind(StrEnum):
    """What decides."""

    MAPPING = "mapping"
    WPAD = "wpad"
    EXCLUDED_NAME = "excludes"
    EXCLUDE_SUFFIX = "exclude-suffix"
    INCLUDE_SUFFIX = "include-suffix"
    CLUSTER_DOMAIN = "cluster-domain"
    SVC = "svc"
    NAMESPACE = "namespace"
    SEARCH = "search"
    REVERSE_ZONE = "reverse-zone"
    WITHHELD = "withheld"
    """A namespace whose short names would be somebody else's."""
    NOT_ROUTED = "route-namespaces"
    """A namespace, and the settings want none routed."""
    NONE = "none"


class Answerer(StrEnum):
    """Who answers."""

    RESOLVERD = "resolverd"
    """From what it watches; under an include it asks the cluster's DNS service for the rest."""
    CLUSTER_DNS = "cluster-dns"
    NORMAL = "normal-resolver"
    """Whoever would answer without us: asked by the host, or by our server where the host asks that."""


class Rule(NamedTuple):
    """One rule, as the user knows it."""

    kind: RuleKind
    text: str
    """``.com``, a name, a namespace, a network."""
    origin: str
    """``default``, ``FILE:LINE:COLUMN``, ``kubeconfig extension …``, ``flag --x``, who in the cluster says so."""
    length: int
    """Labels of a name that it matches."""


class Decision(NamedTuple):
    """Whose a name is."""

    name: Labels
    asked: Labels
    """What is looked up for it: with a search domain where ``name`` is a single label."""
    claim: Claim
    """The decision on ``asked`` as the DNS server makes it."""
    rule: Rule

    @property
    def answerer(self) -> Answerer:
        return answerer_of(self.claim)


def answerer_of(claim: Claim) -> Answerer:
    """Who answers by ``claim``. What lies outside the cluster's ranges is ours only where we happen to know it."""
    if claim.zone is not None and (claim.zone.is_whole or claim.elsewhere is None):
        if claim.zone.kind is Kind.REVERSE and claim.elsewhere is not None:
            return Answerer.CLUSTER_DNS
        return Answerer.RESOLVERD
    return Answerer.CLUSTER_DNS if claim.elsewhere is Elsewhere.CLUSTER else Answerer.NORMAL


@dataclass(frozen=True, slots=True)
class Policy:
    """All that decisions depend on at one moment."""

    config: DnsConfig
    settings: Settings
    plan: HostPlan
    origins: Mapping[str, str]
    """As :class:`resolverd.config.Loaded` has them."""
    known: frozenset[str] = frozenset()
    """Namespaces of the cluster, as far as they are known."""
    is_complete: bool = True
    """Whether those are all."""
    domain_source: str = "assumed"
    """Who says what the cluster domain is."""
    context: str = ""
    """The kubeconfig's."""
    searched: tuple[str, ...] | None = None
    """The plan's search domains that the host took: some back ends have none. None: all."""

    def origin(self, setting: str) -> str:
        return self.origins.get(setting, _NO_ORIGIN)


@dataclass(slots=True)
class Decider:
    """Decides by one :class:`Policy`; made once for many names."""

    policy: Policy
    search: tuple[Labels, ...] = field(init=False)
    """The host's search domains that are ours."""
    withheld: Mapping[str, Withheld] = field(init=False)
    """Namespaces withheld from the host."""
    _exact: dict[Labels, Rule] = field(init=False)
    _mappings: dict[Labels, Rule] = field(init=False)
    _includes: dict[Labels, Rule] = field(init=False)
    _excludes: dict[Labels, Rule] = field(init=False)
    _namespaces: dict[str, Rule] = field(init=False)

    def __post_init__(self) -> None:
        policy, plan, dns = self.policy, self.policy.plan, self.policy.settings.dns
        texts = tuple(domain.name for domain in plan.domains if domain.search)
        self.search = tuple(map(labels, texts if policy.searched is None else policy.searched))
        self.withheld = {item.name: item for item in plan.withheld if item.kind.value == RuleKind.NAMESPACE.value}
        mapped = self._listed(RuleKind.MAPPING, "dns.mappings", (each.name for each in dns.mappings))
        self._mappings = {whole: rule for name, rule in mapped for whole in searched(name, texts)}
        exact = self._listed(RuleKind.EXCLUDED_NAME, "dns.excludes", dns.excludes)
        self._exact = {whole: rule for name, rule in exact for whole in searched(name, texts)}
        self._includes = dict(self._listed(RuleKind.INCLUDE_SUFFIX, "dns.include-suffixes", dns.include_suffixes))
        self._excludes = dict(self._listed(RuleKind.EXCLUDE_SUFFIX, "dns.exclude-suffixes", dns.exclude_suffixes))
        allowed = {name: f"dns.allow-collisions[{number}]" for number, name in enumerate(dns.allow_collisions)}
        self._namespaces = {}
        for name in policy.config.namespaces:
            also = f", let through by dns.allow-collisions ({policy.origin(allowed[name])})" if name in allowed else ""
            self._namespaces[name] = Rule(RuleKind.NAMESPACE, name, f"namespace {name}{also}", 1)

    def decide(self, name: Labels) -> Decision:
        """Whose ``name`` is: folded labels, leftmost first."""
        asked = name + self.search[0] if len(name) == 1 and self.search else name
        claim = claim_of(asked, self.policy.config)
        return Decision(name, asked, claim, self._rule(name, asked, claim))

    def overruled(self, decision: Decision) -> tuple[Rule, ...]:
        """The other rules that match, the longest first."""
        found = sorted(set(self._matching(decision.asked)) - {decision.rule}, key=lambda rule: (-rule.length, rule))
        return tuple(found)

    # Which rule it was.

    def _rule(self, name: Labels, asked: Labels, claim: Claim) -> Rule:
        zone = claim.zone
        if zone is not None and zone.kind is Kind.MAPPED:
            return self._mappings[asked]
        if zone is None and claim.is_settled:
            return self._exclusion(asked)
        if len(name) < len(asked):
            return self._search_rule()
        if zone is None and claim.elsewhere is Elsewhere.UPSTREAM:
            return self._nobodys(asked)
        included = longest_suffix(asked, self._includes) if self._includes else 0
        zone = zone or zone_of(asked, self.policy.config)
        if zone is not None and zone.is_whole and (included < zone.depth or zone.kind is Kind.CLUSTER):
            return self._zone_rule(asked, zone.kind)
        if zone is not None and zone.is_whole and asked[-1:] == ("svc",):
            return self._zone_rule(asked, zone.kind)
        if included:
            return self._includes[asked[-included:]]
        return self._nobodys(asked)

    def _exclusion(self, asked: Labels) -> Rule:
        """The setting that keeps the name from the cluster."""
        if asked[:1] == (WPAD,):
            return _WPAD
        if asked in self._exact:
            return self._exact[asked]
        return self._excludes[asked[-longest_suffix(asked, self._excludes) :]]

    def _zone_rule(self, asked: Labels, kind: Kind) -> Rule:
        if kind is Kind.CLUSTER:
            domain = self.policy.config.domain
            return Rule(RuleKind.CLUSTER_DOMAIN, domain, self._domain_origin(), len(labels(domain)))
        if kind is Kind.REVERSE:
            return self._reverse_rule(asked)
        return _SVC if asked[-1] == "svc" else self._namespaces[asked[-1]]

    def _domain_origin(self) -> str:
        source = self.policy.domain_source
        if source == "cluster.domain":
            return self.policy.origin(source)
        return "default, the cluster does not say" if source == "assumed" else source

    def _reverse_rule(self, asked: Labels) -> Rule:
        zone = zone_of(asked, self.policy.config)
        network = zone.network if zone else None
        own = [each for each in self.policy.config.ranges if network is not None and _holds(each, network)]
        text = str(max(own, key=lambda each: each.prefixlen)) if own else ".".join(asked)
        said = self.policy.origin("cluster.ranges")
        origin = "the cluster" if said == _NO_ORIGIN else said
        return Rule(RuleKind.REVERSE_ZONE, text, origin, zone.depth if zone else 0)

    def _search_rule(self) -> Rule:
        dns = self.policy.settings.dns
        domain = ".".join(self.search[0])
        if dns.search is None:
            return Rule(RuleKind.SEARCH, domain, f"namespace of context {self.policy.context or '?'}", 1)
        number = next((n for n, each in enumerate(dns.search) if each.lower() == self.search[0][0]), 0)
        return Rule(RuleKind.SEARCH, domain, self.policy.origin(f"dns.search[{number}]"), 1)

    def _nobodys(self, asked: Labels) -> Rule:
        last = asked[-1] if asked else ""
        if last in self.withheld:
            return Rule(RuleKind.WITHHELD, last, f"namespace {last}", 1)
        if last in self.policy.known and not self.policy.settings.host.route_namespaces:
            return Rule(RuleKind.NOT_ROUTED, last, self.policy.origin("host.route-namespaces"), 1)
        return _NONE

    # All rules that match.

    def _matching(self, asked: Labels) -> Iterator[Rule]:
        for exact in (self._mappings, self._exact):
            if asked in exact:
                yield exact[asked]
        if asked[:1] == (WPAD,):
            yield _WPAD
        for start in range(len(asked)):
            for suffixes in (self._includes, self._excludes):
                if asked[start:] in suffixes:
                    yield suffixes[asked[start:]]
        zone = zone_of(asked, self.policy.config)
        if zone is not None and zone.is_whole:
            yield self._zone_rule(asked, zone.kind)

    def _listed(self, kind: RuleKind, setting: str, texts: Iterable[str]) -> Iterator[tuple[Labels, Rule]]:
        for number, text in enumerate(texts):
            name = labels(text.removeprefix("."))
            yield name, Rule(kind, text, self.policy.origin(f"{setting}[{number}]"), len(name))


_WPAD = Rule(RuleKind.WPAD, f"{WPAD}.*", BUILT_IN, 1)
_SVC = Rule(RuleKind.SVC, "svc", BUILT_IN, 1)
_NONE = Rule(RuleKind.NONE, "", BUILT_IN, 0)


def _holds(own: Network, network: Network) -> bool:
    return own.version == network.version and network.subnet_of(own)  # type: ignore[arg-type]  # of one family
