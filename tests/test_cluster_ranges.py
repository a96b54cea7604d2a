"""Ranges: what the cluster tells, and what is made of the addresses seen."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any, cast

import pytest

from resolverd.cluster import ranges
from resolverd.cluster.client import ApiClient, ApiError, Json
from resolverd.cluster.endpoints import Endpoint, Endpoints
from resolverd.cluster.objects import ClusterObject, EndpointSlice, Service
from resolverd.cluster.ranges import NODES, SERVICE_CIDRS, Seen, discover
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


def test_nobody_can_make_as_many_as_they_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "MOST", 2)
    many = service(*(f"fd00::{number:x}:0:1" for number in range(9)), "10.1.2.3", "10.1.3.4")
    assert len(seen(many)) == 2


def test_an_endpoint_that_is_no_pod_never_makes_a_range() -> None:
    assert seen(pod("10.1.2.3", name="")) == []


class Told:
    """An API server that has these objects and no others."""

    def __init__(self, cidrs: list[str], nodes: list[dict[str, Any]] | None) -> None:
        self.pages: dict[str, list[Json]] = {SERVICE_CIDRS: [{"spec": {"cidrs": cidrs}}]}
        if nodes is not None:
            self.pages[NODES] = [{"spec": spec} for spec in nodes]
        self.status = 403

    async def get(self, path: str) -> Json:
        if path not in self.pages:
            raise ApiError(path, "may not", status=self.status)
        return {"items": self.pages[path]}


async def found(cidrs: list[str], nodes: list[dict[str, Any]] | None) -> dict[str, str]:
    told = await discover(cast(ApiClient, Told(cidrs, nodes)))
    assert told.is_refused == (nodes is None)
    return {str(network): source for network, source in told.ranges.items()}


async def test_what_a_cluster_does_not_have_is_not_refused() -> None:
    old = Told([], [])
    del old.pages[SERVICE_CIDRS]
    old.status = 404
    assert not (await discover(cast(ApiClient, old))).is_refused


async def test_what_was_told_is_not_asked_for_again() -> None:
    server = Told(["10.96.0.0/16"], [{"podCIDR": "10.244.0.0/24"}])
    cidrs = server.pages.pop(SERVICE_CIDRS)
    first = await discover(cast(ApiClient, server))
    server.pages = {SERVICE_CIDRS: cidrs}  # nodes would now be refused
    second = await discover(cast(ApiClient, server), first)
    assert (list(map(str, first.ranges)), first.refused) == (["10.244.0.0/24"], {SERVICE_CIDRS})
    assert (list(map(str, second.ranges)), second.refused) == (["10.96.0.0/16", "10.244.0.0/24"], set())


async def test_each_range_has_its_source() -> None:
    nodes: list[dict[str, Any]] = [
        {"podCIDRs": ["10.244.1.0/24", "fd00:244::/64"], "podCIDR": "10.9.0.0/24"},
        {"podCIDR": "10.244.0.0/24"},
        {},
    ]
    assert await found(["10.96.0.0/16"], nodes) == {
        "10.96.0.0/16": "service-cidr",
        "10.244.0.0/24": "node",
        "10.244.1.0/24": "node",
        "fd00:244::/64": "node",
    }
    assert await found(["10.96.0.0/16"], None) == {"10.96.0.0/16": "service-cidr"}


async def test_what_cannot_be_a_cluster_s_range_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    told = ["0.0.0.0/0", "::/0", "128.0.0.0/1", "nonsense", "10.96.0.1/16", "10.0.0.0/8", "fd00::/32"]
    assert list(await found(told, [])) == ["10.0.0.0/8", "fd00::/32"]
    assert len(caplog.records) == 5
