"""Where a host should send a name, and how a host that does something else is noticed."""

from __future__ import annotations

from typing import Any

import pytest
from decisions import SERVER, by_dns

from resolverd import why
from resolverd.departure import departure
from resolverd.host import Capabilities, HostDns, OtherLink
from resolverd.host_route import route_of
from resolverd.names import labels

TOLD = HostDns("resolverd0", (SERVER,), ("cluster.local", "svc", "shop"), ("shop.svc.cluster.local",))
VPN = Capabilities("systemd-resolved", other_links=(OtherLink("wg0", ("corp.shop", "vpn", "."), ("office.test",)),))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web.shop", (True, "resolverd0", "~shop")),
        ("web.workshop", (False, "", "")),
        ("web.shop.svc.cluster.local", (True, "resolverd0", "shop.svc.cluster.local")),
        ("db.dev.svc.cluster.local", (True, "resolverd0", "~cluster.local")),
        ("x.corp.shop", (False, "wg0", "~corp.shop")),
        ("x.vpn", (False, "wg0", "~vpn")),
        ("x.office.test", (False, "wg0", "~office.test")),
        ("www.example.com", (False, "", "")),
    ],
)
def test_the_link_with_the_longest_domain_is_asked(name: str, expected: tuple[bool, str, str]) -> None:
    route = route_of(labels(name), TOLD, VPN)
    assert (route.is_ours, route.link, route.domain) == expected
    assert route.servers == (("198.18.53.1:53",) if route.is_ours else ())


def test_an_overridden_resolver_asks_us_everything() -> None:
    whole = Capabilities("override", needs_link=False, takes_all=True)
    assert route_of(labels("www.example.com"), HostDns(servers=(SERVER,)), whole).is_ours
    assert not route_of(labels("web.shop"), HostDns(), whole).is_ours
    assert not route_of(labels("web.shop"), HostDns(), Capabilities()).is_ours


def explained(name: str, live: HostDns | None = TOLD, told: HostDns = TOLD) -> dict[str, Any]:
    host = why.HostSide("systemd-resolved", told, live, VPN, str(SERVER))
    return why.document(why.question_of(name), by_dns("shop", "rs", namespace="shop"), host)


def said(*addresses: str, rcode: str = "NOERROR") -> dict[str, Any]:
    return {"addresses": list(addresses), "aliases": [], "rcode": rcode}


def found(*addresses: str, link: str = "resolverd0", error: str = "", synthetic: bool = False) -> dict[str, Any]:
    return {"addresses": list(addresses), "link": link, "error": error, "synthetic": synthetic}


OURS, PUBLIC = "10.96.0.7", "203.0.113.1"


@pytest.mark.parametrize(
    ("name", "answer", "lookup", "expected"),
    [
        ("web.shop", said(OURS), found(OURS), ""),
        ("web.shop", said(OURS, "10.96.0.8"), found("10.96.0.8"), ""),
        ("nope.shop", said(rcode="NXDOMAIN"), found(link="", error="not found"), ""),
        ("web.shop", said(OURS), found(PUBLIC, link="eth0"), "asked eth0, and should have asked resolverd0"),
        ("web.shop", said(OURS), found(PUBLIC), "the host says 203.0.113.1, our server 10.96.0.7"),
        ("nope.shop", said(rcode="NXDOMAIN"), found(PUBLIC, link=""), "the host says 203.0.113.1, our server NXDOMAIN"),
        ("web.shop", said(OURS), found(link="", error="timed\nout"), "has 10.96.0.7, the host none: timed out"),
        ("web.shop", said(OURS), found("192.0.2.1", link="", synthetic=True), "192.0.2.1 by itself: see /etc/hosts"),
        ("web.shop", said(OURS), found(OURS, link="", synthetic=True), ""),
        ("docs.rs", None, found(PUBLIC, link="eth0"), ""),
        ("docs.rs", None, found(PUBLIC), "the host asked resolverd0, and should not have"),
        ("docs.rs", None, found("192.0.2.1", link="", synthetic=True), ""),
        ("wpad.shop", said(PUBLIC), found("203.0.113.9"), ""),
        ("x.vpn", None, found("192.0.2.1", link="wg0"), ""),
        ("x.vpn", None, found("192.0.2.1"), "the host asked resolverd0, and should not have"),
    ],
)
def test_departures(name: str, answer: dict[str, Any] | None, lookup: dict[str, Any], expected: str) -> None:
    departed = departure(explained(name), answer, lookup)
    assert departed.endswith(expected)
    assert bool(departed) == bool(expected)


def test_an_alias_leads_anywhere() -> None:
    answer = said() | {"aliases": ["www.example.com"]}
    assert not departure(explained("out.shop"), answer, found(PUBLIC))


@pytest.mark.parametrize(
    ("name", "told", "live", "expected"),
    [
        (
            "web.shop",
            TOLD,
            HostDns("resolverd0", (SERVER,), ("svc",)),
            "resolverd0 should have the domain ~shop, and has not",
        ),
        ("web.shop", TOLD, HostDns(), "resolverd0 should have the domain ~shop, and has not"),
        ("x.rs", TOLD, HostDns("resolverd0", (SERVER,), ("rs",)), "resolverd0 has the domain ~rs, and should not"),
        ("web.shop", TOLD, None, ""),
        ("x.rs", TOLD, HostDns("resolverd0", (SERVER,), ("svc",)), ""),
    ],
)
def test_domains_that_another_changed(name: str, told: HostDns, live: HostDns | None, expected: str) -> None:
    assert departure(explained(name, live, told), None, found(link="")) == expected
