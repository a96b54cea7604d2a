"""Host routes: which addresses may have one, when they come and when they go."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverd.host import HostRoutes
from resolverd.names import Address, Network
from resolverd_tunnel import host_routes
from resolverd_tunnel.host_routes import KEEP, RouteKeeper
from resolverd_tunnel.netlink import LOCAL, UNICAST, Route
from resolverd_tunnel.permits import Permits
from resolverd_tunnel.range_routes import pieces

OURS, OTHER = 7, 2
CLUSTER = HostRoutes((ip_network("10.96.0.0/16"), ip_network("fd00:10:96::/112")))
WEB, API, WEB6 = ip_address("10.96.0.7"), ip_address("10.96.0.8"), ip_address("fd00:10:96::7")


@dataclass
class FakeTable:
    """A routing table: longest prefix wins."""

    entries: list[Route] = field(default_factory=list)

    def add_routes(self, networks: Sequence[Network], ifindex: int) -> dict[Network, OSError]:
        failed: dict[Network, OSError] = {}
        for network in networks:
            if any(entry.network == network for entry in self.entries):
                failed[network] = OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            else:
                self.entries.append(Route(network, ifindex, UNICAST, gateway=False, ours=True))
        return failed

    def remove_routes(self, networks: Sequence[Network], ifindex: int) -> dict[Network, OSError]:
        failed: dict[Network, OSError] = {}
        for network in networks:
            kept = [entry for entry in self.entries if (entry.network, entry.ifindex) != (network, ifindex)]
            if len(kept) == len(self.entries):
                failed[network] = OSError(errno.ESRCH, os.strerror(errno.ESRCH))
            self.entries = kept
        return failed

    def main_routes(self) -> list[Route]:
        return list(self.entries)

    def match(self, addresses: Sequence[Address]) -> dict[Address, Route]:
        found = {}
        for address in addresses:
            fitting = [entry for entry in self.entries if address in entry.network]
            if fitting:
                found[address] = max(fitting, key=lambda entry: entry.network.prefixlen)
        return found

    def ours(self) -> set[str]:
        return {str(entry.network) for entry in self.entries if entry.ifindex == OURS}


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def table() -> FakeTable:
    return FakeTable([Route(ip_network("0.0.0.0/0"), OTHER, UNICAST, gateway=True)])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keeper(table: FakeTable, clock: Clock) -> RouteKeeper:
    made = RouteKeeper(table, OURS, clock)
    made.permit(CLUSTER)
    return made


@pytest.mark.parametrize(
    ("allowed", "never", "address", "reason"),
    [
        (["10.0.0.0/8"], [], "10.96.0.7", ""),
        (["10.0.0.0/8"], [], "11.0.0.1", "outside-cluster-ranges"),
        ([], [], "10.96.0.7", "outside-cluster-ranges"),
        (["10.0.0.0/8"], ["10.96.0.0/16"], "10.96.0.7", "never"),
        (["10.96.0.7/32"], ["10.96.0.0/16"], "10.96.0.7", ""),
        (["10.96.0.0/16"], ["10.96.0.0/16"], "10.96.0.7", "never"),
        (["10.96.0.0/16"], ["10.0.0.0/8"], "10.96.0.7", ""),
        (["fd00::/8"], ["fd00::7/128"], "fd00::7", "never"),
        (["fd00::/8"], ["10.0.0.0/8"], "fd00::8", ""),
        (["0.0.0.0/0"], [], "127.0.0.53", "loopback"),
        (["127.0.0.53/32"], [], "127.0.0.53", "loopback"),
        (["169.254.169.254/32"], [], "169.254.169.254", "link-local"),
        (["0.0.0.0/0"], [], "224.0.0.251", "multicast"),
        (["0.0.0.0/0"], [], "255.255.255.255", "broadcast"),
        (["0.0.0.0/0"], [], "0.0.0.0", "this-network"),
        (["::/0"], [], "::", "this-network"),
        (["::/0"], [], "::1", "loopback"),
        (["::/0"], [], "fe80::1", "link-local"),
        (["::/0"], [], "ff02::1", "multicast"),
    ],
)
def test_what_may_be_routed(allowed: list[str], never: list[str], address: str, reason: str) -> None:
    routes = HostRoutes(tuple(map(ip_network, allowed)), tuple((ip_network(text), "never") for text in never))
    assert Permits(routes).withheld(ip_address(address)) == reason


def test_a_held_address_is_routed_and_nothing_else(keeper: RouteKeeper, table: FakeTable) -> None:
    keeper.hold([WEB, WEB6, ip_address("192.0.2.1")])
    keeper.hold([WEB])
    assert table.ours() == {"10.96.0.7/32", "fd00:10:96::7/128"}
    assert keeper.skipped == {ip_address("192.0.2.1"): "outside-cluster-ranges"}


def test_what_was_held_before_it_was_known_what_may_be_routed(table: FakeTable, clock: Clock) -> None:
    keeper = RouteKeeper(table, OURS, clock)
    keeper.hold([WEB])
    assert not table.ours()
    assert not keeper.skipped
    keeper.permit(CLUSTER)
    assert table.ours() == {"10.96.0.7/32"}


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Route(ip_network("10.96.0.7/32"), OTHER, LOCAL, gateway=False), "own-address"),
        (Route(ip_network("10.96.0.0/24"), OTHER, UNICAST, gateway=False, direct=True), "own-subnet"),
        (Route(ip_network("10.0.0.0/8"), OTHER, UNICAST, gateway=False, direct=True), "own-subnet"),
        (Route(ip_network("10.0.0.0/8"), OTHER, UNICAST, gateway=False), ""),  # a VPN's
        (Route(ip_network("10.96.0.0/16"), OTHER, UNICAST, gateway=False), ""),
        (Route(ip_network("10.96.0.7/32"), 0, UNICAST, gateway=True), "foreign-route"),
        (Route(ip_network("10.96.0.7/32"), OTHER, UNICAST, gateway=True), "foreign-route"),
        (Route(ip_network("10.96.0.0/16"), OTHER, UNICAST, gateway=True), ""),
        (Route(ip_network("10.0.0.0/8"), 0, UNICAST, gateway=False), ""),
        (Route(ip_network("0.0.0.0/0"), OTHER, UNICAST, gateway=False), ""),
    ],
)
def test_what_the_host_is_joined_to_stays_its_own(
    keeper: RouteKeeper, table: FakeTable, entry: Route, reason: str
) -> None:
    table.entries.append(entry)
    keeper.hold([WEB])
    assert keeper.skipped.get(WEB, "") == reason
    assert keeper.owners == ({WEB: str(entry)} if reason else {})
    assert (table.ours() == {"10.96.0.7/32"}) is (reason == "")
    table.entries.remove(entry)
    keeper.tidy(lambda _: False)
    assert table.ours() == {"10.96.0.7/32"}
    assert not keeper.owners


def test_a_network_that_the_host_joins_later_gets_its_addresses_back(keeper: RouteKeeper, table: FakeTable) -> None:
    keeper.hold([WEB, WEB6])
    joined = Route(ip_network("10.96.0.0/24"), OTHER, UNICAST, gateway=False, direct=True)
    table.entries.append(joined)
    keeper.look()
    assert table.ours() == {"fd00:10:96::7/128"}
    assert keeper.skipped == {WEB: "own-subnet"}
    table.entries.remove(joined)
    keeper.look()
    assert table.ours() == {"10.96.0.7/32", "fd00:10:96::7/128"}


def test_the_reason_of_the_moment_is_told_and_no_earlier_owner(keeper: RouteKeeper, table: FakeTable) -> None:
    table.entries.append(Route(ip_network("10.96.0.0/24"), OTHER, UNICAST, gateway=False, direct=True))
    keeper.hold([WEB])
    assert keeper.not_routed()[0]["route"].startswith("10.96.0.0/24 dev ")
    keeper.permit(replace(CLUSTER, never=((ip_network(WEB), "gateway"),)))
    assert keeper.not_routed() == [{"net": str(WEB), "reason": "gateway"}]


WHOLE = HostRoutes((ip_network("10.96.0.0/30"), ip_network("10.97.0.0/16")), whole=True)


def test_whole_ranges_less_what_is_never_routed(keeper: RouteKeeper, table: FakeTable) -> None:
    keeper.permit(replace(WHOLE, never=((ip_network("10.96.0.1"), "api-server"), (ip_network("10.0.0.0/8"), "no"))))
    assert table.ours() == {"10.96.0.0/32", "10.96.0.2/31", "10.97.0.0/16"}
    keeper.hold([ip_address("10.97.0.9"), ip_address("10.96.0.1")])
    assert table.ours() == {"10.96.0.0/32", "10.96.0.2/31", "10.97.0.0/16"}
    assert keeper.skipped == {ip_address("10.96.0.1"): "api-server"}
    keeper.permit(HostRoutes((ip_network("10.97.0.0/16"),), whole=True))
    assert table.ours() == {"10.97.0.0/16"}
    keeper.permit(CLUSTER)
    assert table.ours() == {"10.96.0.1/32"}


def test_whole_ranges_beside_what_others_have_routed(keeper: RouteKeeper, table: FakeTable) -> None:
    same = Route(ip_network("10.97.0.0/16"), OTHER, UNICAST, gateway=True)
    inside = Route(ip_network("10.96.0.3/32"), OTHER, UNICAST, gateway=True)
    table.entries += [same, inside]
    keeper.permit(WHOLE)
    assert table.ours() == {"10.96.0.0/30"}
    assert [(str(kept.network), kept.reason, kept.route) for kept in keeper.kept] == [
        ("10.96.0.3/32", "foreign-route", inside),
        ("10.97.0.0/16", "foreign-route", same),
    ]
    table.entries[1:3] = [Route(ip_network("10.96.0.0/12"), OTHER, UNICAST, gateway=False, direct=True)]
    keeper.look()
    assert table.ours() == set()
    assert {kept.reason for kept in keeper.kept} == {"own-subnet"}
    table.entries.pop(1)
    keeper.look()
    assert table.ours() == {"10.96.0.0/30", "10.97.0.0/16"}
    table.entries[:] = [entry for entry in table.entries if entry.ifindex != OURS]  # somebody removed them
    keeper.look()
    assert table.ours() == {"10.96.0.0/30", "10.97.0.0/16"}


def test_whole_ranges_of_an_earlier_process_are_taken_over(table: FakeTable, clock: Clock) -> None:
    table.add_routes([ip_network("10.97.0.0/16"), ip_network("10.98.0.0/16")], OURS)
    keeper = RouteKeeper(table, OURS, clock)
    keeper.permit(WHOLE)
    assert table.ours() == {"10.96.0.0/30", "10.97.0.0/16"}


@given(
    st.lists(st.integers(0, 63), max_size=6), st.lists(st.tuples(st.integers(0, 63), st.integers(26, 32)), max_size=5)
)
def test_pieces_are_what_single_addresses_would_be(allowed: list[int], never: list[tuple[int, int]]) -> None:
    routes = HostRoutes(
        (ip_network("10.96.0.0/27"), *(ip_network(f"10.96.0.{n}") for n in allowed)),
        tuple((ip_network(f"10.96.0.{n}/{length}", strict=False), "never") for n, length in never),
    )
    routed = pieces(routes)
    for number in range(64):
        address = ip_address(f"10.96.0.{number}")
        assert any(address in network for network in routed) is (Permits(routes).withheld(address) == "")


def test_a_route_outlives_the_last_answer_for_a_while_and_any_connection(
    keeper: RouteKeeper, table: FakeTable, clock: Clock
) -> None:
    keeper.hold([WEB, API, WEB6])
    clock.now += KEEP - 1
    keeper.hold([API])
    clock.now += 2
    keeper.tidy(lambda address: address == WEB6)
    assert table.ours() == {"10.96.0.8/32", "fd00:10:96::7/128"}
    keeper.tidy(lambda _: False)
    assert table.ours() == {"10.96.0.8/32"}


def test_less_is_allowed_then_more_again(keeper: RouteKeeper, table: FakeTable) -> None:
    keeper.hold([WEB, API])
    keeper.permit(HostRoutes(CLUSTER.allowed, ((ip_network(WEB), "api-server"),)))
    assert table.ours() == {"10.96.0.8/32"}
    assert keeper.skipped == {WEB: "api-server"}
    keeper.permit(CLUSTER)
    assert table.ours() == {"10.96.0.7/32", "10.96.0.8/32"}
    assert not keeper.skipped


def test_routes_of_an_earlier_process_are_taken_over(table: FakeTable, clock: Clock) -> None:
    table.entries.append(Route(ip_network("198.18.53.1/32"), OURS, UNICAST, gateway=False))  # the kernel's
    table.add_routes([ip_network(WEB), ip_network("10.200.0.1")], OURS)
    keeper = RouteKeeper(table, OURS, clock)
    keeper.permit(CLUSTER)
    assert list(keeper.present) == [WEB]
    assert table.ours() == {"10.96.0.7/32", "198.18.53.1/32"}


def test_a_route_that_somebody_removed_comes_back(keeper: RouteKeeper, table: FakeTable) -> None:
    keeper.hold([WEB])
    table.remove_routes([ip_network(WEB)], OURS)
    keeper.tidy(lambda _: False)
    assert table.ours() == {"10.96.0.7/32"}


def test_there_is_an_upper_limit(keeper: RouteKeeper, table: FakeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_routes, "MOST", 2)
    keeper.hold([WEB])
    keeper.hold([API, WEB6])
    assert table.ours() == {"10.96.0.8/32", "fd00:10:96::7/128"}
