"""Packets: every kind is told apart, nothing that can come from a wire raises, and our own answers are sound."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resolverd_tunnel import packet
from resolverd_tunnel.packet import Kind, Opening, Unreachable

CLIENT4, POD4 = ip_address("198.18.53.1"), ip_address("10.96.0.7")
CLIENT6, POD6 = ip_address("fd53::1"), ip_address("fd00:10:96::7")


def v4(protocol: int, payload: bytes, *, fragment: int = 0, options: bytes = b"", to: bytes = POD4.packed) -> bytes:
    header = 20 + len(options)
    fields = (0x40 | header // 4, 0, header + len(payload), 7, fragment, 64, protocol, 0)
    return struct.pack("!BBHHHBBH", *fields) + CLIENT4.packed + to + options + payload


def v6(protocol: int, payload: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + CLIENT6.packed + POD6.packed + payload


def segment(flags: int, data: bytes = b"", options: bytes = b"") -> bytes:
    offset = (20 + len(options)) // 4 << 4
    return struct.pack("!HHIIBBHHH", 40000, 80, 0xFFFFFFFE, 0, offset, flags, 1000, 0, 0) + options + data


UDP = struct.pack("!HHHH", 40000, 53, 8, 0)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (v4(6, segment(0x02)), Kind.SYN),
        (v4(6, segment(0x02), options=bytes(8)), Kind.SYN),
        (v4(6, segment(0xC2)), Kind.SYN),  # with ECN, RFC 3168
        (v6(6, segment(0x02, options=bytes(12))), Kind.SYN),
        (v4(6, segment(0x12)), Kind.SEGMENT),
        (v4(6, segment(0x10, b"data")), Kind.SEGMENT),
        (v4(6, segment(0x06)), Kind.SEGMENT),
        (v6(6, segment(0x04)), Kind.SEGMENT),
        (v4(17, UDP), Kind.UDP),
        (v6(17, UDP), Kind.UDP),
        (v4(1, b"\x08" + bytes(7)), Kind.ECHO),
        (v4(1, b"\x00" + bytes(7)), Kind.OTHER),
        (v6(58, b"\x80" + bytes(7)), Kind.ECHO),
        (v6(58, b"\x85" + bytes(7)), Kind.OTHER),
        (v4(58, b"\x80" + bytes(7)), Kind.OTHER),
        (v4(132, bytes(12)), Kind.OTHER),
        (v4(6, segment(0x02), fragment=0x2000), Kind.FRAGMENT),
        (v4(17, UDP, fragment=1), Kind.FRAGMENT),
        (v4(6, segment(0x02), fragment=0x4000), Kind.SYN),  # "do not fragment" is no fragment
        (v6(44, bytes(8)), Kind.FRAGMENT),
        (v6(0, bytes(8)), Kind.OTHER),
        (v4(6, segment(0x02))[:-1], Kind.MALFORMED),
        (v4(6, b"\x00" * 19), Kind.MALFORMED),
        (v4(6, b"\x00" * 20), Kind.MALFORMED),
        (v4(17, b"\x00" * 7), Kind.MALFORMED),
        (v4(1, b"\x08"), Kind.MALFORMED),
        (b"\x41" + v4(6, segment(2))[1:], Kind.MALFORMED),
        (b"\x50" + bytes(60), Kind.MALFORMED),
        (b"", Kind.MALFORMED),
    ],
)
def test_kinds(data: bytes, kind: Kind) -> None:
    assert packet.classify(data, len(data)) is kind


@pytest.mark.parametrize(
    ("data", "ends"),
    [
        (v4(6, segment(2), options=bytes(4)), Opening(CLIENT4, 40000, POD4, 80)),
        (v6(6, segment(2)), Opening(CLIENT6, 40000, POD6, 80)),
    ],
)
def test_the_ends_of_an_opening(data: bytes, ends: Opening) -> None:
    assert packet.opening(data) == ends


def folded(data: bytes) -> int:
    """The one's complement sum, 0xffff for data that holds its own checksum (RFC 1071)."""
    total = sum(int.from_bytes(data[n : n + 2].ljust(2, b"\0")) for n in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo(answer: bytes) -> bytes:
    """The pseudo-header of a packet of ours (RFC 9293 3.1, RFC 8200 8.1) and its payload."""
    if answer[0] >> 4 == 4:
        return answer[12:20] + struct.pack("!BBH", 0, answer[9], len(answer) - 20) + answer[20:]
    return answer[8:40] + struct.pack("!II", len(answer) - 40, answer[6]) + answer[40:]


@given(st.binary(max_size=40), st.booleans())
def test_a_reset_goes_back_and_acknowledges_the_syn(data: bytes, newer: bool) -> None:
    syn = (v6 if newer else v4)(6, segment(0x02, data))
    answer = packet.reset(syn)
    assert packet.classify(answer, len(answer)) is Kind.SEGMENT
    assert packet.opening(answer) == Opening(*((POD6, 80, CLIENT6, 40000) if newer else (POD4, 80, CLIENT4, 40000)))
    start = 40 if newer else 20
    _, _, sequence, acknowledged, offset, flags, *_ = struct.unpack("!HHIIBBHHH", answer[start:])
    assert (sequence, acknowledged) == (0, (0xFFFFFFFE + 1 + len(data)) % 2**32)
    assert (offset, flags) == (5 << 4, 0x14)
    assert folded(pseudo(answer)) == 0xFFFF
    assert newer or folded(answer[:20]) == 0xFFFF


@pytest.mark.parametrize("ends", [Opening(CLIENT4, 40000, POD4, 80), Opening(CLIENT6, 40000, POD6, 80)])
def test_a_challenge_is_a_syn_from_the_far_end(ends: Opening) -> None:
    made = packet.challenge(ends)
    assert packet.classify(made, len(made)) is Kind.SYN
    assert packet.opening(made) == Opening(ends.address, 80, ends.client, 40000)
    assert folded(pseudo(made)) == 0xFFFF
    assert ends.client.version == 6 or folded(made[:20]) == 0xFFFF


@given(st.binary(max_size=3000), st.booleans(), st.sampled_from(Unreachable))
def test_an_unreachable_quotes_the_packet_and_stays_small(data: bytes, newer: bool, why: Unreachable) -> None:
    about = (v6 if newer else v4)(17, UDP + data)
    answer = packet.unreachable(about, why)
    assert (packet.source(answer), packet.destination(answer)) == ((POD6, CLIENT6) if newer else (POD4, CLIENT4))
    assert packet.classify(answer, len(answer)) is Kind.OTHER
    if newer:
        assert answer[40:42] == bytes((1, why.value[1]))
        assert folded(pseudo(answer)) == 0xFFFF
        assert answer[48:] == about[: len(answer) - 48]
        assert len(answer) == min(1280, 48 + len(about))
    else:
        assert answer[20:22] == bytes((3, why.value[0]))
        assert folded(answer[:20]) == folded(answer[20:]) == 0xFFFF
        assert answer[28:] == about[: len(answer) - 28]
        assert len(answer) == min(576, 28 + len(about))


@given(st.binary(max_size=3000), st.booleans())
def test_an_answer_to_a_datagram_goes_back_whole(data: bytes, newer: bool) -> None:
    asked = (v6 if newer else v4)(17, struct.pack("!HHHH", 40000, 53, 8 + len(data), 0) + data)
    assert packet.payload(asked) == data
    answer = packet.datagram_back(asked, data)
    assert packet.classify(answer, len(answer)) is Kind.UDP
    assert packet.opening(answer) == Opening(*((POD6, 53, CLIENT6, 40000) if newer else (POD4, 53, CLIENT4, 40000)))
    assert packet.payload(answer) == data
    assert folded(pseudo(answer)) == 0xFFFF
    assert answer[26:28] != b"\0\0" or newer, "in UDP over IPv4, 0 is no checksum"


@pytest.mark.parametrize("to", ["224.0.0.251", "255.255.255.255", "0.0.0.0", "127.0.0.1"])
def test_groups_and_nowhere_get_no_answer(to: str) -> None:
    assert not packet.may_be_answered(v4(17, UDP, to=ip_address(to).packed))
    assert packet.may_be_answered(v4(17, UDP))


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda tail: b"\x45\0\0" + tail)))
def test_whatever_comes_it_has_a_kind(data: bytes) -> None:
    _handle(data)


@given(
    st.sampled_from([v4(6, segment(2)), v6(6, segment(2)), v4(17, UDP), v6(58, b"\x80" + bytes(7))]),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4),
    st.integers(0, 80),
)
def test_broken_packets_have_a_kind_and_an_answer(data: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    broken = bytearray(data)
    for at, value in changes:
        broken[at % len(broken)] = value
    _handle(bytes(broken[: max(cut, len(broken) - cut)]))


def _handle(data: bytes) -> None:
    """What the copy loop would do with it."""
    kind = packet.classify(data, len(data))
    if kind is Kind.SYN:
        assert packet.classify(packet.reset(data), 60 if data[0] >> 4 == 6 else 40) is Kind.SEGMENT
        assert packet.opening(data).port == struct.unpack_from("!H", data, packet.header_length(data) + 2)[0]
    if kind in (Kind.SYN, Kind.UDP, Kind.ECHO) and packet.may_be_answered(data):
        assert packet.unreachable(data, Unreachable.PORT)
