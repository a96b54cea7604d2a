"""The plan: which domains the host is told, which are withheld and why, whatever the order of its parts."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverd import plan
from resolverd.cluster.objects import Namespace
from resolverd.cluster.snapshot import Snapshot
from resolverd.host import Capabilities, HostDns, OtherLink, Server
from resolverd.link_domains import MAX_REVERSE_ZONES
from resolverd.names import is_domain, is_label
from resolverd.plan import ClusterFacts, HostPlan, Origin
from resolverd.settings import ClusterSettings, DnsSettings, HostSettings, Mapping, Settings, TunnelSettings
from resolverd.suffixes import SPECIAL_USE, Reason

SUFFIXES = frozenset({"com", "dev", "io", "rs", "web", "co.uk"})
SERVER = Server(ip_address("198.18.53.1"))
FACTS = ClusterFacts("cluster.local", (ip_network("10.96.0.0/16"),), "default", SERVER, "resolverd0")
HOST = Capabilities("systemd-resolved")


def cluster(*names: str) -> Snapshot:
    return Snapshot(namespaces={name: Namespace(name) for name in names}, synced=True)


def make(
    *names: str, dns: DnsSettings | None = None, host: Capabilities = HOST, facts: ClusterFacts = FACTS
) -> HostPlan:
    return plan.make(Settings(dns=dns or DnsSettings()), cluster(*names), host, facts, SUFFIXES)


def withheld(made: HostPlan) -> dict[str, str]:
    return {item.name: item.reason.value for item in made.withheld}


def shown(made: HostPlan) -> list[str]:
    return [str(domain) for domain in made.domains]


def test_the_usual_cluster() -> None:
    made = make("kube-system", "default", "billing")
    assert shown(made) == [
        *("~cluster.local", "~svc", "default.svc.cluster.local", "~96.10.in-addr.arpa"),
        *("~billing", "~default", "~kube-system"),
    ]
    assert made.dns == HostDns(
        link="resolverd0",
        servers=(SERVER,),
        routing=("cluster.local", "svc", "96.10.in-addr.arpa", "billing", "default", "kube-system"),
        search=("default.svc.cluster.local",),
    )
    assert made.namespaces == {"kube-system", "default", "billing"}
    assert (made.withheld, made.warnings) == ((), ())


@pytest.mark.parametrize(
    ("namespace", "reason", "detail"),
    [
        ("rs", Reason.ICANN_TLD, "public names end in .rs"),
        ("local", Reason.SPECIAL_USE, ".local is reserved for special use"),
        ("corp", Reason.SPECIAL_USE, ".corp is reserved for special use"),
        ("office", Reason.HOST_SEARCH_DOMAIN, "this host searches office"),
        ("branch", Reason.HOST_SEARCH_DOMAIN, "this host searches north.branch"),
        ("wlan", Reason.HOST_SEARCH_DOMAIN, "link eth0 searches wlan"),
        ("vpn", Reason.OTHER_LINK_DOMAIN, "link wg0 answers for vpn"),
        ("hq", Reason.OTHER_LINK_DOMAIN, "link wg0 answers for db.hq"),
        ("secret", Reason.EXCLUDED, "exclude-suffixes has .secret"),
        ("a b", Reason.INVALID_NAME, "not a well-formed domain name"),
        (".", Reason.INVALID_NAME, "not a well-formed domain name"),
        ("", Reason.INVALID_NAME, "not a well-formed domain name"),
        ("two.labels", Reason.INVALID_NAME, "not a well-formed domain name"),
        ("_tcp", Reason.INVALID_NAME, "not a well-formed domain name"),
    ],
)
def test_why_a_namespace_is_withheld(namespace: str, reason: Reason, detail: str) -> None:
    host = replace(
        HOST,
        host_search=("office", "north.branch"),
        other_links=(OtherLink("eth0", (".",), ("wlan",)), OtherLink("wg0", ("vpn", "db.hq"))),
    )
    made = make("default", namespace, dns=DnsSettings(exclude_suffixes=(".secret",)), host=host)
    (item,) = made.withheld
    assert (item.name, item.kind, item.reason, item.detail) == (namespace, Origin.NAMESPACE, reason, detail)
    assert made.namespaces == {"default"}
    assert namespace not in made.dns.routing


SPECIAL = (
    *("local", "localhost", "test", "invalid", "example", "onion", "alt", "internal", "home.arpa", "arpa"),
    *("home", "lan", "corp"),
)


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_reserved_is_nobodys_to_take(name: str) -> None:
    if "." not in name:
        assert withheld(make("default", name)) == {name: "special-use"}
    assert withheld(make("default", facts=replace(FACTS, domain=name)))[name] == "special-use"
    assert {*SPECIAL} == SPECIAL_USE


def test_what_still_works_of_a_withheld_namespace() -> None:
    (item,) = make("dev", facts=replace(FACTS, namespace="dev")).withheld
    assert item.still == ("NAME.dev.svc.cluster.local", "NAME.dev.svc", "NAME")
    lean = make("default", "dev", dns=DnsSettings(exclude_suffixes=("svc",)))
    assert [item.still for item in lean.withheld] == [
        ("NAME.NAMESPACE.svc.cluster.local",),
        ("NAME.dev.svc.cluster.local",),
    ]


def test_a_search_domain_harms_nobody_in_its_full_form() -> None:
    made = make("dev", dns=DnsSettings(search=("dev", "later")))
    assert made.dns.search == ("dev.svc.cluster.local", "later.svc.cluster.local")
    assert withheld(made) == {"dev": "icann-tld"}


@pytest.mark.parametrize(
    ("entry", "reason"), [("bad_name", "invalid-name"), ("a.b", "invalid-name"), ("", "invalid-name")]
)
def test_a_search_entry_must_be_a_namespace(entry: str, reason: str) -> None:
    made = make("default", dns=DnsSettings(search=(entry,)))
    assert withheld(made) == {entry: reason}
    assert made.dns.search == ()


def test_the_contexts_namespace_is_searched_only_if_it_exists() -> None:
    made = make("default", facts=replace(FACTS, namespace="gone"))
    assert made.dns.search == ()
    assert made.warnings == ("the context's namespace gone does not exist: single labels are not searched",)


def test_before_the_first_list_only_what_is_known_is_taken() -> None:
    settings = Settings(dns=DnsSettings(include_suffixes=("corp.internal",)))
    made = plan.make(settings, Snapshot(), HOST, FACTS, SUFFIXES)
    assert shown(made) == ["~cluster.local", "~svc", "default.svc.cluster.local"]
    assert made.namespaces == frozenset()


@pytest.mark.parametrize(
    ("domain", "reason"),
    [("k8s.vpn", "other-link-domain"), ("", "invalid-name")],
)
def test_the_cluster_domain_passes_the_filter_too_and_search_goes_with_it(domain: str, reason: str) -> None:
    host = replace(HOST, other_links=(OtherLink("wg0", ("k8s.vpn",)),))
    made = make("default", facts=replace(FACTS, domain=domain), host=host)
    assert [(item.kind, item.reason) for item in made.withheld] == [
        (Origin.CLUSTER_DOMAIN, reason),
        (Origin.SEARCH, reason),
    ]
    assert made.withheld[0].still == ("NAME.NAMESPACE.svc",)


@pytest.mark.parametrize(
    ("domain", "reason", "detail"),
    [
        ("local", "special-use", ".local is reserved for special use"),
        ("corp", "special-use", ".corp is reserved for special use"),
        ("dev", "icann-tld", "public names end in .dev"),
        ("co.uk", "icann-tld", "public names end in .co.uk"),
        ("prod.dev", "icann-tld", "it lies under the public .dev, so that names in it may be others'"),
        ("k8s.co.uk", "icann-tld", "it lies under the public .co.uk, so that names in it may be others'"),
        ("office", "host-search-domain", "this host searches north.office"),
    ],
)
def test_of_a_cluster_domain_that_is_others_too_only_what_kubernetes_has_in_it_is_taken(
    domain: str, reason: str, detail: str
) -> None:
    host = replace(HOST, host_search=("north.office",))
    made = make("default", facts=replace(FACTS, domain=domain), host=host)
    assert shown(made)[:4] == [f"~svc.{domain}", f"~pod.{domain}", "~svc", f"default.svc.{domain}"]
    (item,) = made.withheld
    assert (item.name, item.kind, item.reason, item.detail) == (domain, Origin.CLUSTER_DOMAIN, reason, detail)
    assert item.still == (f"NAME.NAMESPACE.svc.{domain}", "NAME.NAMESPACE.svc")


@pytest.mark.parametrize("domain", ["cluster.local", "k8s.internal", "prod.corp", "nobody", "k8s.home.arpa"])
def test_a_cluster_domain_that_is_nobody_elses_is_taken_whole(domain: str) -> None:
    made = make("default", facts=replace(FACTS, domain=domain))
    assert shown(made)[0] == f"~{domain}"
    assert made.withheld == ()


def test_the_user_may_take_the_whole_cluster_domain() -> None:
    for dns in (DnsSettings(include_suffixes=(".dev",)), DnsSettings(allow_collisions=("dev",))):
        made = make("default", dns=dns, facts=replace(FACTS, domain="dev"))
        assert "~dev" in shown(made)
        assert made.withheld == ()
        (warning,) = made.warnings
        assert warning.endswith("it takes web.dev, go.dev, every public name under .dev")


def test_where_the_part_of_a_cluster_domain_is_others_too_nothing_is_taken() -> None:
    host = replace(HOST, host_search=("default.svc.cluster.local", "svc.cluster.local", "cluster.local"))
    made = make("default", host=host)
    assert withheld(made) == {
        "cluster.local": "host-search-domain",
        "svc.cluster.local": "host-search-domain",
        "default.svc.cluster.local": "host-search-domain",
    }
    assert [name for name in shown(made) if "cluster.local" in name] == ["~pod.cluster.local"]


@pytest.mark.parametrize(
    ("namespace", "stake"),
    [
        ("dev", "it takes web.dev, go.dev, every public name under .dev"),
        ("web", "it takes every public name under .web"),
        ("local", "it takes printers and all that says its name by mDNS"),
        ("test", "it takes what relies on .test being reserved"),
        ("office", "it takes every name under .office"),
        ("vpn", "it takes every name under .db.vpn"),
    ],
)
def test_a_warning_says_whose_names_are_at_stake(namespace: str, stake: str) -> None:
    host = replace(HOST, host_search=("office",), other_links=(OtherLink("wg0", ("db.vpn",)),))
    (warning,) = make("default", namespace, dns=DnsSettings(allow_collisions=(namespace,)), host=host).warnings
    assert warning.startswith(f"allow-collisions routes .{namespace} to the cluster although ")
    assert warning.endswith(stake)


@pytest.mark.parametrize(
    ("tunnel", "includes", "warned"),
    [
        (TunnelSettings(enabled=False), (".corp.internal",), ".corp.internal"),
        (TunnelSettings(enabled=False), tuple(f".c{number}.internal" for number in range(9)), "9 include-suffixes"),
        (TunnelSettings(enabled=False), (), ""),
        (TunnelSettings(), (".corp.internal",), ""),
        (TunnelSettings(transport="direct"), (".corp.internal",), ""),
    ],
)
def test_that_nobody_is_asked_for_what_is_included_is_said(
    tunnel: TunnelSettings, includes: tuple[str, ...], warned: str
) -> None:
    settings = Settings(dns=DnsSettings(include_suffixes=includes), tunnel=tunnel)
    warnings = plan.make(settings, cluster("default"), HOST, FACTS, SUFFIXES).warnings
    only = "only services are found there, since the cluster's DNS service is reached by the tunnel alone"
    assert warnings == ((f"{warned} without a tunnel: {only}",) if warned else ())


def test_a_collision_that_is_allowed_in_vain_is_said() -> None:
    made = make("default", "com", dns=DnsSettings(allow_collisions=("com",)))
    assert withheld(made) == {"com": "excluded"}
    assert made.warnings == ("allow-collisions has com in vain: exclude-suffixes has .com",)


@pytest.mark.parametrize(
    ("includes", "excludes", "routed", "reasons"),
    [
        ((".corp.example",), (), ["corp.example"], {}),
        ((".xnrqj",), (".com",), ["xnrqj"], {}),
        ((".corp.com",), (".com",), ["corp.com"], {}),
        ((".com",), (".com",), ["com"], {}),
        ((".com",), (".corp.com",), ["com"], {}),
        ((".",), (), [], {"": "invalid-name"}),
        (("A.Example.",), (), ["a.example"], {}),
        ((), (".svc", ".CLUSTER.local."), [], {"cluster.local": "excluded", "svc": "excluded"}),
        ((), (".local",), [], {}),
    ],
)
def test_includes_and_excludes(
    includes: tuple[str, ...], excludes: tuple[str, ...], routed: list[str], reasons: dict[str, str]
) -> None:
    made = make("default", dns=DnsSettings(include_suffixes=includes, exclude_suffixes=excludes, search=()))
    assert [domain.name for domain in made.domains if domain.origin is Origin.INCLUDE_SUFFIX] == routed
    assert withheld(made) == reasons


def test_what_the_user_asks_for_is_routed_with_a_warning() -> None:
    made = make("default", "dev", "rs", dns=DnsSettings(include_suffixes=(".rs",), allow_collisions=("dev",)))
    assert {"dev", "rs"} <= set(made.dns.routing)
    assert {"dev", "rs"} <= made.namespaces
    assert made.withheld == ()
    rs, dev = made.warnings
    assert rs == (
        "include-suffixes routes .rs to the cluster although public names end in .rs (icann-tld): "
        "it takes docs.rs, every public name under .rs"
    )
    assert dev == (
        "allow-collisions routes .dev to the cluster although public names end in .dev (icann-tld): "
        "it takes web.dev, go.dev, every public name under .dev"
    )


def test_nothing_but_the_cluster_domain_and_includes() -> None:
    settings = Settings(dns=DnsSettings(include_suffixes=("corp.example",)), host=HostSettings(route_namespaces=False))
    lean = plan.make(settings, cluster("default", "billing"), HOST, FACTS, SUFFIXES)
    assert shown(lean) == ["~cluster.local", "~corp.example"]
    assert (lean.namespaces, lean.has_svc) == (frozenset(), False)
    settings = replace(settings, dns=DnsSettings(search=("default",), include_suffixes=("svc",)))
    lean = plan.make(settings, cluster("default", "billing"), HOST, FACTS, SUFFIXES)
    assert shown(lean) == ["~cluster.local", "~svc", "default.svc.cluster.local"], "a search domain takes no more names"
    assert (lean.namespaces, lean.has_svc) == (frozenset(), True)


def test_only_the_namespaces_the_user_named() -> None:
    settings = Settings(cluster=ClusterSettings(namespaces=("billing",)))
    made = plan.make(settings, cluster("default", "billing", "dev"), HOST, FACTS, SUFFIXES)
    assert made.namespaces == {"billing"}
    assert made.withheld == ()


def test_a_full_link_keeps_the_important_domains() -> None:
    names = [f"ns-{number:03}" for number in range(300)]
    facts = replace(FACTS, asked=("ns-299", "ns-150", "gone"))
    host = replace(HOST, domain_limit=8)
    made = make("default", *names, dns=DnsSettings(include_suffixes=("corp.example",)), facts=facts, host=host)
    assert shown(made) == [
        *("~cluster.local", "~svc", "~corp.example", "default.svc.cluster.local", "~96.10.in-addr.arpa"),
        *("~default", "~ns-150", "~ns-299"),
    ]
    assert len(made.withheld) == 298
    assert {item.reason for item in made.withheld} == {Reason.DOMAIN_LIMIT}
    assert made.namespaces == {"default", *names}, "they are the cluster's when they are asked for"


def test_lately_asked_namespaces_come_before_reverse_zones_the_latest_first() -> None:
    facts = replace(FACTS, asked=("b", "a"))
    made = make("a", "b", "default", facts=facts, host=replace(HOST, domain_limit=4))
    assert shown(made) == ["~cluster.local", "~svc", "default.svc.cluster.local", "~b"]


def test_a_name_is_given_once_and_search_wins() -> None:
    dns = DnsSettings(include_suffixes=("default.svc.cluster.local", "svc"))
    made = make("default", "svc", dns=dns)
    assert shown(made) == [
        *("~cluster.local", "~svc", "default.svc.cluster.local", "~96.10.in-addr.arpa", "~default"),
    ]
    assert made.namespaces == {"default", "svc"}


@pytest.mark.parametrize(
    ("ranges", "zones", "uncut"),
    [
        (["10.96.0.0/12"], 16, []),
        (["10.96.0.0/12", "10.100.0.0/16"], 16, []),
        (["10.244.0.0/24", "10.244.1.0/24"], 2, []),
        (["10.244.0.0/17", "10.244.128.0/17"], 1, []),
        (["10.128.0.0/9"], 0, ["10.128.0.0/9"]),
        (["0.0.0.0/0"], 0, []),
        (["fd00:10:96::/112", "10.96.0.0/16"], 2, []),
    ],
)
def test_reverse_zones_are_bounded(ranges: list[str], zones: int, uncut: list[str]) -> None:
    facts = replace(FACTS, ranges=tuple(map(ip_network, ranges)))
    made = plan.make(Settings(), cluster("default"), HOST, facts, SUFFIXES | {"in-addr.arpa"})
    assert sum(domain.origin is Origin.REVERSE_ZONE for domain in made.domains) == zones <= MAX_REVERSE_ZONES
    assert [item.name for item in made.withheld if item.reason is Reason.DOMAIN_LIMIT] == uncut


def test_without_a_server_or_a_link_the_host_is_told_nothing() -> None:
    for facts in (replace(FACTS, server=None), replace(FACTS, link="")):
        made = make("default", facts=facts)
        assert not made.dns
        assert "~default" in shown(made)
    other = Server(ip_address("fd00:53::1"))
    linkless = replace(FACTS, link="", more_servers=(other,))
    assert make("default", facts=linkless, host=replace(HOST, needs_link=False)).dns.servers == (SERVER, other)


def test_a_plan_says_what_is_odd_of_domains_and_of_routes() -> None:
    dns, tunnel = DnsSettings(allow_collisions=("com",)), TunnelSettings(also_proxy=("127.0.0.5",))
    made = plan.make(Settings(dns=dns, tunnel=tunnel), cluster("com", "default"), HOST, FACTS, SUFFIXES)
    assert made.warnings == (
        "allow-collisions has com in vain: exclude-suffixes has .com",
        "127.0.0.5/32 is never routed: loopback",
    )


def test_the_document_for_status_is_plain_and_on_one_line() -> None:
    made = make("default", "rs", "x\x1b[2J\ny")
    document = json.loads(json.dumps(made.to_json()))
    assert document["withheld"][0] == {
        "name": "rs",
        "kind": "namespace",
        "reason": "icann-tld",
        "still": ["NAME.rs.svc.cluster.local", "NAME.rs.svc"],
        "detail": "public names end in .rs",
    }
    assert document["withheld"][1]["name"] == "x [2J y"
    assert document["search"] == ["default.svc.cluster.local"]
    assert document["domains"][:2] == ["~cluster.local", "~svc"]


NAMES = st.one_of(
    st.sampled_from(["default", "rs", "dev", "local", "svc", "corp", "office", "vpn", "hq", "x.y", "", ".", "~", "*"]),
    st.from_regex(r"[a-z0-9]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True),
    st.text(max_size=6),
)
CLUSTERS = st.lists(NAMES, max_size=12, unique=True)


@given(CLUSTERS, st.lists(NAMES, max_size=3), st.lists(NAMES, max_size=3), st.integers(0, 20))
def test_nothing_is_taken_from_anybody_and_nothing_is_lost(
    names: list[str], includes: list[str], allowed: list[str], limit: int
) -> None:
    dns = DnsSettings(include_suffixes=tuple(includes), allow_collisions=tuple(allowed))
    host = replace(HOST, domain_limit=limit, host_search=("office",), other_links=(OtherLink("wg0", ("vpn",)),))
    made = make(*names, dns=dns, host=host)
    asked_for = {text.strip().lower().lstrip("*").strip(".") for text in (*includes, *allowed)}
    for domain in made.domains:
        assert is_domain(domain.name)
        assert domain.name not in (SPECIAL_USE | SUFFIXES | {"office", "vpn"}) - asked_for
    assert not limit or len(made.domains) <= limit
    assert all(item.reason in Reason and item.detail for item in made.withheld)
    lost = {item.name for item in made.withheld}
    planned = {domain.name for domain in made.domains}
    assert set(names) <= lost | planned
    assert made.namespaces <= set(names)
    assert all(is_label(name) for name in made.namespaces)
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301 - our own bytes


@given(CLUSTERS, st.randoms(use_true_random=False))
def test_the_order_of_the_cluster_does_not_matter(names: list[str], random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    host = replace(HOST, domain_limit=6)
    assert make(*names, host=host) == make(*shuffled, host=host)


@pytest.mark.parametrize(
    ("mapped", "expected"),
    [
        ("db.local-dev", ["~db.local-dev"]),
        ("www.example.com", ["~www.example.com"]),
        ("single", []),
        ("a.corp.internal", []),
        ("web.shop.svc", []),
        ("web.shop.svc.cluster.local", []),
    ],
)
def test_a_mapping_is_asked_of_us(mapped: str, expected: list[str]) -> None:
    dns = DnsSettings(
        mappings=(Mapping(mapped, "192.0.2.1"),),
        include_suffixes=(".corp.internal",),
        exclude_suffixes=(".com", ".www.example.com"),
    )
    made = make("default", dns=dns)
    assert sorted(set(shown(made)) - set(shown(make("default", dns=replace(dns, mappings=()))))) == expected
    assert not made.withheld


@pytest.mark.parametrize(
    ("mapped", "domain", "excluded", "other"),
    [
        ("api.prod.dev", "prod.dev", "", ""),
        ("api.cluster.local", "cluster.local", ".cluster.local", ""),
        ("web.shop.svc", "cluster.local", ".svc", ""),
        ("web.shop.svc.cluster.local", "cluster.local", "", "cluster.local"),
        ("x.vpn.corp.internal", "cluster.local", "", "vpn.corp.internal"),
        ("x.corp.internal", "cluster.local", "", "corp.internal"),
    ],
)
def test_a_mapping_is_asked_of_us_also_where_what_it_lies_under_is_not_ours(
    mapped: str, domain: str, excluded: str, other: str
) -> None:
    dns = DnsSettings(
        mappings=(Mapping(mapped, "192.0.2.1"),),
        include_suffixes=(".corp.internal",),
        exclude_suffixes=(excluded,) if excluded else (),
    )
    host = replace(HOST, other_links=(OtherLink("wg0", routing=(other,)),) if other else ())
    made = make("default", dns=dns, host=host, facts=replace(FACTS, domain=domain))
    assert f"~{mapped}" in shown(made)


def test_a_mapping_that_collides_is_taken_with_a_warning() -> None:
    made = make("default", dns=DnsSettings(mappings=(Mapping("co.uk", "192.0.2.1"),)))
    assert "~co.uk" in shown(made)
    (warning,) = made.warnings
    assert warning.startswith("mappings routes .co.uk to the cluster although public names end in .co.uk (icann-tld): ")
