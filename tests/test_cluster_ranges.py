"""Ranges: what the cluster tells, and what is made of the addresses seen."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from resolverd.cluster.endpoints import Endpoint, Endpoints
from resolverd.cluster.objects import ClusterObject, EndpointSlice, Service
from resolverd.cluster.ranges import Seen
from resolverd.cluster.snapshot import Change, Kind, key_of


def seen(item: ClusterObject, *known: str) -> list[str]:
    one = Seen()
    one.look([Change(Kind.SERVICE, key_of(item), item), Change(Kind.SERVICE, ("a", "gone"), None)])
    return [str(net) for net in one.outside(tuple(map(ip_network, known)))]


def service(*addresses: str) -> Service:
    return Service("shop", "web", "ClusterIP", addresses, False, "", ())


def pod(address: str, name: str = "web-1") -> EndpointSlice:
    return EndpointSlice("shop", "web-x", "web", Endpoints([Endpoint((address,), "", True, False, name)]), ())


def test_the_blocks_around_services_and_pods() -> None:
    assert seen(service("10.96.3.4", "fd00:10:96::a:1")) == ["10.96.3.0/24", "fd00:10:96::a:0/112"]
    assert seen(pod("10.244.0.16")) == ["10.244.0.0/24"]
    assert seen(pod("100.64.9.1")) == ["100.64.9.0/24"]


def test_what_the_cluster_told_is_not_said_twice() -> None:
    assert seen(service("10.96.3.4", "fd00:10:96::1"), "10.96.0.0/12") == ["fd00:10:96::/112"]


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "255.255.255.255", "2606:4700::1", "::1",
     "fe80::1", "ff02::1", "::", "::ffff:8.8.8.8", "no address", "10.0.0.1/8", "fe80::1%eth0"],
)  # fmt: skip
def test_other_people_s_addresses_never_make_a_range(address: str) -> None:
    assert seen(pod(address)) == []
    assert seen(service(address)) == []


def test_an_endpoint_that_is_no_pod_never_makes_a_range() -> None:
    assert seen(pod("10.1.2.3", name="")) == []
