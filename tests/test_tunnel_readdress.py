"""Readdressing: what a segment looks like afterwards, checksums above all, and the table that remembers."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resolverd.names import Address
from resolverd_tunnel import packet, readdress
from resolverd_tunnel.packet import Kind, Opening
from resolverd_tunnel.readdress import KEEP, Connection, Readdressing, Stage, answer_echo

STAGES = {
    4: Stage(ip_address("198.18.53.1"), ip_address("198.18.53.2")),
    6: Stage(ip_address("fd53:7265:736f:6c76::1"), ip_address("fd53:7265:736f:6c76::2")),
}
LISTENER = 40001
SYN, ACK, PSH, RST, FIN = 0x02, 0x10, 0x08, 0x04, 0x01

ports = st.integers(0, 65535)
v4 = st.integers(0, 2**32 - 1).map(IPv4Address)
v6 = st.integers(0, 2**128 - 1).map(IPv6Address)
openings = st.one_of(
    st.builds(Opening, client=v4, client_port=ports, address=v4, port=ports),
    st.builds(Opening, client=v6, client_port=ports, address=v6, port=ports),
)


def checksum(data: bytes) -> int:
    """RFC 1071, the plain way."""
    total = 0
    for at in range(0, len(data), 2):
        total += int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@dataclass(frozen=True)
class Segment:
    ends: Opening
    flags: int = ACK
    data: bytes = b""
    options: bytes = b""
    """Of IPv4."""
    sequence: int = 1000
    acknowledged: int = 7

    def packed(self) -> bytes:
        ends = self.ends
        tcp = struct.pack("!HHIIBBH", ends.client_port, ends.port, self.sequence, self.acknowledged, 80, self.flags, 99)
        pseudo = ends.client.packed + ends.address.packed + struct.pack("!II", 20 + len(self.data), packet.TCP)
        right = checksum(pseudo + tcp + bytes(4) + self.data)
        payload = tcp + struct.pack("!HH", right, 0) + self.data
        if ends.client.version == 6:
            head = struct.pack("!IHBB", 6 << 28 | 0x12345, len(payload), packet.TCP, 64)
            return head + ends.client.packed + ends.address.packed + payload
        size = 20 + len(self.options)
        first = struct.pack("!BBHHHBB", 0x40 | size // 4, 0, size + len(payload), 7, 0x4000, 64, packet.TCP)
        last = ends.client.packed + ends.address.packed + self.options
        return first + struct.pack("!H", checksum(first + b"\0\0" + last)) + last + payload


def turned(ends: Opening) -> Opening:
    return Opening(ends.address, ends.port, ends.client, ends.client_port)


def never(_: Opening) -> bool:
    return False


def opened(table: Readdressing, ends: Opening, listener: int = LISTENER) -> Connection:
    connection = table.open(ends, listener, 0.0, never)
    assert connection is not None
    return connection


def rewritten(table: Readdressing, data: bytes) -> bytes:
    view = memoryview(bytearray(data))
    assert table.rewrite(view)
    return bytes(view)


def inside(connection: Connection) -> Opening:
    stage = STAGES[connection.ends.client.version]
    return Opening(stage.peer, connection.port, stage.own, connection.listener)


WEB = Opening(ip_address("198.18.53.1"), 51000, ip_address("10.96.0.7"), 80)
WEB6 = Opening(ip_address("fd53:7265:736f:6c76::1"), 51000, ip_address("fd00:10:96::7"), 80)


@given(
    ends=openings,
    listener=st.integers(1, 65535),
    data=st.binary(max_size=70),
    options=st.sampled_from([b"", b"\1\1\1\0", b"\x07\x07\x04\0\0\0\0\0"]),
)
@example(ends=WEB, listener=1, data=b"", options=b"")
def test_both_ways_a_segment_is_as_if_its_ends_had_been_these_all_along(
    ends: Opening, listener: int, data: bytes, options: bytes
) -> None:
    table = Readdressing(STAGES)
    connection = opened(table, ends, listener)
    there = rewritten(table, Segment(ends, data=data, options=options).packed())
    assert there == Segment(inside(connection), data=data, options=options).packed()
    answer = Segment(turned(inside(connection)), PSH | ACK, data, options)
    assert rewritten(table, answer.packed()) == Segment(turned(ends), PSH | ACK, data, options).packed()


@pytest.mark.parametrize("ends", [WEB, WEB6], ids=str)
@pytest.mark.parametrize("wanted", [0x0000, 0x0001, 0xFFFE, 0x7FFF, 0x8000])
@pytest.mark.parametrize("before", [True, False])
def test_checksums_at_the_edges(ends: Opening, wanted: int, before: bool) -> None:
    table = Readdressing(STAGES)
    connection = opened(table, ends)
    edge = ends if before else inside(connection)
    at = 36 if ends.client.version == 4 else 56

    def field(data: bytes) -> int:
        return int.from_bytes(data[at : at + 2], "big")

    # With the complement of the difference as data the sum comes to what is wanted, before or after the change.
    bare = field(Segment(edge, data=b"\0\0").packed())
    data = struct.pack("!H", ((bare - wanted) % 0xFFFF))
    assert field(Segment(edge, data=data).packed()) == wanted
    assert rewritten(table, Segment(ends, data=data).packed()) == Segment(inside(connection), data=data).packed()


def test_a_checksum_of_all_ones_is_taken_as_the_zero_it_means() -> None:
    table = Readdressing(STAGES)
    connection = opened(table, WEB)
    bare = int.from_bytes(Segment(WEB, data=b"\0\0").packed()[36:38], "big")
    segment = bytearray(Segment(WEB, data=struct.pack("!H", bare)).packed())
    assert segment[36:38] == b"\0\0"
    segment[36:38] = b"\xff\xff"
    there = rewritten(table, bytes(segment))
    right = Segment(inside(connection), data=struct.pack("!H", bare)).packed()
    assert there == right


@given(data=st.binary(max_size=60), number=st.integers(0, 2**32 - 1))
def test_an_echo_request_becomes_its_reply(data: bytes, number: int) -> None:
    for ends in (WEB, WEB6):
        four = ends.client.version == 4
        protocol, asks, answers = (packet.ICMP, 8, 0) if four else (packet.ICMP6, 128, 129)

        def echo(kind: int, source: Address, target: Address, protocol: int = protocol, four: bool = four) -> bytes:
            body = struct.pack("!I", number) + data
            pseudo = b"" if four else source.packed + target.packed + struct.pack("!II", 4 + len(body), protocol)
            right = checksum(pseudo + bytes([kind, 0, 0, 0]) + body)
            message = struct.pack("!BBH", kind, 0, right) + body
            if not four:
                return (
                    struct.pack("!IHBB", 6 << 28, len(message), protocol, 64) + source.packed + target.packed + message
                )
            head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(message), 7, 0, 64, protocol)
            last = source.packed + target.packed
            return head + struct.pack("!H", checksum(head + b"\0\0" + last)) + last + message

        view = memoryview(bytearray(echo(asks, ends.client, ends.address)))
        assert packet.classify(view, len(view)) is Kind.ECHO
        answer_echo(view)
        assert bytes(view) == echo(answers, ends.address, ends.client)


def test_what_is_not_known_stays_as_it_is() -> None:
    table = Readdressing(STAGES)
    opened(table, WEB)
    for data in (
        Segment(turned(WEB)).packed(),
        Segment(WEB6).packed(),
        Segment(Opening(WEB.client, 51001, WEB.address, 80), options=b"\1\1\1\0").packed(),
    ):
        view = memoryview(bytearray(data))
        assert not table.rewrite(view)
        assert bytes(view) == data


def test_a_connection_has_one_row_and_its_port_leads_back() -> None:
    table = Readdressing(STAGES)
    first = opened(table, WEB)
    assert opened(table, WEB) is first
    assert (len(table), table.find(4, first.port), table.find(6, first.port)) == (1, WEB, None)
    moved = opened(table, WEB, listener=40002)
    assert (len(table), moved.listener) == (1, 40002)
    assert rewritten(table, Segment(WEB).packed()) == Segment(inside(moved)).packed()


def test_only_the_listener_counts_as_an_answer() -> None:
    table = Readdressing(STAGES)
    connection = opened(table, WEB)
    rewritten(table, Segment(WEB, SYN).packed())
    assert not connection.answered
    rewritten(table, Segment(turned(inside(connection)), SYN | ACK).packed())
    assert connection.answered


def test_rows_go_when_they_are_neither_used_nor_seen() -> None:
    table = Readdressing(STAGES)
    opened(table, WEB)
    opened(table, WEB6)
    for _ in range(KEEP + 1):
        table.sweep(lambda ends: ends == WEB6)
        rewritten(table, Segment(WEB).packed())
    assert len(table) == 2
    for _ in range(KEEP):
        table.sweep(lambda ends: ends == WEB6)
    assert len(table) == 2
    table.sweep(lambda ends: ends == WEB6)
    assert (len(table), table.find(6, readdress.FIRST_PORT)) == (1, WEB6)
    assert not table.rewrite(memoryview(bytearray(Segment(WEB).packed())))


def test_the_table_is_bounded_and_what_is_in_use_stays() -> None:
    table = Readdressing(STAGES, most=32)
    ends = [Opening(WEB.client, 50000 + n, WEB.address, 80) for n in range(40)]
    used = set(ends[:30])
    for one in ends:
        assert table.open(one, LISTENER, 0.0, used.__contains__) is not None
        assert len(table) <= 32
    for one in used:
        rewritten(table, Segment(one).packed())
    assert table.open(WEB6, LISTENER, 0.0, lambda _: True) is None
    assert len(table) <= 32


def test_ports_come_in_turn_and_are_never_two_connections_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readdress, "PORTS", 8)
    table = Readdressing(STAGES, most=6)
    seen = []
    for number in range(50):
        seen.append(opened(table, Opening(WEB.client, 50000 + number, WEB.address, 80)).port)
        assert len({port for _, port in table._by_port}) == len(table)
    assert set(seen) == set(range(readdress.FIRST_PORT, readdress.FIRST_PORT + 8))


@pytest.mark.parametrize("ends", [WEB, WEB6], ids=str)
def test_segments_of_nobody_are_reset_as_rfc_9293_says(ends: Opening) -> None:
    answer = packet.reset(Segment(ends, PSH | ACK, b"data", acknowledged=4242).packed())
    assert answer == expected_reset(ends, sequence=4242, acknowledged=0, flags=RST)
    answer = packet.reset(Segment(ends, FIN, b"data", sequence=2**32 - 2).packed())
    assert answer == expected_reset(ends, sequence=0, acknowledged=3, flags=RST | ACK)
    assert not packet.may_be_reset(Segment(ends, RST).packed())
    assert not packet.may_be_reset(Segment(ends, RST | ACK).packed())
    assert packet.may_be_reset(Segment(ends, FIN | ACK).packed())


def expected_reset(ends: Opening, sequence: int, acknowledged: int, flags: int) -> bytes:
    made = Segment(turned(ends), flags, sequence=sequence, acknowledged=acknowledged).packed()
    return repacked(made)


def repacked(data: bytes) -> bytes:
    """With the fields of :class:`Segment` that do not matter as our answers have them: window, id, flow label."""
    raw = bytearray(data)
    header = packet.header_length(raw)
    raw[header + 14 : header + 18] = bytes(4)
    if raw[0] >> 4 == 6:
        raw[:4] = struct.pack("!I", 6 << 28)
        pseudo = bytes(raw[8:40]) + struct.pack("!II", 20, packet.TCP)
    else:
        raw[4:6], raw[10:12] = b"\0\0", b"\0\0"
        raw[10:12] = struct.pack("!H", checksum(bytes(raw[:20])))
        pseudo = bytes(raw[12:20]) + struct.pack("!II", 20, packet.TCP)
    raw[header + 16 : header + 18] = struct.pack("!H", checksum(pseudo + bytes(raw[header:])))
    return bytes(raw)
