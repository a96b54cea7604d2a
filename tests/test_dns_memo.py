"""The memo: a hit says what a fresh server would say, whatever changed in between."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest
from dns_cluster import CONFIG, NAMESPACES, OBJECTS, SERIAL, endpoint, gone, port, put, service, slice_of
from dns_wire import HEADER, MANY, NOPE, RD, WEB, code, opt, query, question, read, responder, send, told
from hypothesis import given, settings
from hypothesis import strategies as st

from resolverd.cluster.objects import ClusterObject, Namespace
from resolverd.cluster.snapshot import Change
from resolverd.dns.memo import MAX_SPELLINGS
from resolverd.dns.records import Type
from resolverd.dns.responder import Responder
from resolverd.dns.rules import DnsConfig


class TestMemo:
    def test_the_second_time_is_a_hit_and_says_the_same(self) -> None:
        here = responder()
        for name, kind in ((WEB, Type.A), (WEB, Type.AAAA), (NOPE, Type.A), ("web.shop", 65), ("twins.shop", Type.SRV)):
            for edns in (b"", opt(), opt(flags=0x8000)):
                for tcp in (False, True):
                    before = here.hits
                    first = told(query(name, kind, edns), tcp=tcp, to=here)
                    second = told(query(name.upper(), kind, edns), tcp=tcp, to=here)
                    assert here.hits == before + 1
                    assert read(second).question == question(name.upper(), kind)
                    assert second.lower() == first.lower()

    def test_addresses_take_turns_at_being_first(self) -> None:
        here = responder()
        seen = [read(told(query("inside.shop" if n < 2 else "db.shop"), to=here)) for n in range(32)]
        assert {row.data for row in seen[0].answer} == {row.data for row in seen[1].answer}
        firsts = {reply.answer[0].data for reply in seen[2:]}
        assert len(firsts) == 3
        assert all(len({row.data for row in reply.answer}) == 3 for reply in seen[2:])
        assert here.hits == 30

    def test_a_bounded_memo_drops_the_oldest(self) -> None:
        here = responder(memo=4)
        for n in range(20):
            told(query(f"x{n}.shop"), to=here)
        assert len(here.memo) == 4
        told(query("x19.shop"), to=here)
        assert here.hits == 1

    def test_octets_are_bounded_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("resolverd.dns.memo.MAX_OCTETS", 2048)
        here = responder()
        for name in (*(f"crowd{size}.shop" for size in (20, 60, MANY)), "web.shop", "db.shop"):
            told(query(name, edns=opt()), to=here)
        assert 0 < sum(reply.octets for reply in here.memo.entries.values()) <= 2048

    def test_out_of_step_nothing_is_said_that_was_known_before(self) -> None:
        here = responder()
        for synced, rcode in ((True, 0), (False, 2), (True, 0)):
            here.fold((), synced=synced, serial=SERIAL)
            for _ in range(3):
                assert read(told(query(WEB), to=here)).rcode == rcode

    def test_a_change_drops_what_it_touches_and_nothing_else(self) -> None:
        here = responder()
        names = ["web.shop", "bare.shop", "nope.shop", "inside.shop", "db.shop", "shop.svc"]
        for name in names:
            told(query(name), to=here)
        changed = service("web", clusterIPs=["10.96.0.77"])
        here.fold((put(changed),), synced=True, serial=SERIAL + 1)
        kept = []
        for name in names:
            before = here.hits
            told(query(name), to=here)
            kept.append(here.hits > before)
        assert kept == [False, True, True, False, True, True]
        assert read(told(query("web.shop"), to=here)).answer[0].data == IPv4Address("10.96.0.77")

    def test_the_serial_is_always_the_newest(self) -> None:
        here = responder()
        told(query(NOPE), to=here)
        here.fold((put(service("other", clusterIPs=["10.96.3.3"])),), synced=True, serial=SERIAL + 9)
        row = read(told(query(NOPE), to=here)).authority[0]
        assert here.hits == 1
        assert isinstance(row.data, tuple)
        assert row.data[2] == SERIAL + 9

    @pytest.mark.parametrize("sizes", [(512, 1200, 1232, 4096), (4096, 1232, 1200, 512, 0), (1000, 1001, 999)])
    @pytest.mark.parametrize("name", ["web.shop", "crowd20.shop", "crowd60.shop", f"crowd{MANY}.shop", NOPE])
    @pytest.mark.parametrize("kind", [Type.A, Type.SRV])
    def test_the_size_a_client_takes_matters_only_where_the_reply_is_larger(
        self, name: str, kind: Type, sizes: tuple[int, ...]
    ) -> None:
        here, forgetful, lengths = responder(), responder(memo=0), []
        for size in sizes * 3:
            asked = query(name, kind, opt(size))
            reply, alone = read(told(asked, to=here)), read(told(asked, to=forgetful))
            lengths.append(alone.size)
            assert reply.size <= max(size, 512)
            assert (reply.is_cut, len(reply.answer), reply.size) == (alone.is_cut, len(alone.answer), alone.size)
        if max(lengths) <= 512:
            assert here.hits == len(lengths) - 1

    def test_another_configuration_forgets_everything(self) -> None:
        here = responder()
        assert code(send(query("web.shop"), to=here)) == "NOERROR"
        here.configure(DnsConfig())
        assert code(send(query("web.shop"), to=here)) == "REFUSED"


class TestSameMessage:
    """A message that came before, octet for octet, is not even looked into."""

    def test_it_is_answered_from_the_third_time_on(self) -> None:
        here = responder()
        asked = query("WEB.shop", Type.A, opt())
        for known in (False, False, True, True):
            assert (here.again(asked, -1.0) is not None) == known
            if not known:
                send(asked, to=here)
        assert here.queries == 2 + 2 + 0
        assert here.hits == 3

    def test_its_reply_is_the_same_but_for_the_id(self) -> None:
        here = responder()
        for name, kind, edns in (("Web.shop", Type.A, b""), (NOPE, Type.AAAA, opt()), (WEB, 65, opt(flags=0x8000))):
            asked = query(name, kind, edns)
            slow = [send(asked, to=here) for _ in range(2)][1]
            assert isinstance(slow, bytes)
            assert here.again(b"\x77\x66" + asked[2:], -1.0) == b"\x77\x66" + slow[2:]

    def test_addresses_whose_routes_may_be_gone_are_not_repeated(self) -> None:
        here = responder()
        asked = query("web.shop")
        for _ in range(2):
            send(asked, to=here)
        assert here.again(asked, 0.0) is None

    def test_what_a_client_varies_is_not_kept(self) -> None:
        here = responder()
        for octet in range(64):
            cookie = b"\0\x0a\0\x08" + bytes((octet,)) * 8
            for _ in range(2):
                send(query("web.shop", edns=opt(options=cookie)), to=here)
        assert not here.memo.spelled
        for spelling in range(256):
            letters = [c.upper() if spelling >> n & 1 else c for n, c in enumerate("web.shop.svc")]
            for _ in range(2):
                send(query("".join(letters)), to=here)
        assert len(here.memo.spelled) == MAX_SPELLINGS

    def test_tcp_is_not_answered_as_udp_is(self) -> None:
        here = responder()
        asked = query("web.shop")
        for _ in range(3):
            send(asked, tcp=True, to=here)
        assert here.again(asked, -1.0) is None


QUESTIONS = [
    *((name, kind) for name in ("web.shop", "db.shop", "nope.shop", "inside.shop") for kind in (1, 28, 33, 5, 65)),
    *((name, 1) for name in ("db-0.db.shop", "_pg._tcp.db.shop", "_tcp.db.shop", "shop", "twice.shop", "empty.svc")),
    *(
        (name, 1)
        for name in ("hop1.shop", "web.dev.svc", "x.y.z.shop", "10-0-0-1.shop.pod.cluster.local", "lost.fresh.svc")
    ),
    *((f"{name}.in-addr.arpa", 12) for name in ("7.0.96.10", "8.0.96.10", "21.0.244.10", "9.2.0.192", "61.0.244.10")),
    *((f"{name}.in-addr.arpa", 12) for name in ("0.244.10", "77.244.10", "1.77.244.10", "244.10")),
    *(("cluster.local", kind) for kind in (2, 6, 16)),
]
STAY = [Namespace(name) for name in NAMESPACES if name not in ("shop", "empty")]
TOUCHABLE: list[ClusterObject] = [item for item in OBJECTS if item not in STAY]
VARIANTS: list[ClusterObject] = [
    service("web", clusterIPs=["10.96.0.8", "fd00:10:96::7"], ports=[port("http", 81)]),
    service("web", clusterIP="None"),
    service("web", type="ExternalName", externalName="db.shop.svc.cluster.local"),
    service("nope", clusterIPs=["10.96.0.7"]),
    slice_of("db", [endpoint("10.244.0.21", hostname="db-9"), endpoint("192.0.2.9")], [port("pg", 1)]),
    slice_of("web", [endpoint("10.96.0.7", hostname="odd")], [port("http", 1)], "1"),
    slice_of("db", [endpoint("10.244.77.1")], [port("pg", 1)], "2"),
    slice_of("db", [endpoint("10.244.0.21", conditions={"ready": False})], [port("pg", 1)], "1"),
    Namespace("fresh"),
    service("lost", "fresh", clusterIPs=["10.96.0.8"]),
]
CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.sampled_from(TOUCHABLE).map(put),
    st.sampled_from(TOUCHABLE).map(gone),
    st.sampled_from(VARIANTS).map(put),
    st.sampled_from([put(Namespace("shop")), gone(Namespace("shop"))]),
)


def everything_said(name: str, kind: int, here: Responder) -> tuple[object, ...]:
    reply = read(told(query(name, kind, opt()), to=here))
    return reply.flags, sorted(map(str, reply.answer)), reply.authority, reply.additional


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([20, 1000]), st.lists(st.lists(CHANGES, min_size=1, max_size=3), max_size=6))
def test_what_is_remembered_is_what_a_fresh_server_would_say(memo: int, steps: list[list[Change]]) -> None:
    here = Responder(CONFIG, memo)
    here.fold(tuple(map(put, OBJECTS)), synced=True, serial=SERIAL)
    for moment, changes in enumerate(steps, SERIAL + 1):
        for name, kind in QUESTIONS * 2:
            send(query(name, kind, opt()), to=here)
        here.fold(tuple(changes), synced=True, serial=moment)
        fresh = Responder(CONFIG)
        snapshot = here.index.snapshot
        everything: list[ClusterObject] = [*snapshot.namespaces.values(), *snapshot.services.values()]
        fresh.fold(tuple(map(put, [*everything, *snapshot.slices.values()])), synced=True, serial=snapshot.serial)
        for name, kind in QUESTIONS:
            assert everything_said(name, kind, here) == everything_said(name, kind, fresh), (name, kind)


def test_a_label_that_looks_like_the_end_of_a_message_is_not_kept_under_a_wrong_key() -> None:
    """Up to the first zero octet this is a common query with one option; read properly it is another."""
    rest = b"\4shop\0\0\1\0\1" + opt()
    option = struct.pack("!HH", 65001, len(rest))
    label = b"a\0\0\1\0\1" + opt()[:-2] + struct.pack("!H", len(option) + len(rest)) + option
    asked = HEADER.pack(1, RD, 1, 0, 0, 1) + bytes((len(label),)) + label + rest
    here = responder()
    for _ in range(3):
        reply = read(told(asked, to=here))
        assert (reply.rcode, reply.question) == (3, asked[12 : -len(opt())])
    assert here.hits == 0
