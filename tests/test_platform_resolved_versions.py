"""The back end ``systemd-resolved`` with versions that lack methods, and with refusals of every kind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import ip_address

import pytest
from resolved_double import ResolvedDouble

from resolverd.errors import ExitCode, ResolverdError
from resolverd.host import HostDns, OtherLink, Server
from resolverd_platform.dbus import BusError, DeadlineError, NoBusError, RefusedError, Signal
from resolverd_platform.host_facts import HostFacts
from resolverd_platform.resolved import ResolvedBackend

LINK = "lo"
"""Any link that exists: nothing is done to it."""
WANT = HostDns(LINK, (Server(ip_address("198.18.53.1")),), ("cluster.local",), ("default.svc.cluster.local",))


def before(version: int) -> ResolvedDouble:
    came_with = {"SetLinkDNSEx": 246, "SetLinkDefaultRoute": 240, "SetLinkDNSOverTLS": 239}
    missing = frozenset(name for name, since in came_with.items() if version <= since)
    return ResolvedDouble(missing=missing, limit=32 if version <= 240 else 256)


@pytest.mark.parametrize(
    ("version", "missing"),
    [
        (247, []),
        (246, ["SetLinkDNSEx"]),
        (239, ["SetLinkDefaultRoute", "SetLinkDNSEx", "SetLinkDNSOverTLS"]),
    ],
)
async def test_what_a_version_lacks_is_noted_and_the_rest_is_set(version: int, missing: list[str]) -> None:
    bus = before(version)
    resolved = ResolvedBackend(LINK, bus)
    applied = await resolved.apply(WANT)
    assert applied.dns == WANT == await resolved.read()
    assert applied.notes == tuple(f"this systemd-resolved has no {method}" for method in missing)
    assert bus.link["LLMNR"] == bus.link["MulticastDNS"] == bus.link["DNSSEC"] == "no"


@pytest.mark.parametrize(("version", "limit"), [(247, 256), (240, 32)])
async def test_the_limit_is_found_by_what_the_version_can_do(version: int, limit: int) -> None:
    assert (await ResolvedBackend(LINK, before(version)).capabilities()).domain_limit == limit


async def test_a_limit_that_is_not_so_high_is_lowered_to_one_below_what_was_refused() -> None:
    bus = ResolvedDouble(limit=200)
    resolved = ResolvedBackend(LINK, bus)
    applied = await resolved.apply(replace(WANT, routing=tuple(f"ns-{number}" for number in range(255))))
    assert len(applied.dns.routing) == 31
    bus.link = {}
    assert (await resolved.capabilities()).domain_limit == 32


async def test_another_version_may_have_another_limit() -> None:
    bus = ResolvedDouble(limit=200)
    resolved = ResolvedBackend(LINK, bus)
    await resolved.apply(replace(WANT, routing=tuple(f"ns-{number}" for number in range(255))))
    bus.link = {}
    bus.to_signal.append(Signal("NameOwnerChanged", ("org.freedesktop.resolve1", "", ":1.7")))
    told = resolved.disturbances()
    assert await asyncio.wait_for(anext(told), 5) == "systemd-resolved was started"
    await told.aclose()
    assert (await resolved.capabilities()).domain_limit == 256


async def test_servers_that_another_link_gets_or_loses_are_a_disturbance_and_the_same_again_are_none() -> None:
    theirs, more = (7, 2, b"\x09\x09\x09\x09"), (8, 2, b"\x08\x08\x08\x08")
    bus = ResolvedDouble(link={"DNS": [theirs]})
    resolved = ResolvedBackend(LINK, bus, facts=lambda _: HostFacts())
    await resolved.capabilities()
    for servers in ([theirs], [theirs, more]):
        body: tuple[object, ...] = ("org.freedesktop.resolve1.Manager", {"DNS": servers}, [])
        bus.to_signal.append(Signal("PropertiesChanged", body))
    told = resolved.disturbances()
    assert await asyncio.wait_for(anext(told), 5) == "the DNS servers of another link were changed"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(told), 0.1)
    await told.aclose()


async def test_an_old_version_cannot_ask_another_port() -> None:
    want = replace(WANT, servers=(Server(ip_address("198.18.53.1"), 5300),))
    with pytest.raises(ResolverdError, match=r"before version 246 it asks port 53 only \(let the DNS server listen"):
        await ResolvedBackend(LINK, before(246)).apply(want)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (NoBusError("No such file"), ExitCode.HOST, "system bus: not reachable: No such file (start dbus"),
        (DeadlineError("no answer"), ExitCode.HOST, "systemd-resolved: no answer (systemctl restart"),
        (
            RefusedError("org.freedesktop.DBus.Error.AccessDenied", "Access denied"),
            ExitCode.NO_PERMISSION,
            "systemd-resolved: may not change link lo: Access denied (run as root, or allow",
        ),
        (
            RefusedError("org.freedesktop.DBus.Error.ServiceUnknown", ""),
            ExitCode.HOST,
            "systemd-resolved: not running (systemctl start systemd-resolved",
        ),
        (
            RefusedError("org.freedesktop.resolve1.LinkBusy", "Link lo is managed."),
            ExitCode.HOST,
            "link lo: another program manages it: Link lo is managed. (tell systemd-networkd",
        ),
        (
            RefusedError("org.freedesktop.DBus.Error.InvalidArgs", "Bad\nthing"),
            ExitCode.HOST,
            "systemd-resolved: Bad thing [org.freedesktop.DBus.Error.InvalidArgs]",
        ),
    ],
)
@pytest.mark.parametrize("member", ["GetLink", "SetLinkDefaultRoute", "SetLinkDNSEx", "SetLinkDomains", "FlushCaches"])
async def test_a_refusal_is_a_line_to_act_on(error: BusError, code: ExitCode, line: str, member: str) -> None:
    with pytest.raises(ResolverdError) as raised:
        await ResolvedBackend(LINK, ResolvedDouble(refuse={member: error})).apply(WANT)
    assert raised.value.code is code
    assert str(raised.value).startswith(line)


async def test_a_link_that_resolved_does_not_come_to_know_is_named() -> None:
    unknown = RefusedError("org.freedesktop.resolve1.NoSuchLink", "Link 1 not known")
    bus = ResolvedDouble(refuse={"GetLink": unknown, "RevertLink": unknown})
    with pytest.raises(ResolverdError, match="link lo: it does not exist"):
        await ResolvedBackend(LINK, bus).apply(WANT)
    await ResolvedBackend(LINK, bus).revert()


@pytest.mark.parametrize("link", [LINK, "absent0", ""])
async def test_search_domains_of_the_file_count_before_resolved_has_read_it(link: str) -> None:
    bus = ResolvedDouble(link={"Domains": [(0, "corp.example", False)], "DNS": []})
    by_hand = HostFacts(search=("office", "corp.example"))
    by_resolved = replace(by_hand, is_search_resolveds=True)
    found = await ResolvedBackend(link, bus, facts=lambda _: by_hand).capabilities()
    assert found.host_search == ("corp.example", "office")
    found = await ResolvedBackend(link, bus, facts=lambda _: by_resolved).capabilities()
    assert found.host_search == ("corp.example",)


@pytest.mark.parametrize("link", [LINK, "absent0", ""])
async def test_what_is_host_wide_is_not_ours_even_without_a_link(link: str) -> None:
    domains = [(0, "Corp.Example.", False), (0, "vpn.example", True), (1, "cluster.local", True)]
    servers = [(0, 2, b"\x09\x09\x09\x09"), (1, 2, b"\xc6\x12\x35\x01")]
    bus = ResolvedDouble(link={"Domains": domains, "DNS": servers})
    found = await ResolvedBackend(link, bus, facts=lambda _: HostFacts()).capabilities()
    ours = link == LINK
    assert found.host_search == ("corp.example",)
    assert found.other_links[0] == OtherLink("(host-wide)", ("vpn.example",))
    assert [other.routing for other in found.other_links[1:]] == ([] if ours else [("cluster.local",)])
    assert [str(address) for address in found.nameservers] == ["9.9.9.9", "198.18.53.1"][: 1 if ours else 2]
