"""Folding: what a batch of changes makes of a Snapshot, and what it says it touched."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from resolverd.cluster.endpoints import Endpoint, Endpoints
from resolverd.cluster.objects import ClusterObject, EndpointSlice, Namespace, Service, ServicePort
from resolverd.cluster.snapshot import Change, Kind, Snapshot, differing, fold, key_of

SHOP = Namespace("shop")
WEB = Service("shop", "web", "ClusterIP", ("10.96.0.7",), False, "", (ServicePort("http", "TCP", 80, 8080),))
WEB_1 = EndpointSlice("shop", "web-1", "web", Endpoints([Endpoint(("10.244.0.11",), "", True, False, "web-1")]), ())


def put(kind: Kind, item: ClusterObject) -> Change:
    return Change(kind, key_of(item), item)


def test_everything_arrives_and_is_touched() -> None:
    changes = [put(Kind.NAMESPACE, SHOP), put(Kind.SERVICE, WEB), put(Kind.SLICE, WEB_1)]
    after, touched = fold(Snapshot(), changes, synced=True, serial=7)
    assert (after.namespaces, after.services) == ({"shop": SHOP}, {("shop", "web"): WEB})
    assert after.by_service == {("shop", "web"): (WEB_1,)}
    assert (after.synced, after.serial) == (True, 7)
    assert touched.namespaces == {"shop"}
    assert touched.services == {("shop", "web")}
    assert touched.synced


def test_the_same_again_touches_nothing_and_keeps_the_value() -> None:
    before, _ = fold(Snapshot(), [put(Kind.SERVICE, WEB)])
    after, touched = fold(before, [put(Kind.SERVICE, replace(WEB))], serial=9)
    assert after is before
    assert not touched.services


def test_a_slice_that_changes_owner_touches_both_and_leaves_nothing_behind() -> None:
    before, _ = fold(Snapshot(), [put(Kind.SLICE, WEB_1)])
    after, touched = fold(before, [put(Kind.SLICE, replace(WEB_1, service="api"))])
    assert touched.services == {("shop", "web"), ("shop", "api")}
    assert set(after.by_service) == {("shop", "api")}


def test_a_deletion_is_the_last_word_in_its_batch() -> None:
    after, touched = fold(Snapshot(), [put(Kind.SERVICE, WEB), Change(Kind.SERVICE, WEB.key, None)])
    assert not after.services
    assert not touched.services


SLICES = st.builds(
    lambda name, service, ready: replace(
        WEB_1, name=name, service=service, endpoints=Endpoints([WEB_1.endpoints[0]._replace(ready=ready)])
    ),
    st.sampled_from("abc"),
    st.sampled_from(["web", "api", ""]),
    st.booleans(),
)
CHANGES = st.one_of(
    SLICES.map(lambda item: put(Kind.SLICE, item)),
    st.sampled_from("abc").map(lambda name: Change(Kind.SLICE, ("shop", name), None)),
)


@given(st.lists(st.lists(CHANGES, max_size=4), max_size=6))
def test_the_groups_always_equal_the_slices(batches: list[list[Change]]) -> None:
    snapshot = Snapshot()
    for batch in batches:
        snapshot, _ = fold(snapshot, batch)
        grouped = sorted((key, item.name) for key, items in snapshot.by_service.items() for item in items)
        assert grouped == sorted((item.service_key, item.name) for item in snapshot.slices.values())


def test_what_is_listed_again_is_no_news() -> None:
    changes = [put(Kind.NAMESPACE, SHOP), put(Kind.SERVICE, WEB), put(Kind.SLICE, WEB_1)]
    before, _ = fold(Snapshot(), changes)
    gone = Change(Kind.SERVICE, ("shop", "never"), None)
    news = put(Kind.SERVICE, replace(WEB, cluster_ips=("10.96.0.99",)))
    assert differing(before, [*changes, gone]) == ()
    assert differing(before, [*changes, news]) == (news,)
    assert differing(before, [Change(Kind.NAMESPACE, ("", "shop"), None)]) != ()


def test_the_services_labelled_as_the_cluster_s_dns_are_known_without_looking_for_them() -> None:
    labelled = replace(WEB, namespace="kube-system", name="dns", is_cluster_dns=True)
    other = replace(labelled, name="other", is_cluster_dns=False)
    before, _ = fold(Snapshot(), [put(Kind.SERVICE, labelled), put(Kind.SERVICE, other), put(Kind.SERVICE, WEB)])
    assert before.dns_services == {labelled.key}
    unlabelled, _ = fold(before, [put(Kind.SERVICE, replace(labelled, is_cluster_dns=False))])
    moved, _ = fold(before, [put(Kind.SERVICE, replace(other, is_cluster_dns=True))])
    without, _ = fold(moved, [Change(Kind.SERVICE, labelled.key, None)])
    same, _ = fold(moved, [put(Kind.SERVICE, labelled)])
    found = [each.dns_services for each in (unlabelled, moved, without, same)]
    assert found == [set(), {labelled.key, other.key}, {other.key}, {labelled.key, other.key}]
