"""No plan takes names from anybody, whatever is in the cluster: random clusters against another reading of the list."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverd import plan
from resolverd.cluster.objects import Namespace
from resolverd.cluster.snapshot import Snapshot
from resolverd.dns.claims import claim_of
from resolverd.dns_policy import make_dns_config
from resolverd.host import Capabilities, OtherLink, Server
from resolverd.names import is_under, labels
from resolverd.plan import ClusterFacts, HostPlan, Origin
from resolverd.settings import DnsSettings, HostSettings, Settings
from resolverd.suffixes import SPECIAL_USE
from resolverd_platform.suffix_list import BUNDLED, icann_rules, load

SUFFIXES = load(str(BUNDLED))
RULES = frozenset(icann_rules(BUNDLED.read_text(encoding="utf-8")))
ABOVE_A_RULE = frozenset(
    ".".join(parts[start:])
    for parts in (rule.removeprefix("*.").split(".") for rule in RULES if not rule.startswith("!"))
    for start in range(len(parts))
)
SERVER = Server(ip_address("198.18.53.1"))


def is_public(name: str) -> bool:
    """Whether ``name`` is a public suffix or above one, by the list's own definition."""
    _, _, parent = name.partition(".")
    return name in ABOVE_A_RULE or (f"*.{parent}" in RULES and f"!{name}" not in RULES)


LABEL = st.one_of(
    st.sampled_from(["rs", "dev", "com", "web", "uk", "co", "ck", "mm", "np", "arpa", "jp", "kawasaki", "city"]),
    st.sampled_from(["local", "corp", "home", "lan", "internal", "test", "svc", "pod", "default", "cluster", "10"]),
    st.sampled_from(["office", "vpn", "shop", "billing", "in-addr", "ip6", "xn--p1ai", "xn--55qx5d", "cn"]),
    st.from_regex(r"[a-z0-9]([-a-z0-9]{0,4}[a-z0-9])?", fullmatch=True),
)
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
FEW = st.lists(DOMAIN, max_size=3).map(tuple)


@dataclass(frozen=True)
class World:
    """A cluster, a host and a user."""

    namespaces: tuple[str, ...]
    facts: ClusterFacts
    host: Capabilities
    settings: Settings

    def plan(self, namespaces: tuple[str, ...] | None = None) -> HostPlan:
        there = {name: Namespace(name) for name in (self.namespaces if namespaces is None else namespaces)}
        return plan.make(self.settings, Snapshot(namespaces=there, synced=True), self.host, self.facts, SUFFIXES)

    @property
    def named(self) -> set[str]:
        """What the user's settings name."""
        dns = self.settings.dns
        return {name.removeprefix(".") for name in (*dns.include_suffixes, *dns.allow_collisions)}

    @property
    def others(self) -> list[str]:
        """The domains that this host uses without us."""
        links = [name for link in self.host.other_links for name in (*link.search, *link.routing)]
        return [*self.host.host_search, *links, *SPECIAL_USE]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    names = tuple(draw(st.lists(LABEL, max_size=10, unique=True)))
    links = (OtherLink("eth0", search=draw(FEW)), OtherLink("wg0", routing=(".", *draw(FEW))))
    dns = DnsSettings(
        include_suffixes=draw(FEW),
        exclude_suffixes=draw(FEW),
        allow_collisions=tuple(draw(st.lists(LABEL, max_size=2))),
        search=draw(st.none() | st.lists(LABEL, max_size=3).map(tuple)),
    )
    ranges = draw(st.lists(st.sampled_from(["10.96.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "fd00::/16"]), max_size=2))
    return World(
        names,
        ClusterFacts(draw(DOMAIN), tuple(map(ip_network, ranges)), draw(LABEL), SERVER, "resolverd0"),
        Capabilities(domain_limit=draw(st.sampled_from([0, 3, 8])), host_search=draw(FEW), other_links=links),
        Settings(dns=dns, host=HostSettings(route_namespaces=draw(st.booleans()))),
    )


@given(worlds())
def test_no_domain_of_ours_is_or_is_above_one_of_others_unless_the_user_names_it(world: World) -> None:
    for domain in world.plan().domains:
        if domain.name in world.named:
            continue
        assert not is_public(domain.name), domain
        for other in world.others:
            assert not is_under(labels(other), labels(domain.name)), (domain, other)


@given(worlds())
def test_no_cluster_domain_takes_a_name_under_a_public_suffix_but_its_services_and_pods(world: World) -> None:
    own = world.facts.domain
    for domain in world.plan().domains:
        if domain.origin is not Origin.CLUSTER_DOMAIN or domain.name in world.named:
            continue
        if domain.name == own:
            assert not any(is_public(".".join(labels(own)[start:])) for start in range(len(labels(own))))
        else:
            assert domain.name in (f"svc.{own}", f"pod.{own}")


@given(worlds())
def test_what_the_settings_do_not_name_is_routed_nowhere_when_namespaces_are_not(world: World) -> None:
    lean = replace(world.settings, host=HostSettings(route_namespaces=False))
    kinds = {domain.origin for domain in replace(world, settings=lean).plan().domains}
    assert kinds <= {Origin.CLUSTER_DOMAIN, Origin.INCLUDE_SUFFIX} | ({Origin.SEARCH} if lean.dns.search else set())


@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_namespaces_never_matters(world: World, shuffler: random.Random) -> None:
    shuffled = list(world.namespaces)
    shuffler.shuffle(shuffled)
    assert world.plan() == world.plan(tuple(shuffled))


@given(worlds())
def test_our_server_claims_no_short_name_of_a_withheld_namespace(world: World) -> None:
    made = world.plan()
    config = make_dns_config(world.settings.dns, made, world.host, domain=world.facts.domain, ranges=(), server=SERVER)
    limited = {item.name for item in made.withheld if item.reason.value == "domain-limit"}
    gone = {item.name for item in made.withheld if item.kind is Origin.NAMESPACE} - limited - world.named
    for name in gone - {"svc", *labels(world.facts.domain)[-1:]}:
        zone = claim_of(("www", name), config).zone
        assert zone is None or not zone.is_whole, name


@pytest.mark.parametrize("rule", ["rs", "*.ck", "co.uk", "*.kawasaki.jp", "in-addr.arpa"])
def test_the_list_has_what_the_properties_are_about(rule: str) -> None:
    assert rule in RULES


def test_what_is_above_a_public_suffix_is_one_by_our_reading_too() -> None:
    assert [name for name in sorted(ABOVE_A_RULE) if name.isascii() and name not in SUFFIXES] == []
