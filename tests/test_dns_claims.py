"""Whose a name is, as a table of settings and names; and what mappings make of names."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from dns_cluster import CONFIG, ask, index_of, short
from hypothesis import given
from hypothesis import strategies as st

from resolverd.dns.claims import Claim, Elsewhere, claim_of, longest_suffix
from resolverd.dns.rules import DnsConfig, Labels
from resolverd.dns_policy import make_dns_config
from resolverd.host import Capabilities, Server
from resolverd.names import fold, is_under, labels
from resolverd.plan import HostPlan, LinkDomain, Origin, Withheld
from resolverd.settings import DnsSettings, Mapping
from resolverd.suffixes import Reason

DEFAULT = DnsSettings().exclude_suffixes
SERVER = Server(ip_address("198.18.53.1"))
PLAN = HostPlan(
    domains=(
        LinkDomain("cluster.local", False, Origin.CLUSTER_DOMAIN),
        LinkDomain("shop.svc.cluster.local", True, Origin.SEARCH),
    ),
    namespaces=frozenset({"shop", "dev", "db", "internal", "com", "wpad"}),
)


def configured(capabilities: Capabilities = Capabilities(), plan: HostPlan = PLAN, **dns: object) -> DnsConfig:  # noqa: B008
    settings = DnsSettings(**dns)  # type: ignore[arg-type]
    return make_dns_config(settings, plan, capabilities, domain="cluster.local", ranges=CONFIG.ranges, server=SERVER)


def shown(claim: Claim) -> str:
    """``ours``, who is asked, or who is asked after us."""
    words = ["ours"] if claim.zone else []
    words += {None: [], Elsewhere.UPSTREAM: ["upstream"], Elsewhere.CLUSTER: ["cluster"]}[claim.elsewhere]
    return " then ".join(words)


@pytest.mark.parametrize(
    ("name", "include", "exclude", "expected"),
    [
        # Telepresence's own cases (kubeconfig_extension_test.go, Test_DNSSuffixRules).
        ("zwslkjsdf.com", [], DEFAULT, "upstream"),
        ("zwslkjsdf.xnrqj", [], DEFAULT, "upstream"),
        ("zwslkjsdf.xnrqj", [".xnrqj"], DEFAULT, "cluster"),
        ("zwslkjsdf.org", [".org"], DEFAULT, "cluster"),
        ("zwslkjsdf.my-domain.org", [".my-domain.org"], DEFAULT, "cluster"),
        ("zwslkjsdf.my-domain.org", [".org"], [".com", ".my-domain.org"], "upstream"),
        # The longest wins, whatever the order.
        ("x.a.b", [".b"], [".b", ".a.b"], "upstream"),
        ("x.a.b", [".b"], [".a.b", ".b"], "upstream"),
        ("x.b", [".b"], [".a.b", ".b"], "cluster"),
        ("x.a.b", [".x.a.b", ".b"], [".a.b"], "cluster"),
        # Labels, not letters.
        ("www.mongodb", [], [], "upstream"),
        ("notprivate", [".private"], [], "upstream"),
        ("x.notprivate", [".private"], [], "upstream"),
        ("private", [".private"], [], "cluster"),
        ("X.Private", [".PRIVATE"], [], "cluster"),
        # Ours, against excludes that are as long, longer, shorter.
        ("web.shop", [], [], "ours"),
        ("web.com", [], [], "ours"),
        ("web.com", [], DEFAULT, "upstream"),
        ("web.dev", [], [".dev"], "upstream"),
        ("web.com.svc", [], DEFAULT, "ours"),
        ("web.dev.svc", [], [".dev.svc"], "upstream"),
        ("web.dev.svc", [], [".svc"], "upstream"),
        ("web.dev.svc.cluster.local", [], [".local"], "ours"),
        ("web.dev.svc.cluster.local", [], [".cluster.local"], "upstream"),
        ("web.dev.svc.cluster.local", [], [".dev.svc.cluster.local"], "upstream"),
        ("web.shop.svc.cluster.local", [], [".dev.svc.cluster.local"], "ours"),
        ("7.0.96.10.in-addr.arpa", [], [".10.in-addr.arpa"], "ours"),
        ("7.0.96.10.in-addr.arpa", [], [".96.10.in-addr.arpa"], "upstream"),
        # Ours, against includes.
        ("web.com", [".com"], DEFAULT, "ours then cluster"),
        ("web.internal", [".internal"], [], "ours then cluster"),
        ("x.corp.internal", [".corp.internal"], [], "ours then cluster"),
        ("x.other.internal", [".corp.internal"], [], "ours"),
        ("web.dev.svc", [".svc"], [], "ours"),
        ("web.dev.svc.cluster.local", [".local", ".cluster.local"], [], "ours"),
        ("web.dev.svc.cluster.local", [".cluster.local"], [".cluster.local"], "ours"),
        ("7.0.96.10.in-addr.arpa", [".10.in-addr.arpa"], [], "ours then cluster"),
        ("1.2.0.192.in-addr.arpa", [], [], "ours then upstream"),
        ("1.2.0.192.in-addr.arpa", [".192.in-addr.arpa"], [], "ours then cluster"),
        # Never the cluster's.
        ("wpad.shop", [], [], "upstream"),
        ("WPAD.shop.svc.cluster.local", [], [], "upstream"),
        ("wpad.corp.internal", [".corp.internal"], [], "upstream"),
        ("web.wpad", [], [], "ours"),
        (".", [], [], "upstream"),
    ],
)
def test_whose_a_name_is(name: str, include: list[str], exclude: list[str], expected: str) -> None:
    config = configured(include_suffixes=tuple(map(fold, include)), exclude_suffixes=tuple(map(fold, exclude)))
    assert shown(claim_of(labels(name), config)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.shop", "upstream"),
        ("x.web.shop", "ours"),
        ("web.shop.svc", "ours"),
        ("db", "upstream"),
        ("db.shop.svc.cluster.local", "upstream"),
        ("db.dev.svc.cluster.local", "ours"),
        ("x.corp.internal", "upstream"),
        ("y.corp.internal", "ours then cluster"),
        ("mapped.shop", "ours"),
    ],
)
def test_excluded_names_are_upstreams(name: str, expected: str) -> None:
    config = configured(
        include_suffixes=(".corp.internal",),
        excludes=("web.shop", "db", "x.corp.internal", "mapped.shop"),
        mappings=(Mapping("mapped.shop", "192.0.2.1"),),
    )
    assert shown(claim_of(labels(name), config)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.shop.svc.prod.rs", "ours"),
        ("nope.svc.prod.rs", "ours"),
        ("10-96-0-7.shop.pod.prod.rs", "ours"),
        ("prod.rs", "upstream"),
        ("api.prod.rs", "upstream"),
        ("svc.api.prod.rs", "upstream"),
        ("web.shop.svc", "ours"),
    ],
)
def test_of_a_domain_that_is_others_too_only_parts_are_ours(name: str, expected: str) -> None:
    for reason, shared in ((Reason.ICANN_TLD, True), (Reason.EXCLUDED, False), (Reason.OTHER_LINK_DOMAIN, False)):
        plan = replace(PLAN, withheld=(Withheld("prod.rs", Origin.CLUSTER_DOMAIN, reason, (), ""),))
        config = replace(configured(plan=plan), domain="prod.rs")
        assert shown(claim_of(labels(name), config)) == (expected if shared or name == "web.shop.svc" else "ours")


def test_svc_is_nobodys_when_the_plan_does_not_take_it() -> None:
    config = configured(plan=replace(PLAN, has_svc=False))
    assert shown(claim_of(labels("web.shop.svc"), config)) == "upstream"
    assert shown(claim_of(labels("web.shop.svc.cluster.local"), config)) == "ours"


_LABEL = st.sampled_from(["a", "b", "ab", "com"])
_NAMES = st.lists(_LABEL, min_size=1, max_size=5).map(tuple)


@given(_NAMES, st.frozensets(_NAMES, max_size=5))
def test_the_longest_suffix_by_another_reading(name: Labels, suffixes: frozenset[Labels]) -> None:
    assert longest_suffix(name, suffixes) == max((len(each) for each in suffixes if is_under(name, each)), default=0)


@given(_NAMES, st.lists(_NAMES, max_size=4), st.lists(_NAMES, max_size=4))
def test_order_never_matters(name: Labels, include: list[Labels], exclude: list[Labels]) -> None:
    def claim(flip: int) -> Claim:
        suffixes = (tuple("." + ".".join(each) for each in listed[::flip]) for listed in (include, exclude))
        includes, excludes = suffixes
        return claim_of(name, configured(include_suffixes=includes, exclude_suffixes=excludes))

    assert claim(1) == claim(-1)


INDEX = index_of()
MAPPED = replace(
    configured(
        mappings=(
            Mapping("db.local-dev", "db.shop.svc.cluster.local"),
            Mapping("web.local-dev", "web.shop"),
            Mapping("far.local-dev", "www.example.com"),
            Mapping("four.local-dev", "192.0.2.44"),
            Mapping("six.local-dev", "2001:db8::6"),
            Mapping("own.local-dev", "10.96.0.7"),
            Mapping("none.local-dev", "nope.shop"),
            Mapping("self.local-dev", "self.local-dev"),
            Mapping("round.local-dev", "about.local-dev"),
            Mapping("about.local-dev", "round.local-dev"),
            Mapping("twice.local-dev", "four.local-dev"),
            Mapping("web.shop.svc.cluster.local", "192.0.2.7"),
            Mapping("lonely", "192.0.2.8"),
        )
    ),
    namespaces=CONFIG.namespaces,
)
UPSTREAM = (Server(ip_address("9.9.9.9")),)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("db.local-dev", "A", "db.shop.svc.cluster.local., 10.244.0.21, 10.244.0.22, 10.244.0.24"),
        ("db.local-dev", "AAAA", "NODATA"),
        ("db.local-dev", "CNAME", "db.shop.svc.cluster.local."),
        ("x.db.local-dev", "A", "REFUSED"),
        ("db-0.db.local-dev", "A", "REFUSED"),
        ("WEB.Local-Dev", "A", "web.shop., 10.96.0.7"),
        ("far.local-dev", "A", "www.example.com."),
        ("far.local-dev", "TXT", "www.example.com."),
        ("four.local-dev", "A", "192.0.2.44"),
        ("four.local-dev", "AAAA", "NODATA"),
        ("four.local-dev", "TXT", "NODATA"),
        ("four.local-dev", "CNAME", "NODATA"),
        ("six.local-dev", "AAAA", "2001:db8::6"),
        ("six.local-dev", "A", "NODATA"),
        ("twice.local-dev", "A", "four.local-dev., 192.0.2.44"),
        ("none.local-dev", "A", "NODATA"),
        ("self.local-dev", "A", "NODATA"),
        ("round.local-dev", "A", "NODATA"),
        ("web.shop.svc.cluster.local", "A", "192.0.2.7"),
        ("web.shop.svc", "A", "10.96.0.7"),
        ("inside.shop", "A", "web.shop.svc.cluster.local., 192.0.2.7"),
        ("lonely", "A", "192.0.2.8"),
        ("lonely.shop.svc.cluster.local", "A", "192.0.2.8"),
        ("44.2.0.192.in-addr.arpa", "PTR", "four.local-dev."),
        ("44.2.0.192.in-addr.arpa", "A", "NODATA"),
        ("45.2.0.192.in-addr.arpa", "PTR", "REFUSED"),
        ("7.0.96.10.in-addr.arpa", "PTR", "web.shop.svc.cluster.local."),
        ("6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", "PTR", "six.local-dev."),
    ],
)
def test_mappings(name: str, kind: str, expected: str) -> None:
    found = ask(name, kind, INDEX, MAPPED)
    assert short(found) == expected
    assert found.elsewhere is None


def test_a_mapping_answers_srv_questions_as_its_target_does() -> None:
    found = ask("web.local-dev", "SRV", INDEX, MAPPED)
    direct = ask("web.shop", "SRV", INDEX, MAPPED)
    assert (found.answer[1:], found.additional) == (
        tuple(replace(each, owner=(b"web", b"shop")) for each in direct.answer),
        direct.additional,
    )


@pytest.mark.parametrize(
    ("name", "elsewhere", "alone"),
    [
        ("www.example.com", Elsewhere.UPSTREAM, "REFUSED"),
        ("wpad.shop", Elsewhere.UPSTREAM, "REFUSED"),
        ("far.local-dev", Elsewhere.UPSTREAM, "www.example.com."),
        ("outside.shop", Elsewhere.UPSTREAM, "db.Example.com."),
        ("9.2.0.192.in-addr.arpa", None, "NODATA"),  # a slice names this address
        ("10.2.0.192.in-addr.arpa", Elsewhere.UPSTREAM, "REFUSED"),
        ("web.shop", None, "10.96.0.7"),
        ("nope.shop", None, "NXDOMAIN"),
    ],
)
def test_what_others_are_asked(name: str, elsewhere: Elsewhere | None, alone: str) -> None:
    found = ask(name, "A", INDEX, replace(MAPPED, upstreams=UPSTREAM))
    assert (found.elsewhere, short(found)) == (elsewhere, alone)
    assert found.lasting == (elsewhere is None)


@pytest.mark.parametrize(
    ("name", "expected", "elsewhere"),
    [
        ("four.local-dev", "192.0.2.44", None),
        ("far.local-dev", "SERVFAIL", None),
        ("db.local-dev", "SERVFAIL", None),
        ("www.example.com", "SERVFAIL", None),
        ("www.excluded.test", "REFUSED", Elsewhere.UPSTREAM),
        ("wpad.shop", "REFUSED", Elsewhere.UPSTREAM),
        ("x.included.test", "SERVFAIL", None),
        ("web.shop", "SERVFAIL", None),
    ],
)
def test_before_the_cluster_is_listed(name: str, expected: str, elsewhere: Elsewhere | None) -> None:
    """Only what the settings alone decide is decided."""
    config = replace(
        MAPPED,
        namespaces=frozenset(),
        upstreams=UPSTREAM,
        includes=frozenset({("included", "test")}),
        excluded_suffixes=frozenset({("excluded", "test")}),
    )
    found = ask(name, "A", index_of((), synced=False), config)
    assert (short(found), found.elsewhere) == (expected, elsewhere)


@pytest.mark.parametrize(
    ("name", "elsewhere"), [("www.example.com", Elsewhere.UPSTREAM), ("x.included.test", None), ("web.shop", None)]
)
def test_a_process_that_was_started_again_knows_what_is_nobody_s(name: str, elsewhere: Elsewhere | None) -> None:
    """The namespaces come with the settings, and only from a complete list."""
    config = replace(MAPPED, upstreams=UPSTREAM, includes=frozenset({("included", "test")}))
    assert ask(name, "A", index_of((), synced=False), config).elsewhere == elsewhere


def test_included_names_are_the_clusters_where_the_watch_does_not_know_them() -> None:
    config = replace(MAPPED, includes=frozenset({("corp", "test"), ("shop",)}))
    for name, expected, elsewhere in (
        ("git.corp.test", "SERVFAIL", Elsewhere.CLUSTER),
        ("web.shop", "10.96.0.7", None),
        ("nope.shop", "SERVFAIL", Elsewhere.CLUSTER),
        ("nope.shop.svc", "NXDOMAIN", None),
    ):
        found = ask(name, "A", INDEX, config)
        assert (short(found), found.elsewhere) == (expected, elsewhere)


class TestPolicy:
    @pytest.mark.parametrize(
        ("backend", "nameservers", "setting", "expected"),
        [
            ("none", ["9.9.9.9", "127.0.0.53"], None, ["9.9.9.9:53", "127.0.0.53:53"]),
            ("systemd-resolved", ["9.9.9.9", "127.0.0.53", "127.0.0.54"], None, ["9.9.9.9:53"]),
            ("systemd-resolved", ["127.0.0.53"], None, []),
            ("none", ["198.18.53.1", "fe80::53", "2001:db8::53"], None, ["[2001:db8::53]:53"]),
            ("none", [], None, []),
            ("none", ["9.9.9.9"], (), []),
            ("none", ["9.9.9.9"], ("8.8.8.8", "127.0.0.1:5399"), ["8.8.8.8:53", "127.0.0.1:5399"]),
            ("none", [], ("[::1]:5399", "198.18.53.1", "198.18.53.1:54"), ["[::1]:5399", "198.18.53.1:54"]),
            ("none", [], ("9.9.9.9", "9.9.9.9:53"), ["9.9.9.9:53"]),
            ("none", ["fe80::53%eth0", "fe80::54"], None, ["[fe80::53%eth0]:53"]),
            ("none", [], ("fe80::53%eth0", "[fe80::53%eth1]:5399"), ["[fe80::53%eth0]:53", "[fe80::53%eth1]:5399"]),
        ],
    )
    def test_upstreams(
        self, backend: str, nameservers: list[str], setting: tuple[str, ...] | None, expected: list[str]
    ) -> None:
        capabilities = Capabilities(backend, nameservers=tuple(map(ip_address, nameservers)))
        assert list(map(str, configured(capabilities, upstreams=setting).upstreams)) == expected

    def test_everything_else_comes_from_the_settings(self) -> None:
        config = configured(ttl=7, pod_records="disabled", endpoint_pod_names=True, lookup_timeout=3.0)
        assert (config.ttl, config.pod_records, config.endpoint_pod_names) == (7, "disabled", True)
        assert (config.lookup_timeout, config.own_addresses) == (3.0, (SERVER.address,))
        assert config.namespaces == PLAN.namespaces
        assert config.ranges == CONFIG.ranges

    def test_suffixes_are_labels(self) -> None:
        config = configured(include_suffixes=(".corp.internal",))
        assert config.includes == {("corp", "internal")}
        assert ("com",) in config.excluded_suffixes
        assert claim_of(("x", "corp.internal"), config) == Claim()
