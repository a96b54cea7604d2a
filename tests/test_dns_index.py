"""Who has an address, after any number of changes: always what a fresh look at the Snapshot says."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from resolverd.addresses import number_in, number_of, plain_address
from resolverd.cluster.endpoints import Endpoint, Endpoints
from resolverd.cluster.objects import EndpointSlice, Service
from resolverd.cluster.snapshot import Change, Kind, Snapshot, fold
from resolverd.dns.index import RecordIndex

TEXTS = st.sampled_from(
    ["10.1.2.3", "10.1.2.4", "10.1.9.3", "172.16.0.1", "fd00::1", "fd00::1:1", "::ffff:10.1.2.3", "?"]
)
NETWORKS = [
    ip_network(text)
    for text in (
        *("10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "10.1.9.0/24", "10.1.3.0/24", "172.0.0.0/8", "10.2.0.0/16"),
        *("f000::/4", "fd00::/8", "fd00::/108", "fd00::/112", "fd00::1:0/112", "fd00::/124", "fd00::10/124", "::/4"),
    )
]
NAMES = st.sampled_from(["a", "b", "c"])
SERVICES = st.builds(
    lambda name, ips: Service("shop", name, "ClusterIP", tuple(ips), False, "", ()), NAMES, st.lists(TEXTS, max_size=2)
)
SLICES = st.builds(
    lambda name, service, rows: EndpointSlice(
        "shop", name, service, Endpoints(Endpoint((text,), "", ready, False, "") for text, ready in rows), ()
    ),
    NAMES,
    st.sampled_from(["a", "b", ""]),
    st.lists(st.tuples(TEXTS, st.booleans()), max_size=3),
)
CHANGES = st.one_of(
    SERVICES.map(lambda item: Change(Kind.SERVICE, item.key, item)),
    SLICES.map(lambda item: Change(Kind.SLICE, item.key, item)),
    st.builds(
        lambda kind, name: Change(kind, ("shop", name), None), st.sampled_from([Kind.SERVICE, Kind.SLICE]), NAMES
    ),
)


@given(st.lists(st.lists(CHANGES, max_size=4), max_size=6))
def test_an_index_that_followed_changes_knows_what_a_fresh_one_does(batches: list[list[Change]]) -> None:
    index, snapshot = RecordIndex(), Snapshot()
    for batch in batches:
        snapshot, touched = fold(snapshot, batch)
        index.update(snapshot, touched)
    of_services = {
        address: service
        for service in snapshot.services.values()
        for address in map(plain_address, service.cluster_ips)
    }
    ready = {
        plain_address(text): item
        for item in snapshot.slices.values()
        for endpoint in item.endpoints
        for text in endpoint.addresses
        if endpoint.ready and item.service
    }
    named = {address for address in (*of_services, *ready) if address}
    for network in NETWORKS:
        known = any(address.version == network.version and address in network for address in named)
        assert index.has_address_in(network) == known, network
    for address in map(ip_address, ("10.1.2.3", "172.16.0.1", "fd00::1")):
        assert (index.service_with(address) is None) == (address not in of_services)
        assert bool(list(index.slices_with(address))) == (address in ready)


@given(st.one_of(st.ip_addresses().map(str), TEXTS, st.text("0123456789.:af", max_size=16)))
def test_a_number_is_read_as_the_address_is(text: str) -> None:
    address = plain_address(text)
    assert number_in(text) == (None if address is None else number_of(address))
