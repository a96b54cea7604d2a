"""Whatever is asked, and whatever noise makes of a question: replies are well formed, and another reader agrees."""

from __future__ import annotations

import random
from ipaddress import IPv4Address

import dnslib
import pytest
from dns_cluster import CONFIG, ask
from dns_wire import COOKIE, HERE, NOPE, WEB, opt, query, read, send, told, wire
from hypothesis import given, settings
from hypothesis import strategies as st

from resolverd.dns.answer import answer
from resolverd.dns.encode import prepare
from resolverd.dns.message import Edns
from resolverd.dns.records import Name, Type

NAMES = [
    *(
        "web.shop",
        "db.shop",
        "crowd60.shop",
        "inside.shop",
        "twice.shop",
        "nope.shop",
        "cluster.local",
        "ns.dns.cluster.local",
    ),
    *("7.0.96.10.in-addr.arpa", "51.0.244.10.in-addr.arpa"),
    *("dns-version.cluster.local", "outside.shop", "example.com"),
]
LABELS: st.SearchStrategy[bytes] = st.one_of(
    st.sampled_from([b"web", b"db", b"shop", b"svc", b"pod", b"_tcp", b"_http", b"cluster", b"local", b"arpa"]),
    st.sampled_from([b"in-addr", b"ip6", b"0", b"10", b"244", b"1-2-3-4", b"--1", b"dns", b"ns"]),
    st.binary(min_size=1, max_size=20),
)
SUFFIXES: list[Name] = [(), (b"cluster", b"local"), (b"svc", b"Cluster", b"local"), (b"shop",)]
WIRE_NAMES: st.SearchStrategy[Name] = st.builds(
    lambda labels, suffix: (*labels, *suffix), st.lists(LABELS, max_size=6), st.sampled_from(SUFFIXES)
)


@settings(deadline=None, max_examples=300)
@given(WIRE_NAMES, st.integers(0, 65535), st.booleans(), st.booleans())
def test_any_name_and_type_gets_a_reply_about_it(name: tuple[bytes, ...], kind: int, with_opt: bool, tcp: bool) -> None:
    asked = query(wire(name), kind, opt() if with_opt else b"")
    for _ in range(2):
        reply = read(told(asked, tcp=tcp))
        assert reply.question == asked[12 : 12 + len(wire(name)) + 4]
        assert (reply.opt is not None) == with_opt


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(NAMES), st.sampled_from([*Type][:8]))
def test_dnslib_reads_the_same_records(name: str, kind: int) -> None:
    found = ask(name, kind, HERE.index)
    parsed = dnslib.DNSRecord.parse(told(query(name, kind), tcp=True))
    assert len(parsed.rr) == len(found.answer)
    assert len(parsed.auth) == len(found.authority)
    assert len(parsed.ar) == len(found.additional)
    assert {int(row.rtype) for row in parsed.rr} == {record.type for record in found.answer}


@pytest.mark.parametrize("seed", range(4))
def test_noise(seed: int) -> None:
    """Random datagrams, broken queries, single flipped bits: no reply is malformed, and the next query works."""
    for_srv = query("crowd60.shop", 33, opt(4096))
    good = [query(WEB), query(WEB, 1, opt(options=COOKIE)), for_srv, query(NOPE, 28, opt())]
    chance = random.Random(seed)
    for _ in range(2500):
        data = bytearray(chance.choice(good))
        for _ in range(chance.randrange(1, 6)):
            place = chance.randrange(len(data))
            data[place : place + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        noise = bytes(data) if chance.random() < 0.8 else chance.randbytes(chance.randrange(80))
        for tcp in (False, True):
            reply = send(noise, tcp=tcp)
            if reply is not None:
                assert read(reply).size <= (65535 if tcp else 1232)
    for whole in good:
        for bit in range(8 * len(whole)):
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            reply = send(bytes(flipped))
            if reply is not None:
                read(reply)
    assert read(told(query(WEB))).answer[0].data == IPv4Address("10.96.0.7")


def test_a_prepared_reply_never_exceeds_its_limit() -> None:
    found = answer((b"crowd60", b"shop"), Type.SRV, HERE.index, CONFIG)
    for limit in range(512, 4000, 7):
        made = prepare((b"crowd60", b"shop"), found, Edns(limit, 0, do=False), limit)
        assert 12 + 14 + 4 + len(made.tail(0, b"")) <= limit
