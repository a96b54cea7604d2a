"""IP packets as they come from a TUN device: what kind one is, and the answers we write ourselves. Pure.

Only the first octets are looked at (RFC 791, 8200, 9293, 792, 4443); payloads are never parsed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address, IPv6Address

from resolverd.names import Address

Octets = bytes | bytearray | memoryview

TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10


class Kind(Enum):
    """What the copy loop does depends on this."""

    SEGMENT = auto()
    """TCP, and not the opening of a connection."""
    SYN = auto()
    ECHO = auto()
    """An ICMP echo request."""
    UDP = auto()
    FRAGMENT = auto()
    MALFORMED = auto()
    OTHER = auto()


class Unreachable(Enum):
    """Why a packet is not delivered; the value is its code in ICMP and in ICMPv6."""

    ADDRESS = 1, 3
    PORT = 3, 4


@dataclass(frozen=True, slots=True)
class Opening:
    """The two ends of a connection that a SYN asks for."""

    client: Address
    client_port: int
    address: Address
    port: int

    def __str__(self) -> str:
        address = f"[{self.address}]" if self.address.version == 6 else str(self.address)
        return f"{address}:{self.port}"


def classify(packet: Octets, length: int) -> Kind:
    """The kind of the first ``length`` octets of ``packet``."""
    if length >= 20 and packet[0] >> 4 == 4:
        return _classify_v4(packet, length)
    if length >= 40 and packet[0] >> 4 == 6:
        return _classify_v6(packet, length)
    return Kind.MALFORMED


def _classify_v4(packet: Octets, length: int) -> Kind:
    header = (packet[0] & 15) * 4
    if header < 20 or packet[2] << 8 | packet[3] != length:
        return Kind.MALFORMED
    if packet[6] & 0x3F or packet[7]:  # more fragments, or an offset
        return Kind.FRAGMENT
    return _classify_payload(packet, packet[9], header, length)


def _classify_v6(packet: Octets, length: int) -> Kind:
    if packet[4] << 8 | packet[5] != length - 40:
        return Kind.MALFORMED
    if packet[6] == 44:
        return Kind.FRAGMENT
    return _classify_payload(packet, packet[6], 40, length)


def _classify_payload(packet: Octets, protocol: int, header: int, length: int) -> Kind:
    if protocol == TCP:
        if length < header + 20 or not 20 <= (packet[header + 12] >> 4) * 4 <= length - header:
            return Kind.MALFORMED
        return Kind.SYN if packet[header + 13] & (_SYN | _ACK | _RST) == _SYN else Kind.SEGMENT
    if protocol == UDP:
        return Kind.UDP if length >= header + 8 else Kind.MALFORMED
    version = packet[0] >> 4
    if protocol == (ICMP if version == 4 else ICMP6):
        if length < header + 8:
            return Kind.MALFORMED
        return Kind.ECHO if packet[header] == (8 if version == 4 else 128) else Kind.OTHER
    return Kind.OTHER


def destination(packet: Octets) -> Address:
    """Where a packet that is not malformed goes."""
    return IPv4Address(bytes(packet[16:20])) if packet[0] >> 4 == 4 else IPv6Address(bytes(packet[24:40]))


def source(packet: Octets) -> Address:
    """Where it comes from."""
    return IPv4Address(bytes(packet[12:16])) if packet[0] >> 4 == 4 else IPv6Address(bytes(packet[8:24]))


def opening(packet: Octets) -> Opening:
    """The ends of a packet of kind SYN or UDP."""
    header = header_length(packet)
    client_port, port = struct.unpack_from("!HH", packet, header)
    return Opening(source(packet), client_port, destination(packet), port)


def payload(datagram: Octets) -> bytes:
    """What a packet of kind UDP carries."""
    start = header_length(datagram)
    length = int.from_bytes(datagram[start + 4 : start + 6], "big")
    return bytes(datagram[start + 8 : start + length])


def datagram_back(datagram: Octets, answer: bytes) -> bytes:
    """The packet that carries ``answer`` to the sender of ``datagram``. At most 65,000 octets."""
    there, here = struct.unpack_from("!HH", datagram, header_length(datagram))
    build: Callable[[int], bytes] = lambda checksum: (  # noqa: E731
        struct.pack("!HHHH", here, there, 8 + len(answer), checksum) + answer
    )
    return _reply(datagram, UDP, build)


def reset(segment: Octets) -> bytes:
    """The RST that refuses ``segment`` (RFC 9293 3.10.7.1): the client of a SYN sees "connection refused"."""
    header = header_length(segment)
    client_port, port, sequence, acknowledged = struct.unpack_from("!HHII", segment, header)
    flags = segment[header + 13]
    if flags & _ACK:
        answer = acknowledged, 0, 5 << 4, _RST
    else:
        data = len(segment) - header - (segment[header + 12] >> 4) * 4
        counted = data + bool(flags & _SYN) + bool(flags & _FIN)
        answer = 0, (sequence + counted) & 0xFFFFFFFF, 5 << 4, _RST | _ACK
    build: Callable[[int], bytes] = lambda checksum: struct.pack(  # noqa: E731
        "!HHIIBBHHH", port, client_port, *answer, 0, checksum, 0
    )
    return _reply(segment, TCP, build)


def challenge(ends: Opening) -> bytes:
    """A SYN to the client of a connection that is open there, which has its TCP say where it stands (RFC 5961 4.2)."""
    client, address = ends.client.packed, ends.address.packed
    bare = (b"\x45" + bytes(11) if ends.client.version == 4 else b"\x60" + bytes(7)) + client + address
    build: Callable[[int], bytes] = lambda checksum: struct.pack(  # noqa: E731
        "!HHIIBBHHH", ends.port, ends.client_port, 0, 0, 5 << 4, _SYN, 0, checksum, 0
    )
    return _reply(bare, TCP, build)


def may_be_reset(segment: Octets) -> bool:
    """Whether an RST may be sent about a TCP segment: not about an RST, nor where no answer may go."""
    return not segment[header_length(segment) + 13] & _RST and may_be_answered(segment)


def unreachable(packet: Octets, why: Unreachable) -> bytes:
    """The ICMP or ICMPv6 message that says ``packet`` could not be delivered; quotes as much as may be quoted."""
    code, code6 = why.value
    if packet[0] >> 4 == 4:
        quoted = bytes(packet[: 576 - 28])  # RFC 1812 4.3.2.3
        head = struct.pack("!BBHI", 3, code, _checksum(struct.pack("!BBHI", 3, code, 0, 0) + quoted), 0)
        return _ip(packet, ICMP, head + quoted)
    quoted = bytes(packet[: 1280 - 48])  # RFC 4443 2.4 (c)
    build: Callable[[int], bytes] = lambda checksum: struct.pack("!BBHI", 1, code6, checksum, 0) + quoted  # noqa: E731
    return _reply(packet, ICMP6, build)


def may_be_answered(packet: Octets) -> bool:
    """Whether an error may be sent about ``packet`` (RFC 1122 3.2.2): not for groups, nor from nowhere."""
    for address in (source(packet), destination(packet)):
        if address.is_multicast or address.is_unspecified or address.is_loopback:
            return False
        if address == IPv4Address("255.255.255.255"):
            return False
    return True


def header_length(packet: Octets) -> int:
    """Octets of the IP header, extension headers aside."""
    return (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40


def _reply(packet: Octets, protocol: int, build: Callable[[int], bytes]) -> bytes:
    """A packet back to the sender; ``build`` makes the payload with its checksum over the pseudo-header."""
    bare = build(0)
    ends = destination(packet).packed + source(packet).packed
    pseudo = ends + struct.pack("!II", len(bare), protocol)
    checksum = _checksum(pseudo + bare)
    return _ip(packet, protocol, build(checksum or (0xFFFF if protocol == UDP else 0)))  # RFC 768: 0 means none


def _ip(packet: Octets, protocol: int, payload: bytes) -> bytes:
    """``payload`` on the way back to the sender of ``packet``."""
    ends = destination(packet).packed + source(packet).packed
    if packet[0] >> 4 == 6:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + ends + payload
    build: Callable[[int], bytes] = lambda checksum: (  # noqa: E731
        struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, checksum) + ends
    )
    return build(_checksum(build(0))) + payload


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
