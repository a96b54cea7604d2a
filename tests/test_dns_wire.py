"""The rules of the wire: the header, names, EDNS, and replies that are cut short."""

from __future__ import annotations

import random
import struct
from ipaddress import IPv4Address

import pytest
from dns_cluster import CONFIG, SERIAL, put
from dns_wire import (
    AD,
    CD,
    COOKIE,
    HEADER,
    MANY,
    NOPE,
    RD,
    WEB,
    code,
    crowd,
    opt,
    query,
    question,
    read,
    responder,
    send,
    told,
    wire,
)

from resolverd.cluster.objects import Namespace
from resolverd.dns.records import Type
from resolverd.dns.responder import Responder


class TestHeader:
    @pytest.mark.parametrize("number", [0, 1, 255, 256, 32768, 65535])
    def test_the_id_comes_back(self, number: int) -> None:
        assert read(told(query(WEB, number=number))).number == number

    @pytest.mark.parametrize("flags", [0x8000, 0x8180, 0x8400, 0xFFFF])
    def test_replies_are_not_answered(self, flags: int) -> None:
        assert send(query(WEB, flags=flags)) is None

    @pytest.mark.parametrize("opcode", range(1, 16))
    def test_other_opcodes(self, opcode: int) -> None:
        reply = read(told(query(WEB, flags=opcode << 11)))
        assert (reply.rcode, reply.flags >> 11 & 0xF, reply.number) == (4, opcode, 4711)

    @pytest.mark.parametrize("extra", [b"", opt()])
    @pytest.mark.parametrize("count", [0, 2, 3, 65535])
    def test_anything_but_one_question_is_an_error(self, count: int, extra: bytes) -> None:
        asked = question(WEB) * min(count, 2)
        assert code(send(HEADER.pack(1, RD, count, 0, 0, bool(extra)) + asked + extra)) == "FORMERR"

    @pytest.mark.parametrize("extra", [b"", opt()])
    @pytest.mark.parametrize("count", [0, 2, 3, 65535])
    def test_a_count_of_questions_that_lies(self, count: int, extra: bytes) -> None:
        for tcp in (False, True):
            lie = HEADER.pack(1, RD, count, 0, 0, bool(extra)) + question(WEB) + extra
            assert code(send(lie, tcp=tcp)) == "FORMERR"

    @pytest.mark.parametrize("counts", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (65535, 65535, 65535)])
    def test_counts_that_lie(self, counts: tuple[int, int, int]) -> None:
        assert code(send(HEADER.pack(1, RD, 1, *counts) + question(WEB))) == "FORMERR"

    @pytest.mark.parametrize("counts", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
    def test_records_in_a_query_do_not_come_back(self, counts: tuple[int, int, int]) -> None:
        record = wire((b"evil",)) + struct.pack("!HHIH4s", 1, 1, 60, 4, b"\6\6\6\6")
        reply = read(told(HEADER.pack(1, RD, 1, *counts) + question(WEB) + record))
        assert [row.data for row in reply.answer] == [IPv4Address("10.96.0.7")]
        assert not reply.additional

    @pytest.mark.parametrize("flag", [RD, AD, CD, 0x0040, 0x0080, 0x0400, 0x0200, RD | AD, 0])
    def test_of_the_flags_only_rd_and_cd_come_back(self, flag: int) -> None:
        reply = read(told(query(WEB, flags=flag)))
        assert reply.flags == 0x8400 | flag & (RD | CD)

    @pytest.mark.parametrize("flag", [RD, CD, RD | CD, 0])
    def test_they_come_back_however_the_reply_was_made(self, flag: int) -> None:
        here = responder()
        for asked in (query(WEB, flags=flag), query("example.com", flags=flag), query(WEB, klass=3, flags=flag)):
            for _ in range(3):
                assert read(told(asked, to=here)).flags & (RD | CD) == flag
        for broken in (query(WEB, flags=flag) + b"?", query(WEB, flags=flag | 4 << 11)):
            assert read(told(broken, to=here)).flags & RD == flag & RD

    def test_authority_is_claimed_for_our_names_only(self) -> None:
        ours = [read(told(query(name))) for name in (WEB, NOPE, "svc.cluster.local")]
        assert all(reply.is_authoritative for reply in ours)
        assert [len(reply.authority) for reply in ours] == [0, 1, 1]
        other = read(told(query("example.com")))
        assert not other.is_authoritative
        assert not other.has_records

    @pytest.mark.parametrize("length", range(12))
    def test_less_than_a_header_gets_silence(self, length: int) -> None:
        assert send(query(WEB)[:length]) is None

    @pytest.mark.parametrize("whole", [query(WEB), query(WEB, 1, opt())])
    def test_every_prefix_of_a_query(self, whole: bytes) -> None:
        for length in range(12, len(whole)):
            assert code(send(whole[:length])) == "FORMERR"

    def test_octets_after_the_message(self) -> None:
        assert code(send(query(WEB) + b"garbage")) == "FORMERR"

    @pytest.mark.parametrize("kind", [0, 10, 41, 128, 249, 250, 253, 254, 255, 256, 65280, 65535])
    def test_types_nobody_has(self, kind: int) -> None:
        reply = read(told(query(WEB, kind)))
        assert (reply.rcode, reply.answer) == (0, [])
        assert reply.size < 512
        assert read(told(query(NOPE, kind))).rcode == 3

    @pytest.mark.parametrize("kind", [Type.AXFR, Type.IXFR])
    @pytest.mark.parametrize("tcp", [False, True])
    def test_transfers_are_refused(self, kind: int, tcp: bool) -> None:
        assert code(send(query("cluster.local", kind), tcp=tcp)) == "REFUSED"

    @pytest.mark.parametrize("klass", [0, 2, 3, 4, 254, 255, 65535])
    def test_other_classes(self, klass: int) -> None:
        reply = read(told(query(WEB, klass=klass)))
        assert reply.rcode == 5
        assert not reply.has_records


class TestNames:
    @pytest.mark.parametrize("name", [WEB, NOPE, "example.com", "db.shop", "7.0.96.10.in-addr.arpa", "inside.shop"])
    def test_any_spelling_is_found_and_echoed(self, name: str) -> None:
        spell = random.Random(20)
        kind = Type.PTR if name.endswith("arpa") else Type.A
        plain = read(told(query(name, kind)))
        for _ in range(64):
            mixed = "".join(spell.choice((c.upper(), c.lower())) for c in name)
            reply = read(told(query(mixed, kind)))
            assert reply.question == question(mixed, kind)
            assert reply.rcode == plain.rcode
            assert {str(row.data).lower() for row in reply.answer} == {str(row.data).lower() for row in plain.answer}

    @pytest.mark.parametrize(
        "pointer", [b"\xc0\x0c", b"\1a\xc0\x0c", b"\xc0\x20", b"\xff\xff", b"\xc0\0", b"\xc0\x0e\xc0\x0c"]
    )
    def test_pointers_in_the_question(self, pointer: bytes) -> None:
        assert code(send(query(pointer))) == "FORMERR"

    def test_a_chain_of_pointers(self) -> None:
        links = b"".join(struct.pack("!H", 0xC000 | 12 + 2 * n) for n in range(-1, 4000))
        assert code(send(query(links))) == "FORMERR"
        base = query(WEB)
        chain = b"\0" + b"\0\1\0\1\0\0\0\0" + struct.pack("!H", 8000)
        start = len(base) + len(chain)
        body = b"\0\0" + b"".join(struct.pack("!H", 0xC000 | start + 2 * n) for n in range(3999))
        last = struct.pack("!H", 0xC000 | start + 7998) + b"\0\1\0\1\0\0\0\0\0\0"
        whole = HEADER.pack(1, 0, 1, 0, 0, 2) + base[12:] + chain + body + last
        assert code(send(whole, tcp=True)) == "FORMERR"

    @pytest.mark.parametrize("length", [0x40, 0x41, 0x7F, 0x80, 0xBF])
    def test_labels_that_are_none(self, length: int) -> None:
        assert code(send(query(bytes((length,)) + b"a" * length + b"\0"))) == "FORMERR"

    @pytest.mark.parametrize("octets", [256, 257, 300, 1000])
    def test_names_too_long(self, octets: int) -> None:
        labels, rest = divmod(octets - 1, 2)
        name = b"\1a" * (labels - rest) + b"\2ab" * rest + b"\0"
        assert code(send(query(name))) == "FORMERR"

    @pytest.mark.parametrize(
        ("labels", "pointer", "expected"), [(3, b"\0", "NOERROR"), (4, b"\0", "FORMERR"), (3, b"\xc0\x0c", "FORMERR")]
    )
    def test_names_of_records_in_a_query_are_no_longer(self, labels: int, pointer: bytes, expected: str) -> None:
        asked = (
            question(wire((b"a" * 60, b"web", b"shop", b"svc", b"cluster", b"local")))
            if pointer != b"\0"
            else question(WEB)
        )
        record = (b"\x3f" + b"a" * 63) * labels + pointer + struct.pack("!HHIH", 1, 1, 60, 0)
        assert code(send(HEADER.pack(1, RD, 1, 0, 0, 1) + asked + record)) == expected

    @pytest.mark.parametrize("label", [b"a", b"a" * 63])
    def test_the_longest_legal_name(self, label: bytes) -> None:
        zone = wire((b"svc", b"cluster", b"local"))
        room = 255 - len(zone)
        name = (bytes((len(label),)) + label) * (room // (len(label) + 1))
        left = room - len(name)
        name += bytes((left - 1,)) + b"b" * (left - 1) if left > 1 else b""
        for edns in (b"", opt()):
            reply = read(told(query(name + zone, 1, edns)))
            assert (reply.rcode, reply.question) == (3, question(name + zone))

    @pytest.mark.parametrize("octet", [0, 1, 46, 64, 91, 92, 127, 128, 0xC0, 255])
    def test_any_octet_in_a_label(self, octet: int) -> None:
        label = b"a" + bytes((octet,)) + b"b"
        name = wire((label, b"shop", b"svc", b"cluster", b"local"))
        for _ in range(2):
            for edns in (b"", opt()):
                reply = read(told(query(name, 1, edns)))
                assert (reply.rcode, reply.question) == (3, question(name))

    def test_a_dot_inside_a_label_separates_nothing(self) -> None:
        assert code(send(query(wire((b"web.shop", b"svc", b"cluster", b"local"))))) == "NXDOMAIN"
        assert code(send(query(wire((b"web.shop.svc.cluster.local",))))) == "REFUSED"

    @pytest.mark.parametrize("name", [".", "x", "local"])
    def test_short_ones(self, name: str) -> None:
        assert code(send(query(name))) == "REFUSED"


OPTIONS = [
    *(COOKIE, COOKIE * 9, struct.pack("!HH", 3, 0), struct.pack("!HH", 11, 0)),
    struct.pack("!HH2s", 65001, 2, b"ab"),
]
"""Cookies, NSID, keepalive, and one that nobody knows."""


class TestEdns:
    def test_unasked_there_is_none(self) -> None:
        assert read(told(query(WEB))).opt is None

    @pytest.mark.parametrize("name", [WEB, NOPE, "svc.cluster.local", "example.com"])
    @pytest.mark.parametrize("do", [0, 0x8000])
    def test_asked_there_is_with_do_as_sent(self, name: str, do: int) -> None:
        for _ in range(2):
            reply = read(told(query(name, 1, opt(flags=do | 0x7FFF))))
            assert reply.opt is not None
            assert reply.opt.ttl & 0xFFFF == do

    @pytest.mark.parametrize("version", [1, 2, 255])
    def test_other_versions(self, version: int) -> None:
        reply = read(told(query(WEB, 1, opt(version=version))))
        assert reply.rcode == 16
        assert not reply.has_records

    @pytest.mark.parametrize(
        "options",
        [
            COOKIE,
            struct.pack("!HH", 3, 0),
            struct.pack("!HH2s", 65001, 2, b"ab"),
            struct.pack("!HH", 11, 0),
            COOKIE * 9,
        ],
    )
    def test_options_are_neither_needed_nor_echoed(self, options: bytes) -> None:
        for tcp in (False, True):
            reply = read(told(query(WEB, 1, opt(options=options)), tcp=tcp))
            assert len(reply.answer) == 1
            assert reply.opt is not None
            assert reply.opt.data == b""

    @pytest.mark.parametrize("options", [b"\0", b"\0\3\0", b"\0\3\0\5abc", COOKIE + b"\0\0\0"])
    def test_broken_options(self, options: bytes) -> None:
        assert code(send(query(WEB, 1, opt(options=options)))) == "FORMERR"

    @pytest.mark.parametrize("length", range(11))
    def test_a_broken_opt(self, length: int) -> None:
        assert code(send(query(WEB, 1, opt()[:length] or b"\0")[: len(query(WEB)) + length])) == "FORMERR"

    def test_two_of_them_and_misplaced_ones(self) -> None:
        asked = question(WEB)
        assert code(send(HEADER.pack(1, 0, 1, 0, 0, 2) + asked + opt() + opt())) == "FORMERR"
        assert code(send(HEADER.pack(1, 0, 1, 1, 0, 0) + asked + opt())) == "FORMERR"
        assert code(send(HEADER.pack(1, 0, 1, 0, 1, 0) + asked + opt())) == "FORMERR"
        assert code(send(HEADER.pack(1, 0, 1, 0, 0, 1) + asked + b"\1a" + opt())) == "FORMERR"

    def test_the_reason_for_a_refusal(self) -> None:
        reply = read(told(query("example.com", 1, opt())))
        assert reply.opt is not None
        text = b"not a name of the cluster"
        assert reply.opt.data == struct.pack("!HHH", 15, 2 + len(text), 20) + text


class TestSize:
    def test_without_edns_512_and_whole_over_tcp(self) -> None:
        reply = read(told(query("crowd60.shop")))
        assert reply.size <= 512
        assert (reply.is_cut, reply.rcode, reply.question) == (True, 0, question("crowd60.shop"))
        assert 0 < len(reply.answer) < 60
        whole = read(told(query("crowd60.shop"), tcp=True))
        assert (whole.is_cut, len(whole.answer)) == (False, 60)

    def test_what_fits_1232_is_whole(self) -> None:
        reply = read(told(query("crowd60.shop", 1, opt(1232))))
        assert (reply.is_cut, len(reply.answer)) == (False, 60)

    @pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 600, 1000, 1231, 1232, 1233, 4096, 65535])
    @pytest.mark.parametrize("kind", [Type.A, Type.SRV])
    @pytest.mark.parametrize("people", [20, 60, MANY])
    def test_every_size_is_honoured(self, size: int, kind: Type, people: int) -> None:
        reply = read(told(query(f"crowd{people}.shop", kind, opt(size))))
        assert reply.size <= max(512, size)
        assert reply.opt is not None
        assert reply.is_cut or len(reply.answer) == people
        assert reply.is_cut or len(reply.additional) == (people if kind == Type.SRV else 0)

    @pytest.mark.parametrize("kind", [Type.A, Type.SRV])
    def test_tcp_takes_all_that_a_message_can_hold(self, kind: Type) -> None:
        reply = read(told(query(f"crowd{MANY}.shop", kind, opt(512)), tcp=True))
        assert len(reply.answer) == MANY or (kind == Type.SRV and reply.is_cut)
        assert reply.size > 30000

    def test_names_beyond_the_reach_of_pointers(self) -> None:
        """A pointer has 14 bits; a name first seen behind 16 KiB is written out each time."""
        here = Responder(CONFIG)
        here.fold((put(Namespace("shop")), *map(put, crowd(400))), synced=True, serial=SERIAL)
        reply = read(told(query("crowd400.shop", Type.SRV), tcp=True, to=here))
        assert reply.size > 0x4000 + 4096
        targets = [row.data[3] for row in reply.answer if isinstance(row.data, tuple)]
        assert len(set(targets)) == 400
        assert [row.owner for row in reply.additional] == targets
