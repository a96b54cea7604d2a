"""What others said, said again: without parsing, with times to live that pass, and as asking anew would say it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest
from dns_cluster import CONFIG, SERIAL, put, service
from dns_wire import CD, MANY, RD, opt, query, read
from dns_wire import responder as knowing
from hypothesis import given
from hypothesis import strategies as st
from upstream_double import a, cname, record, reply_to, soa

from resolverd.dns import foreign
from resolverd.dns import responder as responder_module
from resolverd.dns.answer import ExtendedError
from resolverd.dns.forward import STALE
from resolverd.dns.message import DO
from resolverd.dns.outward import Outcome, Outward
from resolverd.dns.records import Type
from resolverd.dns.responder import Reply, Responder
from resolverd.host import Server

NAME = "www.example.com"
WORLD = replace(CONFIG, upstreams=(Server(ip_address("192.0.2.53")),))
SINCE = 1000.0
"""When it came, by the loop's clock."""
ASKED = query(NAME, flags=RD, edns=opt())
SAID = reply_to(
    ASKED, cname("real.example.net", 60), a(ttl=40, owner="real.example.net"), authority=[soa()], additional=[a()]
)


def responder(memo: int = 1000) -> Responder:
    """One that knows somebody to ask."""
    made = knowing(memo=memo)
    made.configure(WORLD)
    return made


def asked_of_others(here: Responder, data: bytes, now: float = SINCE, *, tcp: bool = False) -> Outward:
    outward = here.respond(data, tcp=tcp, now=now)
    assert isinstance(outward, Outward)
    return outward


def outcome(reply: bytes, data: bytes, now: float = SINCE) -> Outcome:
    """What comes of asking at ``now`` when ``reply`` came at SINCE, and is kept."""
    taken = foreign.read(reply, data)
    return Outcome(taken, int(now - SINCE), since=SINCE if taken.lifetime else None)


def complete(here: Responder, data: bytes, reply: bytes = SAID, now: float = SINCE, *, tcp: bool = False) -> bytes:
    return here.complete(asked_of_others(here, data, now, tcp=tcp), outcome(reply, data, now)).wire


def repeated(here: Responder, data: bytes, now: float) -> bytes | None:
    """By the way of the UDP server; None when others have to be asked."""
    wire = here.again(data, now)
    if wire is not None:
        return wire
    reply = here.respond(data, tcp=False, now=now)
    return reply.wire if isinstance(reply, Reply) else None


def test_the_second_time_nothing_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = responder()
    first = complete(here, ASKED)
    monkeypatch.delattr(responder_module, "parse")
    monkeypatch.delattr(responder_module, "complete")
    assert [repeated(here, b"\7\7" + ASKED[2:], SINCE + 0.5) for _ in range(3)] == [b"\7\7" + first[2:]] * 3
    assert here.again(ASKED, SINCE) == first
    assert here.tallies.others_again == 4


@given(st.floats(0, 100), st.floats(0, 100), st.booleans(), st.booleans())
def test_it_is_what_asking_anew_would_say(early: float, late: float, edns: bool, upper: bool) -> None:
    """Octet for octet, at any two moments; or, past its time, nothing."""
    here, fresh = responder(), responder()
    data = query(NAME, flags=RD, edns=opt() if edns else b"")
    other = query(NAME.upper(), flags=RD, edns=opt() if edns else b"") if upper else data
    complete(here, data)
    for now in sorted((SINCE + early, SINCE + late)):
        said = repeated(here, other, now)
        if now - SINCE < 40:
            assert said == complete(fresh, other, SAID, now)
            fresh.clear()
        else:
            assert said is None


def test_past_its_time_it_is_asked_for_anew_and_the_new_one_counts() -> None:
    here = responder()
    complete(here, ASKED)
    assert repeated(here, ASKED, SINCE + 39.9) is not None
    asked_of_others(here, ASKED, SINCE + 40)
    newer = reply_to(ASKED, a("192.0.2.99", ttl=300))
    reply = here.complete(
        asked_of_others(here, ASKED, SINCE + 40), Outcome(foreign.read(newer, ASKED), since=SINCE + 40)
    )
    assert repeated(here, ASKED, SINCE + 41) not in (None, reply.wire)
    assert [row.ttl for row in read(repeated(here, ASKED, SINCE + 50) or b"").answer] == [290]


def test_a_denial_lasts_as_long_as_it_may() -> None:
    here, denial = responder(), reply_to(ASKED, rcode=3, authority=[soa()])
    complete(here, ASKED, denial)
    lifetime = foreign.read(denial, ASKED).lifetime
    assert read(repeated(here, ASKED, SINCE + lifetime - 1) or b"").authority[0].ttl == 1
    assert repeated(here, ASKED, SINCE + lifetime) is None


@pytest.mark.parametrize(
    "other",
    [
        query(NAME, flags=0, edns=opt()),
        query(NAME, flags=RD | CD, edns=opt()),
        query(NAME, flags=RD),
        query(NAME, flags=RD, edns=opt(flags=DO)),
        query(NAME, Type.AAAA, flags=RD, edns=opt()),
        query("ww." + NAME, flags=RD, edns=opt()),
    ],
    ids=["rd", "cd", "edns", "do", "type", "name"],
)
def test_other_questions_are_others(other: bytes) -> None:
    here = responder()
    complete(here, ASKED)
    assert repeated(here, other, SINCE) is None


def test_over_tcp_it_is_kept_apart() -> None:
    here = responder()
    complete(here, ASKED, tcp=True)
    assert repeated(here, ASKED, SINCE) is None
    assert isinstance(here.respond(ASKED, tcp=True, now=SINCE), Reply)


def test_what_was_cut_for_one_who_takes_little_is_not_everybody_s() -> None:
    here = responder()
    many = reply_to(ASKED, *(a(f"192.0.2.{n}", owner=NAME) for n in range(20)))
    small = query(NAME, flags=RD, edns=opt(size=512))
    assert read(complete(here, small, many)).flags & 0x0200
    assert repeated(here, small, SINCE) is None
    whole = complete(here, ASKED, many)
    assert not read(whole).flags & 0x0200
    assert repeated(here, small, SINCE) is None
    assert repeated(here, ASKED, SINCE) == whole


@pytest.mark.parametrize(
    "change",
    [{"since": None, "error": STALE}, {"reply": None, "since": None, "error": ExtendedError(22, "nobody")}],
    ids=["stale", "failed"],
)
def test_what_may_not_be_said_again_is_not(change: dict[str, object]) -> None:
    here = responder()
    here.complete(asked_of_others(here, ASKED), replace(outcome(SAID, ASKED), **change))  # type: ignore[arg-type]
    assert repeated(here, ASKED, SINCE) is None


def test_without_a_lifetime_it_is_not_kept() -> None:
    here = responder()
    complete(here, ASKED, reply_to(ASKED, rcode=2))
    complete(here, ASKED, reply_to(ASKED, a(ttl=0)))
    assert repeated(here, ASKED, SINCE) is None
    assert len(here.forwarded) == 0


def test_an_alias_of_ours_that_leads_to_others_lasts_a_second() -> None:
    here = responder()
    data = query("outside.shop.svc.cluster.local", flags=RD, edns=opt())
    outward = asked_of_others(here, data)
    target = outward.wanted.query()
    reply = here.complete(outward, outcome(reply_to(target, a(ttl=40)), target))
    assert len(read(reply.wire).answer) == 2
    assert repeated(here, data, SINCE + 0.9) == reply.wire
    assert repeated(here, data, SINCE + 1.1) is None
    here.fold((put(service("outside", type="ClusterIP", clusterIP="10.96.9.9")),), synced=True, serial=SERIAL + 1)
    assert here.outdated
    assert repeated(here, data, SINCE + 0.9) != reply.wire


def test_a_name_that_becomes_ours_is_not_the_cluster_s_any_more() -> None:
    here = responder()
    here.configure(replace(WORLD, includes=frozenset({("shop",)})))
    data = query("late.shop", flags=RD)
    complete(here, data, reply_to(data, a("10.96.8.8")))
    assert repeated(here, data, SINCE) is not None
    here.fold((put(service("web", "other")),), synced=True, serial=SERIAL + 1)
    assert repeated(here, data, SINCE) is not None
    here.outdated = False
    here.fold((put(service("late", clusterIP="10.96.9.9")),), synced=True, serial=SERIAL + 2)
    assert here.outdated
    assert str(read(repeated(here, data, SINCE) or b"").answer[0].data) == "10.96.9.9"


def test_other_settings_and_a_lost_tunnel_forget_it() -> None:
    here = responder()
    forgetting: tuple[Callable[[], None], ...] = (lambda: here.configure(replace(WORLD, ttl=17)), here.clear)
    for forget in forgetting:
        complete(here, ASKED)
        forget()
        assert repeated(here, ASKED, SINCE) is None


def test_addresses_that_are_no_longer_known_to_be_routed_are_not_repeated() -> None:
    here = responder()
    complete(here, ASKED)
    repeated(here, ASKED, SINCE)
    (prepared,) = here.forwarded.entries.values()
    prepared.fresh_until = SINCE + 5
    assert here.again(ASKED, SINCE + 4) is not None
    assert here.again(ASKED, SINCE + 5) is None


def test_questions_about_the_world_do_not_push_out_our_own_answers() -> None:
    here = responder(memo=8)
    ours = query("web.shop.svc.cluster.local")
    here.respond(ours, tcp=False, now=SINCE)
    for number in range(MANY):
        data = query(f"x{number}.example.com", flags=RD, edns=opt())
        complete(here, data, reply_to(data, a()))
    assert (len(here.memo), len(here.forwarded)) == (1, 8)


def test_what_became_ours_while_others_were_asked_is_not_kept() -> None:
    here = responder()
    here.configure(replace(WORLD, includes=frozenset({("shop",)})))
    data = query("late.shop", flags=RD)
    early, late = (asked_of_others(here, data) for _ in range(2))
    here.complete(early, outcome(reply_to(data, a("10.96.8.8")), data))
    assert len(here.forwarded) == 1
    here.fold((put(service("late", clusterIP="10.96.9.9")),), synced=True, serial=SERIAL + 1)
    here.complete(late, outcome(reply_to(data, a("10.96.8.8")), data))
    assert len(here.forwarded) == 0


def test_what_another_setting_says_since_is_not_kept() -> None:
    here = responder()
    outward = asked_of_others(here, ASKED)
    here.configure(replace(WORLD, mappings={tuple(NAME.split(".")): ip_address("192.0.2.4")}))
    here.complete(outward, outcome(SAID, ASKED))
    assert len(here.forwarded) == 0


@pytest.mark.parametrize(
    "said",
    [
        (a(), a("192.0.2.2", owner="other.example.net")),
        (a(), cname("x.example.net"), a("192.0.2.3", owner="x.example.net")),
        (a(owner="ab.c"), a("192.0.2.2", owner="x.ab.c"), a("192.0.2.3", owner="y.ab.c")),
        (a(), record(None, Type.AAAA, 40, ip_address("2001:db8::1").packed), a("192.0.2.4")),
    ],
    ids=["owners", "alias", "pointers", "families"],
)
def test_what_an_alias_of_ours_leads_to_may_be_in_any_order(said: tuple[bytes, ...]) -> None:
    here, shown = responder(), []
    data = query("outside.shop.svc.cluster.local", flags=RD, edns=opt())
    outward = asked_of_others(here, data)
    target = outward.wanted.query()
    for _ in range(len(said) + 1):
        reply = read(here.complete(outward, outcome(reply_to(target, *said), target)).wire)
        shown.append({(row.owner, row.type, str(row.data)) for row in reply.answer})
    assert shown == shown[:1] * len(shown)
    assert len(shown[0]) == len(said) + 1


def test_many_records_take_the_memory_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resolverd.dns.memo.MAX_OCTETS", 100_000)
    here = responder()
    for number in range(5):
        data = query(f"x{number}.example.com", flags=RD)
        complete(here, data, reply_to(data, *(a(f"192.0.{n >> 8}.{n & 255}") for n in range(500))), tcp=True)
    assert len(here.forwarded) == 1
