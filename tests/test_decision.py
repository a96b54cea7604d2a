"""Whose a name is and by which rule: the table, a second reading of the rules, and what never changes."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
import yaml
from decisions import by_dns, decider
from hypothesis import given
from hypothesis import strategies as st

from resolverd.decision import Answerer, Decider, answerer_of
from resolverd.dns.claims import claim_of
from resolverd.dns.rules import Labels
from resolverd.names import is_under, labels
from resolverd.reasons import changes, document
from resolverd.settings import DnsSettings, HostSettings, Mapping, Settings

DEFAULT = DnsSettings().exclude_suffixes


def shown(one: Decider, name: str) -> str:
    """``ANSWERER by RULE TEXT``."""
    decision = one.decide(labels(name))
    return f"{decision.answerer} by {decision.rule.kind} {decision.rule.text}".rstrip()


@pytest.mark.parametrize(
    ("name", "include", "exclude", "expected"),
    [
        # Telepresence's own cases (kubeconfig_extension_test.go, Test_DNSSuffixRules).
        ("zwslkjsdf.com", [], DEFAULT, "normal-resolver by exclude-suffix .com"),
        ("zwslkjsdf.xnrqj", [], DEFAULT, "normal-resolver by none"),
        ("zwslkjsdf.xnrqj", [".xnrqj"], DEFAULT, "cluster-dns by include-suffix .xnrqj"),
        ("zwslkjsdf.org", [".org"], DEFAULT, "cluster-dns by include-suffix .org"),
        ("zwslkjsdf.my-domain.org", [".my-domain.org"], DEFAULT, "cluster-dns by include-suffix .my-domain.org"),
        (
            "zwslkjsdf.my-domain.org",
            [".org"],
            [".com", ".my-domain.org"],
            "normal-resolver by exclude-suffix .my-domain.org",
        ),
        # A suffix is labels, there letters: `db` took `www.mongodb`, `rs` took `x.bars`, `private` took `notprivate`.
        ("www.mongodb", [], [], "normal-resolver by none"),
        ("x.bars", [], [], "normal-resolver by none"),
        ("www.db", [], [], "resolverd by namespace db"),
        ("notprivate", [".private"], [], "normal-resolver by none"),
        ("x.notprivate", [".private"], [], "normal-resolver by none"),
        ("x.private", [".private"], [], "cluster-dns by include-suffix .private"),
        # The longest decides, there the first in the list.
        ("x.a.b", [".b"], [".b", ".a.b"], "normal-resolver by exclude-suffix .a.b"),
        ("x.a.b", [".b"], [".a.b", ".b"], "normal-resolver by exclude-suffix .a.b"),
        # Of those as long, the include.
        ("x.a.b", [".a.b"], [".b", ".a.b"], "cluster-dns by include-suffix .a.b"),
        # The cluster's own.
        ("web.db", [], [".db"], "normal-resolver by exclude-suffix .db"),
        ("web.db.svc", [], DEFAULT, "resolverd by svc svc"),
        ("web.db.svc.cluster.local", [".local"], [".local"], "resolverd by cluster-domain cluster.local"),
        (
            "web.db.svc.cluster.local",
            [],
            [".db.svc.cluster.local"],
            "normal-resolver by exclude-suffix .db.svc.cluster.local",
        ),
        ("7.0.96.10.in-addr.arpa", [], [], "resolverd by reverse-zone 10.96.0.0/16"),
        ("7.0.97.10.in-addr.arpa", [], [], "normal-resolver by none"),
        ("wpad.db", [], [], "normal-resolver by wpad wpad.*"),
        ("wpad.db.svc.cluster.local", [".local"], [], "normal-resolver by wpad wpad.*"),
        ("docs.rs", [], [], "normal-resolver by withheld rs"),
        ("x.docs.rs", [".docs.rs"], [], "cluster-dns by include-suffix .docs.rs"),
        ("x.corp.db", [".corp.db"], [], "resolverd by include-suffix .corp.db"),
        ("x.db", [".db"], [".db"], "resolverd by include-suffix .db"),
        ("x.db.svc", [".db.svc"], [], "resolverd by svc svc"),
        ("web.db.svc.cluster.local", [".db.svc.cluster.local"], [], "resolverd by cluster-domain cluster.local"),
    ],
)
def test_the_rule_that_decides(name: str, include: list[str], exclude: list[str], expected: str) -> None:
    one = by_dns("db", "rs", include_suffixes=tuple(include), exclude_suffixes=tuple(exclude))
    assert shown(one, name) == expected


def test_a_search_domain_passes_the_filter_too() -> None:
    """There the context's namespace stayed a search domain, and with it a routing domain, though it was excluded."""
    one = by_dns("dev", namespace="dev", exclude_suffixes=(".dev",))
    told = one.policy.plan.dns
    assert "dev" not in (*told.routing, *told.search)
    assert shown(one, "web") == "resolverd by search dev.svc.cluster.local"
    assert shown(one, "public.dev") == "normal-resolver by exclude-suffix .dev"
    assert document(one.decide(labels("public.dev")), one)["still"] == [
        "public.dev.svc.cluster.local",
        "public.dev.svc",
        "public",
    ]


def rule_of(settings: Settings, name: str, **policy: Any) -> tuple[str, str]:
    """What decides and where it comes from, in a cluster with the namespace db; every setting has its own origin."""
    listed = {f"dns.search[{number}]": f"search:{number}" for number in range(3)}
    written = {name: f"file:{name}" for name in ("cluster.ranges", "cluster.domain", "host.route-namespaces")}
    one = decider(settings, "db", origins=listed | written)
    rule = Decider(replace(one.policy, **policy)).decide(labels(name)).rule
    return f"{rule.kind} {rule.text}", rule.origin


def test_a_rule_comes_from_whoever_says_so() -> None:
    usual, name = Settings(), "web.db.svc.cluster.local"
    domain = "cluster-domain cluster.local"
    assert rule_of(usual, name) == (domain, "ConfigMap kube-system/coredns")
    assert rule_of(usual, name, domain_source="cluster.domain") == (domain, "file:cluster.domain")
    assert rule_of(usual, name, domain_source="assumed") == (domain, "default, the cluster does not say")
    lean = Settings(host=HostSettings(route_namespaces=False))
    assert rule_of(lean, "web.db") == ("route-namespaces db", "file:host.route-namespaces")
    assert rule_of(lean, "web.db.svc")[0] == "none "
    one = decider(lean, "db")
    assert "host.route-namespaces is false" in document(one.decide(labels("web.db")), one)["reason"]
    searching = Settings(dns=DnsSettings(search=("no.namespace", "later")))
    assert rule_of(searching, "web") == ("search later.svc.cluster.local", "search:1")


def test_a_reverse_zone_is_the_narrowest_range_around_the_address() -> None:
    config = decider(Settings(), "db").policy.config
    ranges = tuple(map(ip_network, ("10.96.0.0/12", "10.96.0.0/16", "10.97.0.0/16", "fd00::/16")))
    nested = {"config": replace(config, ranges=ranges)}
    assert rule_of(Settings(), "7.0.96.10.in-addr.arpa", **nested) == (
        "reverse-zone 10.96.0.0/16",
        "file:cluster.ranges",
    )
    assert rule_of(Settings(), "7.0.98.10.in-addr.arpa", **nested)[0] == "reverse-zone 10.96.0.0/12"
    assert rule_of(Settings(), "1.0.d.f.ip6.arpa", **nested)[0] == "none "
    assert rule_of(Settings(), "0.0.d.f.ip6.arpa", **nested)[0] == "reverse-zone fd00::/16"
    one = decider(Settings(), "db")
    decision = one.decide(labels("7.0.96.10.in-addr.arpa"))
    assert (decision.rule.origin, decision.answerer) == ("the cluster", Answerer.RESOLVERD)
    partly = Decider(replace(one.policy, config=replace(config, watched=frozenset({"db"}))))
    assert partly.decide(decision.name).answerer is Answerer.CLUSTER_DNS, "it may be an address of another namespace"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.a.b.c", "dns.include-suffixes: [.a.b.c]"),
        ("a.b.c", "dns.include-suffixes: [.a.b.c]"),
        ("x.y.z", "dns.include-suffixes: [.y.z]"),
        ("y.z", "dns.include-suffixes: [.y.z]"),
        ("wpad.y.z", "dns.mappings: [{name: wpad.y.z, alias-for: NAME}]"),
    ],
)
def test_the_setting_that_would_change_it(name: str, expected: str) -> None:
    one = by_dns("db", exclude_suffixes=(".a.b.c",))
    assert [str(change) for change in changes(one.decide(labels(name)), one)] == [expected]


def test_what_is_not_known_is_not_said() -> None:
    one = by_dns("db")
    partly = Decider(replace(one.policy, is_complete=False))
    said = [document(each.decide(labels("www.x")), each) for each in (one, partly)]
    assert [item["complete"] for item in said] == [True, False]
    assert "no rule matches: no namespace" in said[0]["reason"]
    assert "what the cluster has is not known" in said[1]["reason"]


def test_no_setting_takes_a_namespace_that_has_no_name_for_the_host() -> None:
    one = by_dns("_tcp")
    decision = one.decide(labels("web._tcp"))
    assert (decision.rule.kind, list(changes(decision, one))) == ("withheld", [])
    assert document(decision, one)["withheld"] == "invalid-name"


def test_single_labels_where_the_host_searches_nothing() -> None:
    one = by_dns("db", namespace="db")
    assert shown(one, "web") == "resolverd by search db.svc.cluster.local"
    without = Decider(replace(one.policy, searched=()))
    assert shown(without, "web") == "normal-resolver by none"
    assert "single label" in document(without.decide(labels("web")), without)["reason"]


def test_mappings_are_above_all() -> None:
    one = by_dns(
        "db",
        namespace="db",
        mappings=(Mapping("wpad.db", "192.0.2.1"), Mapping("x.com", "web.db"), Mapping("own", "192.0.2.2")),
        excludes=("x.com", "gone.db", "gone"),
        exclude_suffixes=(".com", ".x.com"),
    )
    assert shown(one, "wpad.db") == "resolverd by mapping wpad.db"
    assert shown(one, "x.com") == "resolverd by mapping x.com"
    assert shown(one, "own") == "resolverd by mapping own"
    assert shown(one, "y.x.com") == "normal-resolver by exclude-suffix .x.com"
    assert shown(one, "gone.db") == "normal-resolver by excludes gone.db"
    assert shown(one, "gone") == "normal-resolver by excludes gone"


# A second reading.

_LABEL = st.sampled_from(["a", "b", "ab", "svc", "wpad", "cluster", "local", "com"])
_NAMES = st.lists(_LABEL, min_size=2, max_size=5).map(".".join)
_SUFFIXES = st.lists(_LABEL, min_size=1, max_size=3).map(lambda parts: "." + ".".join(parts))
_RULES = st.fixed_dictionaries(
    {
        "include_suffixes": st.lists(_SUFFIXES, max_size=4).map(tuple),
        "exclude_suffixes": st.lists(_SUFFIXES, max_size=4).map(tuple),
        "excludes": st.lists(_NAMES, max_size=2).map(tuple),
        "mappings": st.lists(_NAMES.map(lambda name: Mapping(name, "192.0.2.1")), max_size=2).map(tuple),
    }
)
_NAMESPACES = st.frozensets(st.sampled_from(["a", "b", "ab", "wpad"]))


def naive(name: str, zones: list[str], rules: dict[str, Any]) -> Answerer:
    """By text and one big ranking, as the documentation has it."""
    if name in [each.name for each in rules["mappings"] if isinstance(each, Mapping)]:
        return Answerer.RESOLVERD
    if name.startswith("wpad.") or name in rules["excludes"]:
        return Answerer.NORMAL

    def matching(suffixes: list[str], rank: int) -> list[tuple[int, int]]:
        return [(each.count("."), rank) for each in suffixes if f".{name}".endswith(each)]

    own = matching(zones, 0)
    includes = matching([str(each) for each in rules["include_suffixes"]], 2)
    excludes = matching([str(each) for each in rules["exclude_suffixes"]], 1)
    _, winner = max([*own, *includes, *excludes], default=(0, 1))
    if winner == 1:
        return Answerer.NORMAL
    return Answerer.RESOLVERD if own else Answerer.CLUSTER_DNS


@given(_NAMES, _NAMESPACES, _RULES)
def test_it_is_what_another_reading_of_the_rules_says(
    name: str, namespaces: frozenset[str], rules: dict[str, Any]
) -> None:
    one = by_dns(*namespaces, **rules)
    zones = [".cluster.local", ".svc", *(f".{each}" for each in one.policy.plan.namespaces)]
    assert one.decide(labels(name)).answerer == naive(name, zones, rules)


@given(_NAMES, _NAMESPACES, _RULES)
def test_it_is_the_decision_of_the_dns_server(name: str, namespaces: frozenset[str], rules: dict[str, Any]) -> None:
    one = by_dns(*namespaces, **rules)
    decision = one.decide(labels(name))
    assert decision.claim == claim_of(labels(name), one.policy.config)
    assert decision.answerer == answerer_of(decision.claim)
    rule = decision.rule
    assert (rule.kind in ("exclude-suffix", "excludes", "wpad", "none", "withheld")) == (
        decision.answerer is Answerer.NORMAL
    )
    if rule.kind in ("include-suffix", "exclude-suffix", "namespace", "none", "withheld"):
        assert all(other.length <= rule.length for other in one.overruled(decision))
    assert document(decision, one)["reason"]


_ODD = st.one_of(
    st.lists(st.one_of(_LABEL, st.text(min_size=1, max_size=3)), max_size=4).map(tuple),
    st.lists(st.sampled_from(["7", "0", "96", "10", "256", "x"]), max_size=6).map(
        lambda parts: (*parts, "in-addr", "arpa")
    ),
    st.lists(st.sampled_from("0adx"), max_size=34).map(lambda parts: (*parts, "ip6", "arpa")),
)


@given(_ODD, _NAMESPACES, _RULES, st.sampled_from([None, frozenset(), frozenset({"a"})]), st.booleans())
def test_every_name_has_its_rule_and_its_words(
    name: Labels, namespaces: frozenset[str], rules: dict[str, Any], watched: frozenset[str] | None, searches: bool
) -> None:
    one = by_dns(*namespaces, namespace="a" if searches else "", **rules)
    if watched is not None:
        one = Decider(replace(one.policy, config=replace(one.policy.config, watched=watched)))
    decision = one.decide(name)
    assert decision.claim == claim_of(decision.asked, one.policy.config)
    assert decision.asked[: len(name)] == name
    shown = document(decision, one)
    assert shown["reason"]
    assert shown["rule"]["origin"]


_ADDED = st.one_of(
    st.tuples(st.sampled_from(["include_suffixes", "exclude_suffixes"]), _SUFFIXES),
    st.tuples(st.sampled_from(["excludes", "mappings"]), _NAMES),
    st.tuples(st.sampled_from(["allow_collisions", "namespaces"]), _LABEL),
)


@given(st.lists(_LABEL, min_size=1, max_size=5).map(".".join), _NAMESPACES, _RULES, _ADDED)
def test_a_rule_changes_nothing_outside_its_suffix(
    name: str, namespaces: frozenset[str], rules: dict[str, Any], added: tuple[str, str]
) -> None:
    setting, text = added
    more, changed = {*namespaces}, dict(rules)
    if setting == "namespaces":
        more.add(text)
    else:
        changed[setting] = (*rules.get(setting, ()), Mapping(text, "192.0.2.1") if setting == "mappings" else text)
    before = by_dns(*namespaces, namespace="a", **rules).decide(labels(name))
    after = by_dns(*more, namespace="a", **changed).decide(labels(name))
    touched = labels(text.removeprefix("."))
    if setting == "namespaces" and text == "a" and len(before.name) == 1:
        return  # the namespace that is searched for single labels comes into being
    if not any(is_under(each, touched) for each in (before.name, before.asked)):
        assert before == after


@given(_NAMES, _NAMESPACES, _RULES)
def test_what_is_said_to_change_it_does(name: str, namespaces: frozenset[str], rules: dict[str, Any]) -> None:
    one = by_dns(*namespaces, **rules)
    decision = one.decide(labels(name))
    for change in changes(decision, one):
        changed = dict(rules)
        field = change.setting.removeprefix("dns.").replace("-", "_")
        listed: tuple[Any, ...] = changed.get(field, ())
        if change.drop:
            item = change.item
            changed[field] = tuple(each for each in listed if getattr(each, "name", each) != item)
        elif field == "mappings":
            changed[field] = (*listed, Mapping(yaml.safe_load(change.item)["name"], "192.0.2.1"))
        else:
            changed[field] = (*listed, yaml.safe_load(change.item))
        assert by_dns(*namespaces, **changed).decide(labels(name)).rule != decision.rule
