"""How the DNS process asks the tunnel process to route addresses before it answers with them.

One ``SOCK_SEQPACKET`` socketpair joins the two. A request is a 4-octet number and 16 octets an address (IPv4
mapped into IPv6, RFC 4291 2.5.5.2); the answer is the number alone, sent when every route that will be there is
there. Who gets no answer within a few hundredths of a second answers its client anyway.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv6Address

from .names import Address

_NUMBER = struct.Struct("!I")
BEGUN_ANEW = 0
"""A reply numbered so answers no request: the tunnel process has just begun, and routes nothing it was asked for."""
_MAPPED = b"\0" * 10 + b"\xff\xff"
MAX_ADDRESSES = 512
"""Most addresses in one request; ask again for more."""
MAX_REQUEST = _NUMBER.size + 16 * MAX_ADDRESSES


def encode_request(number: int, addresses: Iterable[Address]) -> bytes:
    """``number`` is 1 to 2**32 - 1; at most ``MAX_ADDRESSES`` addresses."""
    packed = [a.packed if a.version == 6 else _MAPPED + a.packed for a in addresses]
    if len(packed) > MAX_ADDRESSES:
        raise ValueError(f"{len(packed)} addresses in one request")
    return _NUMBER.pack(number) + b"".join(packed)


def decode_request(data: bytes) -> tuple[int, list[Address]]:
    """ValueError when ``data`` is no request."""
    if len(data) < _NUMBER.size or (len(data) - _NUMBER.size) % 16:
        raise ValueError(f"a request of {len(data)} octets")
    found: list[Address] = []
    for start in range(_NUMBER.size, len(data), 16):
        address = IPv6Address(data[start : start + 16])
        found.append(address.ipv4_mapped or address)
    return _NUMBER.unpack_from(data)[0], found


def encode_reply(number: int) -> bytes:
    return _NUMBER.pack(number)


def decode_reply(data: bytes) -> int:
    """ValueError when ``data`` is no reply."""
    if len(data) != _NUMBER.size:
        raise ValueError(f"a reply of {len(data)} octets")
    number: int = _NUMBER.unpack(data)[0]
    return number
