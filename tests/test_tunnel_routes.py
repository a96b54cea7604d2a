"""Routes on a real host: what is never taken from it, shown by the kernel's own answer to "where does this go"."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from commands import shell
from tunnel_rig import ALLOWED, NAME, Rig, rig

from resolverd.feed import Routable
from resolverd.host import Capabilities, HostRoutes
from resolverd.planned import ClusterFacts
from resolverd.routes import plan_routes
from resolverd.settings import TunnelSettings

pytestmark = pytest.mark.staged

GATEWAY = ip_address("10.96.66.1")
"""Inside the cluster's range, as after an unlucky choice of networks."""


@pytest.fixture
async def tunnel() -> AsyncIterator[Rig]:
    async with rig() as made, uplink():
        await made.start()
        yield made


@asynccontextmanager
async def uplink() -> AsyncIterator[None]:
    """A link with a subnet and a default gateway; another that somebody routes 10.0.0.0/8 to, as a VPN does."""
    await lines(
        "ip link add up0 type veth peer name far0",
        "ip link add vpn0 type veth peer name vpn1",
        "ip link set up0 up",
        "ip link set far0 up",
        "ip link set vpn0 up",
        "ip link set vpn1 up",
        "ip address add 10.96.66.2/24 dev up0",
        f"ip route add default via {GATEWAY} dev up0",
        "ip route add 10.0.0.0/8 dev vpn0",
    )
    try:
        yield
    finally:
        await lines("ip link del up0", "ip link del vpn0")


async def lines(*commands: str) -> None:
    for command in commands:
        done = await shell(command)
        assert done.code == 0, f"{command}: {done.err}"


async def device_to(address: object) -> str:
    """The device by which the kernel sends to ``address``."""
    words = (await shell(f"ip route get {address}")).out.split()
    return words[words.index("dev") + 1]


def planned(settings: TunnelSettings) -> HostRoutes:
    """As the daemon plans it here."""
    host = Capabilities(gateways=(GATEWAY,), nameservers=(ip_address("10.96.0.53"),))
    return plan_routes(settings, host, ClusterFacts("cluster.local", ALLOWED.allowed))[0]


async def told(tunnel: Rig, expected: dict[str, tuple[str, str]]) -> None:
    """Wait until ``status`` would say that exactly these are not routed, why, and whose they are."""

    def said(values: dict[str, Any]) -> dict[str, tuple[str, str]]:
        return {entry["net"]: (entry["reason"], entry.get("route", "")) for entry in values["not-routed"]}

    try:
        await tunnel.reported(lambda values: said(values) == expected)
    except AssertionError:
        assert said(tunnel.values) == expected


async def goes_to(device: str, *addresses: object) -> None:
    """Wait until the kernel sends to ``addresses`` by way of ``device``."""
    async with asyncio.timeout(10):
        while {await device_to(address) for address in addresses} != {device}:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("mode", ["resolved", "cidrs"])
async def test_an_endpoint_may_name_any_address_and_takes_none(tunnel: Rig, mode: str) -> None:
    wide = TunnelSettings(routes=mode, also_proxy=("8.8.0.0/16",), never_proxy=("8.8.8.8",))
    await tunnel.channel.send(Routable(planned(wide)))
    web = await tunnel.address("web")
    named = [ip_address(text) for text in ("8.8.8.8", "9.9.9.9", "169.254.169.254", "10.96.0.53", "10.96.66.77")]
    await tunnel.hold(GATEWAY, *named, ip_address("8.8.4.4"))
    subnet = ("own-subnet", "10.96.66.0/24 dev up0")
    await told(
        tunnel,
        {
            str(GATEWAY): ("gateway", ""),
            "8.8.8.8": ("never-proxy", ""),
            "9.9.9.9": ("outside-cluster-ranges", ""),
            "169.254.169.254": ("link-local", ""),
            "10.96.0.53": ("nameserver", ""),
            "10.96.66.77": subnet,
            **({"10.96.66.0/24": subnet} if mode == "cidrs" else {}),
        },
    )
    await goes_to(NAME, web, "8.8.4.4")
    await goes_to("up0", GATEWAY, "8.8.8.8", "9.9.9.9", "169.254.169.254", "10.96.66.77")
    await goes_to("vpn0", "10.96.0.53")


async def test_whole_ranges_come_and_go_with_the_setting(tunnel: Rig) -> None:
    await tunnel.channel.send(Routable(planned(TunnelSettings(routes="cidrs"))))
    await goes_to(NAME, "10.244.3.4")
    await tunnel.channel.send(Routable(planned(TunnelSettings())))
    await goes_to("vpn0", "10.244.3.4")


async def test_a_vpns_wide_route_leaves_us_our_addresses_and_we_leave_it_the_rest(tunnel: Rig) -> None:
    web = await tunnel.address("web")
    assert await device_to(web) == NAME
    assert await device_to(web + 1) == "vpn0"
    await lines(f"ip route add {web + 1}/32 dev vpn0 metric 99")
    await tunnel.hold(web + 1)
    assert await device_to(web + 1) == "vpn0"
    await told(tunnel, {str(web + 1): ("foreign-route", f"{web + 1}/32 dev vpn0")})


async def test_what_a_rule_of_others_decides_is_theirs(tunnel: Rig) -> None:
    web = await tunnel.address("web")
    await lines("ip route add 10.96.0.0/16 dev vpn0 table 52", "ip rule add to 10.96.0.0/16 lookup 52 pref 5270")
    try:
        await tunnel.hold(web + 1)
        await told(tunnel, {str(web + 1): ("foreign-route", "10.96.0.0/16 dev vpn0")})
        assert str(web + 1) not in (await shell(f"ip route show dev {NAME}")).out
    finally:
        await lines("ip rule del pref 5270")


async def test_a_link_that_joins_a_network_of_the_clusters_gets_it(tunnel: Rig) -> None:
    web = await tunnel.address("web")
    assert await device_to(web) == NAME
    await lines(f"ip address add {web + 1}/28 dev vpn0")
    await goes_to("vpn0", web)
    await lines(f"ip address del {web + 1}/28 dev vpn0")
    await goes_to(NAME, web)


async def test_never_follows_a_gateway_that_moves(tunnel: Rig) -> None:
    web = await tunnel.address("web")
    moved = replace(ALLOWED, never=((ip_network(web), "gateway"),))
    await tunnel.channel.send(Routable(moved))
    await goes_to("vpn0", web)
