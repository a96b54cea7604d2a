"""What may be routed into the tunnel, and what never is."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from resolverd.errors import UsageError
from resolverd.host import Capabilities, Server
from resolverd.planned import ClusterFacts
from resolverd.routes import FIXED, plan_routes
from resolverd.settings import TunnelSettings

FACTS = ClusterFacts("cluster.local", (ip_network("10.96.0.0/16"),))
HOST = Capabilities()


def test_the_clusters_ranges_and_also_proxy_may() -> None:
    settings = TunnelSettings(also_proxy=("192.168.7.9", "10.96.0.0/16", "fd00::/64"))
    routes, warnings = plan_routes(settings, HOST, FACTS)
    assert [str(network) for network in routes.allowed] == ["10.96.0.0/16", "192.168.7.9/32", "fd00::/64"]
    assert (routes.never, warnings) == (FIXED, ())


def test_what_keeps_the_host_alive_never_is() -> None:
    facts = replace(FACTS, api_servers=(ip_address("10.96.255.1"),), server=Server(ip_address("198.18.53.1")))
    host = replace(
        HOST,
        nameservers=(ip_address("10.96.255.1"), ip_address("9.9.9.9"), ip_address("fe80::53%eth0")),
        gateways=(ip_address("192.168.1.1"),),
    )
    routes, _ = plan_routes(TunnelSettings(never_proxy=("10.96.7.1/24",)), host, facts)
    assert [(str(network), reason) for network, reason in routes.never[len(FIXED) :]] == [
        ("10.96.255.1/32", "api-server"),
        ("198.18.53.1/32", "dns-server"),
        ("9.9.9.9/32", "nameserver"),
        ("fe80::53/128", "nameserver"),
        ("192.168.1.1/32", "gateway"),
        ("10.96.7.0/24", "never-proxy"),
    ]


def test_whole_ranges_and_where_each_network_comes_from() -> None:
    observed = ip_network("10.244.7.0/24")
    facts = replace(
        FACTS, ranges=(*FACTS.ranges, observed), sources=((FACTS.ranges[0], "node"), (observed, "observed"))
    )
    settings = TunnelSettings(routes="cidrs", also_proxy=("10.50.0.0/16", "127.0.0.1"))
    routes, _ = plan_routes(settings, HOST, facts)
    assert routes.whole
    assert not plan_routes(TunnelSettings(), HOST, facts)[0].whole
    assert [(str(network), source) for network, source in routes.sources] == [
        ("10.96.0.0/16", "node"),
        ("10.244.7.0/24", "observed"),
        ("10.50.0.0/16", "also-proxy"),
    ]


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("127.0.0.5", "loopback"),
        ("169.254.169.254", "link-local"),
        ("224.0.0.251", "multicast"),
        ("fe80::/64", "link-local"),
        ("::1", "loopback"),
    ],
)
def test_no_setting_routes_these(network: str, reason: str) -> None:
    routes, warnings = plan_routes(TunnelSettings(also_proxy=(network,)), HOST, FACTS)
    assert routes.allowed == FACTS.ranges
    assert warnings == (f"{ip_network(network)} is never routed: {reason}",)


def test_text_that_is_no_network_is_the_users_to_mend() -> None:
    with pytest.raises(UsageError, match=r"tunnel.never-proxy: 10.0.0.0/99 is no network \(write it as 10.1.0.0/16\)"):
        plan_routes(TunnelSettings(never_proxy=("10.0.0.0/99",)), HOST, FACTS)
