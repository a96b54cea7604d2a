"""Every rule about what a name has, as a table: the question, and what dig would show."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from dns_cluster import CONFIG, OBJECTS, SERIAL, ask, index_of, service, short, shown, shown_name

from resolverd.cluster.objects import Namespace
from resolverd.dns.records import Type
from resolverd.dns.rules import DnsConfig

INDEX = index_of()
ZONE = "cluster.local"
HTTPS, ANY, CAA, DS, MX = 65, 255, 257, 43, 15


def _targets(numbers: str, owner: str, *endpoints: str) -> str:
    return ", ".join(f"{numbers} {endpoint}.{owner}.shop.svc.{ZONE}." for endpoint in endpoints)


Cases = list[tuple[str, str | int, str]]

SERVICES: Cases = [
    ("web.shop.svc", "A", "10.96.0.7"),
    ("web.shop.svc", "AAAA", "NODATA"),
    ("web.shop.svc", HTTPS, "NODATA"),
    ("web.shop.svc", ANY, "NODATA"),
    ("web.shop.svc", "TXT", "NODATA"),
    ("web.shop.svc", "CNAME", "NODATA"),
    ("web.shop.svc", "SRV", "0 50 80 web.shop.svc.cluster.local., 0 50 9090 web.shop.svc.cluster.local."),
    ("_http._tcp.web.shop.svc", "SRV", "0 100 80 web.shop.svc.cluster.local."),
    ("_HTTP._TCP.Web.Shop.SVC", "SRV", "0 100 80 web.shop.svc.cluster.local."),
    ("http.tcp.web.shop.svc", "SRV", "0 100 80 web.shop.svc.cluster.local."),
    ("__http._tcp.web.shop.svc", "SRV", "NXDOMAIN"),
    ("_._.web.shop.svc", "SRV", "0 50 80 web.shop.svc.cluster.local., 0 50 9090 web.shop.svc.cluster.local."),
    ("_http._udp.web.shop.svc", "SRV", "NXDOMAIN"),
    ("_80._tcp.web.shop.svc", "SRV", "NXDOMAIN"),
    ("_http._tcp.web.shop.svc", "A", "10.96.0.7"),
    ("_http._tcp.web.shop.svc", "TXT", "NODATA"),
    ("_tcp.web.shop.svc", "SRV", "NODATA"),
    ("_udp.web.shop.svc", "A", "NXDOMAIN"),
    ("old.shop.svc", "A", "10.96.0.8"),
    ("old.shop.svc", "SRV", "0 100 80 old.shop.svc.cluster.local."),
    ("bare.shop.svc", "A", "10.96.0.11"),
    ("dual.shop.svc", "A", "10.96.0.9"),
    ("dual.shop.svc", "AAAA", "fd00:10:96::9"),
    ("dual.shop.svc", "SRV", "0 50 80 dual.shop.svc.cluster.local."),
    ("dns.shop.svc", "SRV", "0 33 53 dns.shop.svc.cluster.local., 0 33 80 dns.shop.svc.cluster.local."),
    ("nope.shop.svc", "A", "NXDOMAIN"),
    ("nope.shop.svc", HTTPS, "NXDOMAIN"),
    ("*.shop.svc", "A", "NXDOMAIN"),
    ("any.shop.svc", "A", "NXDOMAIN"),
    ("a.b.c.web.shop.svc", "A", "NXDOMAIN"),
    ("lost.deleted.svc", "A", "NXDOMAIN"),
]
HEADLESS: Cases = [
    ("db.shop.svc", "A", "10.244.0.21, 10.244.0.22, 10.244.0.24"),
    ("db.shop.svc", "AAAA", "NODATA"),
    ("db.shop.svc", "SRV", _targets("0 25 15432", "db", "db-0", "db-1", "10-244-0-24")),
    ("_pg._tcp.db.shop.svc", "A", "10.244.0.21, 10.244.0.22, 10.244.0.24"),
    ("_tcp.db.shop.svc", "A", "NODATA"),
    ("_x._tcp.db.shop.svc", "A", "NXDOMAIN"),
    ("db-0.db.shop.svc", "A", "10.244.0.21"),
    ("DB-0.db.shop.svc", "A", "10.244.0.21"),
    ("db-0.db.shop.svc", "AAAA", "NODATA"),
    ("db-1.db.shop.svc", "SRV", "0 100 15432 db-1.db.shop.svc.cluster.local."),
    ("db-2.db.shop.svc", "A", "NXDOMAIN"),
    ("10-244-0-24.db.shop.svc", "A", "10.244.0.24"),
    ("db-pod.db.shop.svc", "A", "NXDOMAIN"),
    ("10-244-0-21.db.shop.svc", "A", "NXDOMAIN"),
    ("10-244-0-11.web.shop.svc", "A", "10.244.0.11"),
    ("10-244-0-12.web.shop.svc", "SRV", "0 100 8080 10-244-0-12.web.shop.svc.cluster.local."),
    ("six.shop.svc", "A", "NODATA"),
    ("six.shop.svc", "AAAA", "fd00:244::, fd00:244::1"),
    ("fd00-244--0.six.shop.svc", "AAAA", "fd00:244::"),
    ("fd00-244--1.six.shop.svc", "AAAA", "fd00:244::1"),
    ("six.shop.svc", "SRV", _targets("0 50 8080", "six", "fd00-244--0", "fd00-244--1")),
    *((f"{name}.shop.svc", kind, "NXDOMAIN") for name in ("down", "nothing") for kind in ("A", "AAAA", "SRV", MX)),
    ("portless.shop.svc", "A", "10.244.0.41"),
    ("portless.shop.svc", "SRV", "NODATA"),
    ("_x._tcp.portless.shop.svc", "SRV", "NXDOMAIN"),
    ("portnull.shop.svc", "A", "10.244.0.42"),
    ("portnull.shop.svc", "SRV", "NODATA"),
    ("_x._tcp.portnull.shop.svc", "SRV", "NODATA"),
    ("_x._tcp.portnull.shop.svc", "A", "10.244.0.42"),
    ("twins.shop.svc", "A", "10.244.0.51, 10.244.0.52"),
    ("twins.shop.svc", "AAAA", "fd00:244::52"),
    ("twins.shop.svc", "SRV", _targets("0 25 5432", "twins", "one", "two", "both")),
    ("gone.shop.svc", "A", "NXDOMAIN"),
    ("left.gone.shop.svc", "A", "NXDOMAIN"),
]
ALIASES: Cases = [
    ("outside.shop.svc", "CNAME", "db.Example.com."),
    ("outside.shop.svc", "A", "db.Example.com."),
    ("outside.shop.svc", "AAAA", "db.Example.com."),
    *(("outside.shop.svc", kind, "NODATA") for kind in ("SRV", "TXT", HTTPS, MX)),
    ("inside.shop.svc", "CNAME", "web.shop.svc.cluster.local."),
    ("inside.shop.svc", "A", "web.shop.svc.cluster.local., 10.96.0.7"),
    ("inside.shop.svc", "AAAA", "NODATA"),
    ("twice.shop.svc", "A", "inside.shop.svc.cluster.local., web.shop.svc.cluster.local., 10.96.0.7"),
    ("far.shop.svc", "A", "outside.shop.svc.cluster.local., db.Example.com."),
    ("dangling.shop.svc", "A", "NODATA"),
    ("dangling.shop.svc", "CNAME", "nope.shop.svc.cluster.local."),
    *((f"{name}.shop.svc", "A", "NODATA") for name in ("itself", "ping", "pong")),
    ("hop0.shop.svc", "A", "NODATA"),
    ("hop1.shop.svc", "A", ", ".join([*(f"hop{n}.shop.svc.cluster.local." for n in range(2, 13)), "10.96.0.12"])),
    ("literal.shop.svc", "A", "NXDOMAIN"),
    ("literal.shop.svc", "CNAME", "NXDOMAIN"),
    ("_http._tcp.inside.shop.svc", "SRV", "NXDOMAIN"),
    ("x.inside.shop.svc", "A", "NXDOMAIN"),
]
TREE: Cases = [
    ("", "A", "NODATA"),
    ("", "TXT", "NODATA"),
    ("", DS, "NODATA"),
    ("", "SOA", f"ns.dns.{ZONE}. hostmaster.{ZONE}. {SERIAL} 5"),
    ("", "NS", f"ns.dns.{ZONE}."),
    ("svc", "A", "NODATA"),
    ("svc", "TXT", "NODATA"),
    ("svc", "SOA", "NODATA"),
    ("pod", "A", "NODATA"),
    ("shop.svc", "A", "NODATA"),
    ("empty.svc", "TXT", "NODATA"),
    ("deleted.svc", "A", "NXDOMAIN"),
    ("nowhere.svc", "SOA", "NXDOMAIN"),
    ("shop", "A", "NXDOMAIN"),
    ("web.shop", "A", "NXDOMAIN"),
    ("x", CAA, "NXDOMAIN"),
    ("dns-version", "TXT", "1.1.0"),
    ("dns-version", "A", "NODATA"),
    ("x.dns-version", "TXT", "NXDOMAIN"),
    ("dns", "A", "NODATA"),
    ("ns.dns", "A", "198.18.53.1"),
    ("ns.dns", "AAAA", "NODATA"),
    ("x.ns.dns", "A", "NXDOMAIN"),
    ("web.svc.svc", "A", "10.96.1.1"),
    ("web.pod.svc", "A", "10.96.1.2"),
    ("cluster.local.svc", "A", "10.96.1.3"),
    ("any.any.svc", "A", "10.96.1.4"),
]
PODS: Cases = [
    ("10-0-0-1.shop.pod", "A", "10.0.0.1"),
    ("10-0-0-1.shop.pod", "AAAA", "NODATA"),
    ("10-0-0-1.shop.pod", "SRV", "0 100 0 10-0-0-1.shop.pod.cluster.local."),
    ("x.10-0-0-1.shop.pod", "A", "10.0.0.1"),
    ("fd00--1.shop.pod", "AAAA", "fd00::1"),
    ("1-2-3--4.shop.pod", "AAAA", "1:2:3::4"),
    *((f"{label}.shop.pod", "A", "NXDOMAIN") for label in ("10-0-0-256", "10-0-0-01", "web", "10.0.0.1", "1-2-3")),
    ("10-0-0-1.nowhere.pod", "A", "NXDOMAIN"),
    ("shop.pod", "A", "NODATA"),
    ("nowhere.pod", "A", "NXDOMAIN"),
]


@pytest.mark.parametrize(("name", "kind", "expected"), SERVICES + HEADLESS + ALIASES + TREE + PODS)
def test_names_of_the_cluster(name: str, kind: str | int, expected: str) -> None:
    found = ask(f"{name}.{ZONE}" if name else ZONE, kind, INDEX)
    assert short(found) == expected
    assert found.authoritative
    negative = not found.answer
    assert [record.type for record in found.authority] == ([Type.SOA] if negative else [])


REVERSE: Cases = [
    ("7.0.96.10.in-addr.arpa", "PTR", "web.shop.svc.cluster.local."),
    ("7.0.96.10.IN-ADDR.arpa", "A", "NODATA"),
    ("21.0.244.10.in-addr.arpa", "PTR", "db-0.db.shop.svc.cluster.local."),
    ("11.0.244.10.in-addr.arpa", "PTR", "10-244-0-11.web.shop.svc.cluster.local."),
    ("51.0.244.10.in-addr.arpa", "PTR", "one.twins.shop.svc.cluster.local., two.twins.shop.svc.cluster.local."),
    ("23.0.244.10.in-addr.arpa", "PTR", "NXDOMAIN"),
    ("61.0.244.10.in-addr.arpa", "PTR", "left.gone.shop.svc.cluster.local."),
    ("62.0.244.10.in-addr.arpa", "PTR", "NXDOMAIN"),
    ("0.244.10.in-addr.arpa", "PTR", "NODATA"),
    ("99.244.10.in-addr.arpa", "PTR", "NXDOMAIN"),
    ("98.244.10.in-addr.arpa", "PTR", "NXDOMAIN"),
    ("97.244.10.in-addr.arpa", "PTR", "NXDOMAIN"),
    ("99.0.96.10.in-addr.arpa", "PTR", "NXDOMAIN"),
    ("x.7.0.96.10.in-addr.arpa", "PTR", "NXDOMAIN"),
    ("007.0.96.10.in-addr.arpa", "PTR", "NXDOMAIN"),
    ("244.10.in-addr.arpa", "SOA", f"ns.dns.244.10.in-addr.arpa. hostmaster.244.10.in-addr.arpa. {SERIAL} 5"),
    ("9.2.0.192.in-addr.arpa", "PTR", "far.stray.shop.svc.cluster.local."),
    (ip_address("fd00:10:96::9").reverse_pointer, "PTR", "dual.shop.svc.cluster.local."),
    ("surplus." + ip_address("fd00:10:96::9").reverse_pointer, "PTR", "dual.shop.svc.cluster.local."),
    (ip_address("fd00:10:96::a").reverse_pointer, "PTR", "NXDOMAIN"),
    (ip_address("fd00:10:96::a").reverse_pointer[2:], "PTR", "NODATA"),
    (ip_address("fd00:244::").reverse_pointer, "PTR", "fd00-244--0.six.shop.svc.cluster.local."),
]


@pytest.mark.parametrize(("name", "kind", "expected"), REVERSE)
def test_names_of_addresses(name: str, kind: str | int, expected: str) -> None:
    found = ask(name, kind, INDEX)
    assert short(found) == expected
    assert found.authoritative


def test_a_negative_reverse_answer_has_the_soa_of_the_zone_around_it() -> None:
    found = ask("99.0.244.10.in-addr.arpa", "PTR", INDEX)
    assert shown_name(found.authority[0].owner) == "244.10.in-addr.arpa."


NOBODYS = [
    *("", "x", "local", "arpa", "example.com", "notcluster.local", "web.dev", "db.rs"),
    *("10.in-addr.arpa", "ip6.arpa", "8.8.8.8.in-addr.arpa", "8.8.8.in-addr.arpa", "256.1.2.3.in-addr.arpa"),
    ip_address("2001:db8::1").reverse_pointer,
]


@pytest.mark.parametrize("name", NOBODYS)
def test_nobodys_names_are_refused_with_a_reason(name: str) -> None:
    found = ask(name, "A", INDEX)
    assert short(found) == "REFUSED"
    assert not found.authoritative
    assert not found.authority
    assert found.error is not None
    assert found.error.code == 20


SHORT = [
    (long.removesuffix(".svc"), kind, expected)
    for long, kind, expected in SERVICES + HEADLESS + ALIASES
    if long.endswith(".shop.svc")
]


@pytest.mark.parametrize(("name", "kind", "expected"), SHORT)
@pytest.mark.parametrize("suffix", ["", ".svc"])
def test_short_names_have_the_same_records_under_the_name_as_asked(
    name: str, kind: str | int, expected: str, suffix: str
) -> None:
    asked = name + suffix
    found = ask(asked, kind, INDEX)
    assert short(found) == expected
    if found.answer:
        assert shown_name(found.answer[0].owner) == f"{asked.lower()}."
    else:
        assert asked.lower().endswith(shown_name(found.authority[0].owner).removesuffix("."))


NAMESPACES = [
    *(("shop", "NODATA"), ("empty", "NODATA"), ("dev.svc", "NODATA"), ("svc", "NODATA"), ("nowhere.svc", "NXDOMAIN")),
    *(("web.dev.svc", "10.96.1.5"), ("any.any", "10.96.1.4"), ("nope.empty", "NXDOMAIN")),
]


@pytest.mark.parametrize(("name", "expected"), NAMESPACES)
def test_short_names_of_namespaces(name: str, expected: str) -> None:
    assert short(ask(name, "A", INDEX)) == expected


def test_srv_comes_with_the_addresses_of_its_targets() -> None:
    found = ask("dual.shop", "SRV", INDEX)
    assert [(shown_name(record.owner), shown(record)) for record in found.additional] == [
        ("dual.shop.svc.cluster.local.", "10.96.0.9"),
        ("dual.shop.svc.cluster.local.", "fd00:10:96::9"),
    ]
    both = [record for record in ask("twins.shop", "SRV", INDEX).additional if record.owner[0] == b"both"]
    assert [shown(record) for record in both] == ["10.244.0.52", "fd00:244::52"]


def test_times_to_live() -> None:
    found = ask("web.shop", "A", INDEX, replace(CONFIG, ttl=600))
    assert found.answer[0].ttl == 600
    assert ask("dns-version.cluster.local", "TXT", INDEX).answer[0].ttl == 28800
    soa = ask("nope.shop", "A", INDEX, replace(CONFIG, ttl=600)).authority[0]
    assert (soa.ttl, shown(soa).split()[-1]) == (300, "600")
    assert ask("nope.shop", "A", INDEX).authority[0].ttl == 5


def test_disabled_pod_records_do_not_exist() -> None:
    config = replace(CONFIG, pod_records="disabled")
    assert short(ask("10-0-0-1.shop.pod.cluster.local", "A", INDEX, config)) == "NXDOMAIN"
    assert short(ask("shop.pod.cluster.local", "A", INDEX, config)) == "NXDOMAIN"
    assert short(ask("pod.cluster.local", "A", INDEX, config)) == "NODATA"


def test_endpoints_named_after_their_pods() -> None:
    config = replace(CONFIG, endpoint_pod_names=True)
    assert short(ask("db-pod.db.shop", "A", INDEX, config)) == "10.244.0.24"
    assert short(ask("10-244-0-24.db.shop", "A", INDEX, config)) == "NXDOMAIN"
    assert short(ask("24.0.244.10.in-addr.arpa", "PTR", INDEX, config)) == "db-pod.db.shop.svc.cluster.local."


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "0.0.0.0", "::"])
def test_a_server_that_only_this_host_can_ask_has_no_name(address: str) -> None:
    config = replace(CONFIG, own_addresses=(ip_address(address),))
    assert short(ask("cluster.local", "NS", INDEX, config)) == "NODATA"
    assert short(ask("ns.dns.cluster.local", "A", INDEX, config)) == "NODATA"


def test_another_cluster_domain() -> None:
    config = replace(CONFIG, domain="k8s.example")
    assert short(ask("web.shop.svc.k8s.example", "A", INDEX, config)) == "10.96.0.7"
    assert short(ask("7.0.96.10.in-addr.arpa", "PTR", INDEX, config)) == "web.shop.svc.k8s.example."
    assert short(ask("web.shop.svc.cluster.local", "A", INDEX, config)) == "REFUSED"


UNKNOWN_YET = ["web.shop.svc.cluster.local", "nope.shop.svc", "web.shop", "7.0.96.10.in-addr.arpa", "x"]


@pytest.mark.parametrize("name", UNKNOWN_YET)
def test_nothing_is_denied_before_the_cluster_was_listed(name: str) -> None:
    found = ask(name, "A", index_of(OBJECTS[:9], synced=False), DnsConfig())
    assert short(found) == "SERVFAIL"
    assert found.error is not None
    assert found.error.code == 14


@pytest.mark.parametrize("name", ["", "svc.", "pod.", "dns-version."])
def test_what_every_cluster_has_is_answered_before_it_was_listed(name: str) -> None:
    assert short(ask(f"{name}{ZONE}", "A", index_of((), synced=False))) == "NODATA"


def test_case_is_folded_for_ascii_only() -> None:
    index = index_of([Namespace("shop"), service("kelvin", clusterIPs=["10.96.0.1"])])
    assert short(ask("KELVIN.shop", "A", index)) == "10.96.0.1"
    assert short(ask("\N{KELVIN SIGN}elvin.shop", "A", index)) == "NXDOMAIN"
