"""Verified pod records: a name for each address that a pod of the namespace has, and nothing denied unlisted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from dns_cluster import CONFIG, OBJECTS, SERIAL, ask, gone, index_of, put, service, short
from dns_wire import query, read, told
from hypothesis import given, settings
from hypothesis import strategies as st

from resolverd.cluster.objects import ClusterObject, Namespace, Pod, PodList, parse_pod
from resolverd.cluster.snapshot import Change, Snapshot, everything, fold
from resolverd.dns.index import RecordIndex
from resolverd.dns.records import Type
from resolverd.dns.responder import Responder

VERIFIED = replace(CONFIG, pod_records="verified")
DOMAIN = "pod.cluster.local"


def pod(name: str, address: str, namespace: str = "shop") -> Pod:
    return Pod(namespace, name, address)


PODS: tuple[ClusterObject, ...] = (
    pod("web-1", "10.244.0.11"),
    pod("web-2", "10.244.0.12"),
    pod("six", "fd00:244::1"),
    pod("long", "fd00:244:0:0:1:2:3:4"),
    pod("waiting", ""),
    pod("other", "10.244.0.13", "dev"),
    pod("node-1", "192.0.2.7"),
    pod("node-2", "192.0.2.7"),
)
EVERY = PodList("")
INDEX = index_of([*OBJECTS, *PODS, EVERY])


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("10-244-0-11.shop", "A", "10.244.0.11"),
        ("10-244-0-11.shop", "AAAA", "NODATA"),
        ("10-244-0-11.shop", "TXT", "NODATA"),
        ("10-244-0-11.SHOP", "SRV", f"0 100 0 10-244-0-11.shop.{DOMAIN}."),
        ("x.10-244-0-11.shop", "A", "10.244.0.11"),
        ("10-244-0-99.shop", "A", "NXDOMAIN"),
        ("10-244-0-99.shop", "SRV", "NXDOMAIN"),
        ("10-244-0-11.dev", "A", "NXDOMAIN"),
        ("10-244-0-13.dev", "A", "10.244.0.13"),
        ("10-244-0-13.shop", "A", "NXDOMAIN"),
        ("10-244-0-11.nowhere", "A", "NXDOMAIN"),
        ("192-0-2-7.shop", "A", "192.0.2.7"),
        ("FD00-244--1.shop", "AAAA", "fd00:244::1"),
        ("fd00-244--1.shop", "A", "NODATA"),
        ("fd00-244-0-0-0-0-0-1.shop", "AAAA", "NXDOMAIN"),
        ("fd00-244-0-0-1-2-3-4.shop", "AAAA", "fd00:244::1:2:3:4"),
        ("web-1.shop", "A", "NXDOMAIN"),
        ("-.shop", "A", "NXDOMAIN"),
        ("shop", "A", "NODATA"),
        ("nowhere", "A", "NXDOMAIN"),
    ],
)
def test_a_name_exists_where_a_pod_has_the_address(name: str, kind: str, expected: str) -> None:
    assert short(ask(f"{name}.{DOMAIN}", kind, INDEX, VERIFIED)) == expected


def test_an_address_belongs_to_its_last_pod() -> None:
    """Pods of the node's own network share its address."""
    name = f"192-0-2-7.shop.{DOMAIN}"
    for left, expected in (([pod("node-1", "192.0.2.7")], "192.0.2.7"), ([], "NXDOMAIN")):
        assert short(ask(name, "A", index_of([*OBJECTS, EVERY, *left]), VERIFIED)) == expected


UNLISTED = index_of([*OBJECTS, *PODS])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"10-244-0-11.shop.{DOMAIN}", "SERVFAIL"),
        (f"10-244-0-99.shop.{DOMAIN}", "SERVFAIL"),
        (f"10-244-0-99.nowhere.{DOMAIN}", "NXDOMAIN"),
        (f"no-address.shop.{DOMAIN}", "NXDOMAIN"),
        (f"shop.{DOMAIN}", "NODATA"),
        (DOMAIN, "NODATA"),
        ("web.shop.svc.cluster.local", "10.96.0.7"),
        ("nope.shop.svc.cluster.local", "NXDOMAIN"),
    ],
)
def test_until_the_pods_are_listed_their_names_are_unknown_and_no_others(name: str, expected: str) -> None:
    found = ask(name, "A", UNLISTED, VERIFIED)
    assert short(found) == expected
    if expected == "SERVFAIL":
        assert found.error is not None
        assert (found.error.code, found.lasting, found.authoritative) == (14, False, True)
        assert [record.type for record in found.authority] == [Type.SOA]


def test_a_list_of_one_namespace_says_nothing_about_others() -> None:
    index = index_of([*OBJECTS, *PODS, PodList("dev")])
    assert short(ask(f"10-244-0-13.dev.{DOMAIN}", "A", index, VERIFIED)) == "10.244.0.13"
    assert short(ask(f"10-244-0-99.dev.{DOMAIN}", "A", index, VERIFIED)) == "NXDOMAIN"
    assert short(ask(f"10-244-0-11.shop.{DOMAIN}", "A", index, VERIFIED)) == "SERVFAIL"


def test_an_alias_of_an_unknown_name_is_unknown() -> None:
    alias = service("alias", type="ExternalName", externalName=f"10-244-0-11.shop.{DOMAIN}")
    assert short(ask("alias.shop", "A", index_of([*OBJECTS, alias]), VERIFIED)) == "SERVFAIL"
    listed = index_of([*OBJECTS, alias, *PODS, EVERY])
    assert short(ask("alias.shop", "A", listed, VERIFIED)) == f"10-244-0-11.shop.{DOMAIN}., 10.244.0.11"
    assert short(ask("alias.shop", "CNAME", index_of([*OBJECTS, alias]), VERIFIED)) == f"10-244-0-11.shop.{DOMAIN}."


def test_on_the_wire_it_says_why() -> None:
    here = Responder(VERIFIED)
    here.fold(tuple(map(put, OBJECTS)), synced=True, serial=SERIAL)
    asked = query(f"10-244-0-11.shop.{DOMAIN}", edns=b"\0\0\x29\x04\xd0\0\0\0\0\0\0")
    reply = read(told(asked, to=here))
    assert reply.rcode == 2
    assert reply.opt is not None
    assert bytes(reply.opt.data).startswith(b"\0\x0f")  # type: ignore[call-overload]  # EDE
    here.fold((*map(put, PODS), put(EVERY)), synced=True, serial=SERIAL)
    assert read(told(asked, to=here)).rcode == 0


RAW = {
    "metadata": {"namespace": "shop", "name": "web-1"},
    "spec": {"containers": []},
    "status": {"phase": "Running", "podIP": "10.244.0.11", "podIPs": [{"ip": "10.244.0.11"}, {"ip": "fd00:244::b"}]},
}


def test_of_a_pod_of_the_api_the_first_address_is_kept() -> None:
    assert parse_pod(RAW) == pod("web-1", "10.244.0.11")
    assert parse_pod({"metadata": RAW["metadata"]}) == pod("web-1", "")
    assert parse_pod({"metadata": RAW["metadata"], "status": {"podIP": None}}) == pod("web-1", "")
    ending = {**RAW, "metadata": {**RAW["metadata"], "deletionTimestamp": "2026-11-21T10:00:00Z"}}  # type: ignore[dict-item]
    assert parse_pod(ending).terminating


ADDRESSES = ("10.244.0.11", "10.244.0.12", "")
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(lambda name, address: put(pod(name, address)), st.sampled_from("abc"), st.sampled_from(ADDRESSES)),
    st.sampled_from("abc").map(lambda name: gone(pod(name, ""))),
    st.sampled_from([put(EVERY), put(PodList("shop")), gone(PodList("shop")), put(Namespace("shop"))]),
    st.just(gone(Namespace("shop"))),
)
QUESTIONS = [f"10-244-0-{number}.shop.{DOMAIN}" for number in (11, 12, 13)]


def _said(here: Responder) -> list[tuple[int, list[object]]]:
    replies = [read(told(query(name), to=here)) for name in QUESTIONS]
    return [(reply.rcode, [row.data for row in reply.answer]) for reply in replies]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(CHANGES, min_size=1, max_size=3), max_size=8))
def test_what_is_remembered_is_what_a_fresh_server_would_say(steps: list[list[Change]]) -> None:
    here = Responder(VERIFIED)
    here.fold((put(Namespace("shop")), put(EVERY)), synced=True, serial=SERIAL)
    for changes in steps:
        _said(here)
        here.fold(tuple(changes), synced=True, serial=SERIAL)
        if not here.index.snapshot.has_pods_of("shop"):
            here.memo.clear()  # the settings change with that, which clears it
        fresh = Responder(VERIFIED)
        fresh.fold(tuple(everything(here.index.snapshot)), synced=True, serial=SERIAL)
        assert _said(here) == _said(fresh)


def test_everything_is_everything() -> None:
    changes: Iterable[Change] = map(put, [*OBJECTS, *PODS, EVERY])
    snapshot, touched = fold(Snapshot(), changes, synced=True, serial=SERIAL)
    assert len(touched.pods) == len(PODS) + 1
    again, _ = fold(Snapshot(), everything(snapshot), synced=True, serial=SERIAL)
    assert again == snapshot
    index = RecordIndex()
    index.update(snapshot, touched)
    assert index.has_pod("shop", "10.244.0.11")


def test_pods_that_change_leave_other_answers_alone() -> None:
    here = Responder(VERIFIED)
    here.fold(tuple(map(put, [*OBJECTS, *PODS, EVERY])), synced=True, serial=SERIAL)
    names = [f"10-244-0-11.shop.{DOMAIN}", f"10-244-0-12.shop.{DOMAIN}", f"10-244-0-77.shop.{DOMAIN}", "web.shop"]
    for name in names:
        told(query(name), to=here)
    here.fold((put(pod("web-1", "10.244.0.77")),), synced=True, serial=SERIAL)
    kept = []
    for name in names:
        before = here.hits
        told(query(name), to=here)
        kept.append(here.hits > before)
    assert kept == [False, True, False, True]
