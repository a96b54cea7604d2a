"""From an address and a port to pods: what kube-proxy would do, and that changes leave no trace of what was."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverd.addresses import number_of
from resolverd.cluster.endpoints import Endpoint, Endpoints
from resolverd.cluster.objects import ClusterObject, EndpointPort, EndpointSlice, Service, ServicePort
from resolverd.cluster.snapshot import Change, Key, Kind, Snapshot, everything, fold, key_of
from resolverd.cluster.target import MAX_CANDIDATES, Refusal, Target, TargetIndex

WEB_IP, POD_1, POD_2, POD_3 = map(ip_address, ("10.96.0.7", "10.244.0.1", "10.244.0.2", "10.244.0.3"))
PORTS = (
    ServicePort("http", "TCP", 80, "web"),
    ServicePort("dns", "UDP", 53, 53),
    ServicePort("dns-tcp", "TCP", 53, 53),
)
WEB = Service("shop", "web", "ClusterIP", (str(WEB_IP), "fd00::7"), False, "", PORTS)


def endpoint(number: int, *, ready: bool = True, terminating: bool = False, pod: str | None = None) -> Endpoint:
    return Endpoint((f"10.244.0.{number}",), "", ready, terminating, f"web-{number}" if pod is None else pod)


def slice_of(*endpoints: Endpoint, name: str = "web-a", port: int | None = 8080, service: str = "web") -> EndpointSlice:
    ports = (EndpointPort("http", "TCP", port), EndpointPort("dns", "UDP", 53))
    return EndpointSlice("shop", name, service, Endpoints(endpoints), ports)


def index_of(*objects: ClusterObject) -> TargetIndex:
    kinds = {Service: Kind.SERVICE, EndpointSlice: Kind.SLICE}
    snapshot, touched = fold(Snapshot(), [Change(kinds[type(item)], key_of(item), item) for item in objects])
    index = TargetIndex()
    index.fold(snapshot, touched)
    return index


def web(number: int, port: int) -> Target:
    return Target("shop", f"web-{number}", port, f"10.244.0.{number}")


def pods(found: tuple[Target, ...] | Refusal) -> list[str]:
    assert not isinstance(found, Refusal), found.reason
    return [target.pod for target in found]


def test_a_cluster_ip_leads_to_the_port_of_the_same_name() -> None:
    index = index_of(WEB, slice_of(endpoint(1)))
    assert index.find(WEB_IP, 80) == (web(1, 8080),)
    assert index.find(ip_address("fd00::7"), 80) == (web(1, 8080),)
    assert index.find(WEB_IP, 53, "UDP") == (web(1, 53),)


def test_slices_may_number_a_named_port_differently() -> None:
    index = index_of(WEB, slice_of(endpoint(1)), slice_of(endpoint(2), name="web-b", port=9090))
    assert index.find(WEB_IP, 80) == (web(1, 8080), web(2, 9090))


def test_a_pod_in_the_slices_of_both_families_counts_once() -> None:
    newer = endpoint(1)._replace(addresses=("fd00:244::1",))
    assert pods(index_of(WEB, slice_of(endpoint(1)), slice_of(newer, name="web-6")).find(WEB_IP, 80)) == ["web-1"]


def test_turns_go_around() -> None:
    index = index_of(WEB, slice_of(endpoint(1), endpoint(2), endpoint(3)))
    firsts = [pods(index.find(WEB_IP, 80, turn=turn))[0] for turn in range(6)]
    assert firsts == ["web-1", "web-2", "web-3"] * 2
    assert pods(index.find(WEB_IP, 80, turn=1)) == ["web-2", "web-3", "web-1"]


def test_the_pod_asked_for_goes_first_while_it_is_one_of_them() -> None:
    index = index_of(WEB, slice_of(*(endpoint(n) for n in range(1, 100))))
    last = web(99, 8080)
    found = index.find(WEB_IP, 80, turn=3, first=last)
    assert pods(found)[:3] == ["web-99", "web-4", "web-5"]
    assert len(pods(found)) == MAX_CANDIDATES
    gone = web(100, 8080)
    assert pods(index.find(WEB_IP, 80, turn=3, first=gone))[0] == "web-4"


def test_a_pod_that_was_made_anew_is_another_one() -> None:
    anew = endpoint(1)._replace(addresses=("10.244.0.77",))
    assert index_of(WEB, slice_of(anew)).find(WEB_IP, 80) == (web(1, 8080)._replace(address="10.244.0.77"),)


def test_which_services_keep_their_clients() -> None:
    sticky = replace(WEB, session_affinity="ClientIP", affinity_seconds=60)
    index = index_of(sticky, slice_of(endpoint(1)))
    assert index.affinity(WEB_IP) == sticky
    assert index.affinity(POD_1) is None
    assert index_of(WEB).affinity(WEB_IP) is None


def test_the_ready_first_the_leaving_only_when_there_is_no_other() -> None:
    leaving = endpoint(2, ready=False, terminating=True)
    unready = endpoint(3, ready=False)
    assert pods(index_of(WEB, slice_of(endpoint(1), leaving, unready)).find(WEB_IP, 80)) == ["web-1"]
    assert pods(index_of(WEB, slice_of(leaving, unready)).find(WEB_IP, 80)) == ["web-2"]
    assert isinstance(index_of(WEB, slice_of(unready)).find(WEB_IP, 80), Refusal)


def test_of_the_leaving_only_those_that_serve() -> None:
    deaf = endpoint(1, ready=False, terminating=True)._replace(serving=False)
    assert isinstance(index_of(WEB, slice_of(deaf)).find(WEB_IP, 80), Refusal)
    leaving = endpoint(2, ready=False, terminating=True)
    assert pods(index_of(WEB, slice_of(deaf, leaving)).find(WEB_IP, 80)) == ["web-2"]


def test_who_is_ready_counts_although_it_terminates() -> None:  # publishNotReadyAddresses
    both = slice_of(endpoint(1, ready=True, terminating=True), endpoint(2, ready=False, terminating=True))
    assert pods(index_of(WEB, both).find(WEB_IP, 80)) == ["web-1"]


OUTSIDE = ip_address("203.0.113.9")
OVER_UDP = replace(slice_of(endpoint(1)), ports=(EndpointPort("http", "UDP", 8080),))
BALANCED = replace(WEB, external_addresses=(str(OUTSIDE),))


def test_an_address_from_outside_leads_where_the_cluster_itself_would_send_it() -> None:
    index = index_of(BALANCED, slice_of(endpoint(1)))
    assert index.find(OUTSIDE, 80) == (web(1, 8080),)
    assert index.is_alive(OUTSIDE)
    found = index.find(OUTSIDE, 30080)
    assert isinstance(found, Refusal)
    assert found.known


def test_an_address_from_outside_takes_nothing_from_the_cluster() -> None:
    thief = replace(WEB, namespace="evil", name="a", cluster_ips=(), external_addresses=(str(WEB_IP), str(POD_1)))
    theirs = replace(slice_of(endpoint(6), service="a"), namespace="evil")
    index = index_of(thief, theirs, WEB, slice_of(endpoint(1)))
    assert index.find(WEB_IP, 80) == (web(1, 8080),)
    assert index.find(POD_1, 80) == (web(1, 80),)


@pytest.mark.parametrize(
    ("objects", "port", "words", "known"),
    [
        ((), 80, "10.96.0.7 is no address of the cluster", False),
        ((WEB,), 81, "service shop/web has no TCP port 81", True),
        ((WEB,), 80, "are not ready, or there are none", True),
        ((WEB, slice_of(endpoint(1), port=None)), 80, "are not ready, or there are none", True),
        ((WEB, OVER_UDP), 80, "are not ready, or there are none", True),
        ((WEB, slice_of(endpoint(1, pod=""))), 80, "are no pods", True),
        ((WEB, slice_of(endpoint(1, pod="../secrets"))), 80, "are no pods", True),
        ((WEB, slice_of(endpoint(1))), 53, "are not ready, or there are none", True),
    ],
)
def test_refusals_say_why(objects: tuple[ClusterObject, ...], port: int, words: str, known: bool) -> None:
    found = index_of(*objects).find(WEB_IP, port)
    assert isinstance(found, Refusal)
    assert words in found.reason
    assert found.known is known


def test_a_pods_own_address_takes_any_port_ready_or_not() -> None:
    index = index_of(slice_of(endpoint(1, ready=False), endpoint(2, pod="")))
    assert index.find(POD_1, 4242) == (web(1, 4242),)
    assert isinstance(index.find(POD_2, 4242), Refusal)
    assert isinstance(index.find(POD_1, 4242, "UDP"), Refusal)
    assert isinstance(index.find(POD_3, 80), Refusal)


def test_pods_that_share_an_address_are_told_apart_by_their_ports() -> None:
    here = ("192.0.2.10",)
    first = slice_of(endpoint(1)._replace(addresses=here), name="a", port=9100, service="a")
    second = slice_of(endpoint(2)._replace(addresses=here), name="b", port=9200, service="b")
    index = index_of(first, second)
    assert pods(index.find(ip_address("192.0.2.10"), 9200)) == ["web-2", "web-1"]
    assert pods(index.find(ip_address("192.0.2.10"), 9100)) == ["web-1", "web-2"]
    unready = slice_of(endpoint(1, ready=False)._replace(addresses=here), name="a", port=9100, service="a")
    assert pods(index_of(unready, second).find(ip_address("192.0.2.10"), 9100)) == ["web-1", "web-2"]


def test_an_endpoint_cannot_take_a_cluster_ip() -> None:
    evil = replace(slice_of(endpoint(6)._replace(addresses=(str(WEB_IP),)), service="evil"), namespace="evil", name="x")
    assert index_of(evil, WEB, slice_of(endpoint(1))).find(WEB_IP, 80) == (web(1, 8080),)


def test_thousands_of_pods_are_not_all_handed_out() -> None:
    many = [endpoint(1)._replace(pod=f"web-{n}") for n in range(500)]
    assert len(pods(index_of(WEB, slice_of(*many)).find(WEB_IP, 80, turn=123))) == MAX_CANDIDATES


def test_an_echo_wants_something_ready() -> None:
    index = index_of(WEB, slice_of(endpoint(1), endpoint(2, ready=False)))
    assert [index.is_alive(a) for a in (WEB_IP, POD_1, POD_2, POD_3)] == [True, True, False, False]
    assert not index_of(WEB, slice_of(endpoint(2, ready=False))).is_alive(WEB_IP)


def test_dns_is_what_answers_at_port_53_over_udp_and_over_tcp() -> None:
    index = index_of(WEB, slice_of(endpoint(1)))
    assert [index.is_dns(address) for address in (WEB_IP, POD_1, POD_2)] == [True, False, False]
    for left_out in ("dns", "dns-tcp"):
        ports = tuple(port for port in WEB.ports if port.name != left_out)
        assert not index_of(replace(WEB, ports=ports)).is_dns(WEB_IP)


def test_texts_that_are_no_addresses_are_passed_over() -> None:
    odd = replace(WEB, cluster_ips=("nonsense", "fe80::1%eth0", str(WEB_IP)))
    index = index_of(odd, slice_of(endpoint(1)._replace(addresses=("", "10.244.0.1"))))
    assert set(index.owners) == {number_of(WEB_IP), number_of(POD_1)}
    assert pods(index.find(WEB_IP, 80)) == ["web-1"]


NAMES = st.sampled_from(["web", "api"])
SERVICES = st.builds(
    lambda name, numbers: replace(WEB, name=name, cluster_ips=tuple(f"10.96.0.{n}" for n in numbers)),
    NAMES,
    st.lists(st.integers(7, 9), max_size=2),
)
SLICES = st.builds(
    lambda name, service, numbers, ready: slice_of(
        *(endpoint(n, ready=ready) for n in numbers), name=name, service=service
    ),
    st.sampled_from("ab"),
    NAMES,
    st.lists(st.integers(1, 3), max_size=3),
    st.booleans(),
)
CHANGES = st.one_of(
    SERVICES.map(lambda item: Change(Kind.SERVICE, item.key, item)),
    SLICES.map(lambda item: Change(Kind.SLICE, item.key, item)),
    NAMES.map(lambda name: Change(Kind.SERVICE, ("shop", name), None)),
    st.sampled_from("ab").map(lambda name: Change(Kind.SLICE, ("shop", name), None)),
)


@given(st.lists(st.lists(CHANGES, max_size=4), max_size=8))
def test_what_was_updated_equals_what_is_made_anew(batches: list[list[Change]]) -> None:
    index, snapshot = TargetIndex(), Snapshot()
    for batch in batches:
        snapshot, touched = fold(snapshot, batch)
        index.fold(snapshot, touched)
        fresh = TargetIndex()
        fresh.fold(*fold(Snapshot(), everything(snapshot)))
        assert _as_sets(index) == _as_sets(fresh)
        for address in (*map(ip_address, ("10.96.0.7", "10.96.0.8", "10.96.0.9")), POD_1, POD_2, POD_3):
            assert index.find(address, 80) == fresh.find(address, 80)
            assert index.is_alive(address) == fresh.is_alive(address)


def _as_sets(index: TargetIndex) -> dict[int, set[Key]]:
    assert all(len(owners) == len(set(owners)) for owners in index.owners.values())
    return {address: set(owners) for address, owners in index.owners.items()}
