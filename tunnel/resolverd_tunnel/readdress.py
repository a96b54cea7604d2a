"""Readdressing: the two ends of a connection are exchanged for two of this host's own, and back. Pure.

A client's segment to 10.96.0.7:80 becomes one from a peer that does not exist to a listener on the device's own
address, so the host's own TCP ends it; what the listener says to that peer becomes an answer of 10.96.0.7:80. Both
ways go through one table. Checksums are updated, never computed (RFC 1624).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from resolverd.names import Address

from . import packet
from .packet import Octets, Opening

MOST = 16384
"""Connections in the table."""
KEEP = 4
"""Rounds that a connection nobody uses any more stays in it: the last segments are still on their way."""
FIRST_PORT, PORTS = 1024, 64512
"""Of the peer that does not exist: each stands for one client. Used in turn, so that none comes again soon."""
_WORD = struct.Struct("!H")


@dataclass(slots=True, eq=False)
class Connection:
    """A row of the table."""

    ends: Opening
    listener: int
    """The port that the host's own TCP accepts it on."""
    port: int
    """The peer's port that stands for the client."""
    opened: float
    round: int
    """When it was last seen."""
    answered: bool = False
    """Whether the host's own TCP has said anything."""


@dataclass(frozen=True, slots=True)
class _Way:
    """What to do with the segments of one direction."""

    ends: bytes
    """Both addresses and both ports, as they stand in the header after the change."""
    addresses: int
    """What the change of the addresses adds to a checksum's complement."""
    all: int
    """What the change of everything adds."""
    connection: Connection
    is_answer: bool


@dataclass(frozen=True, slots=True)
class Stage:
    """The two addresses, of one family, between which connections are played to the host's own TCP."""

    own: Address
    """The device's."""
    peer: Address
    """Routed to the device, and nobody's."""


class Readdressing:
    """The table. Rounds, not clocks, tell the age of its rows: see :meth:`sweep`."""

    def __init__(self, stages: dict[int, Stage], most: int = MOST) -> None:
        """``stages`` by IP version."""
        self._stages = stages
        self._most = most
        self._ways: dict[bytes, _Way] = {}
        self._by_port: dict[tuple[int, int], Connection] = {}
        """By IP version and the peer's port, in the order of opening."""
        self._next = dict.fromkeys(stages, 0)
        self._round = 0
        self.answered = 0
        """Connections that the host's TCP has answered."""

    def __len__(self) -> int:
        return len(self._by_port)

    def rewrite(self, segment: memoryview) -> bool:
        """Change a TCP segment in place; False, and nothing is changed, when it belongs to no connection known."""
        first = segment[0]
        if first == 0x45:
            way = self._ways.get(bytes(segment[12:24]))
            if way is None:
                return False
            segment[12:24] = way.ends
            _update(segment, 10, way.addresses)
            _update(segment, 36, way.all)
        elif first >> 4 == 6:
            way = self._ways.get(bytes(segment[8:44]))
            if way is None:
                return False
            segment[8:44] = way.ends
            _update(segment, 56, way.all)
        else:
            way = self._rewrite_with_options(segment)
            if way is None:
                return False
        connection = way.connection
        connection.round = self._round
        if way.is_answer and not connection.answered:
            connection.answered = True
            self.answered += 1
        return True

    def open(self, ends: Opening, listener: int, now: float, is_in_use: Callable[[Opening], bool]) -> Connection | None:
        """The row for a connection, made now if there is none; None when the table is full of rows in use."""
        known = self._ways.get(_key(ends.client, ends.address, ends.client_port, ends.port))
        if known is not None:
            if known.connection.listener == listener:
                return known.connection
            self._forget(known.connection)
        if len(self._by_port) >= self._most and not self._make_room(is_in_use):
            return None
        version = ends.client.version
        connection = Connection(ends, listener, self._free_port(version), now, self._round)
        self._by_port[version, connection.port] = connection
        (to, there), (back, here) = self._keys(connection)
        self._ways[to] = _Way(there, *_deltas(to, there), connection, is_answer=False)
        self._ways[back] = _Way(here, *_deltas(back, here), connection, is_answer=True)
        return connection

    def find(self, version: int, port: int) -> Opening | None:
        """The connection that a port of the peer stands for."""
        connection = self._by_port.get((version, port))
        return connection.ends if connection else None

    def sweep(self, is_in_use: Callable[[Opening], bool]) -> None:
        """Begin another round, and drop the rows that were neither used nor seen for :data:`KEEP` of them."""
        self._round += 1
        oldest = self._round - KEEP
        for connection in [c for c in self._by_port.values() if c.round < oldest and not is_in_use(c.ends)]:
            self._forget(connection)

    def _rewrite_with_options(self, segment: memoryview) -> _Way | None:
        """IPv4 with options: addresses and ports are not beside each other."""
        header = packet.header_length(segment)
        way = self._ways.get(bytes(segment[12:20]) + bytes(segment[header : header + 4]))
        if way is not None:
            segment[12:20], segment[header : header + 4] = way.ends[:8], way.ends[8:]
            _update(segment, 10, way.addresses)
            _update(segment, header + 16, way.all)
        return way

    def _make_room(self, is_in_use: Callable[[Opening], bool]) -> bool:
        """Drop the longest unseen sixteenth of what is not in use; whether anything was."""
        idle = sorted((c for c in self._by_port.values() if not is_in_use(c.ends)), key=lambda c: c.round)
        for connection in idle[: max(1, self._most // 16)]:
            self._forget(connection)
        return bool(idle)

    def _forget(self, connection: Connection) -> None:
        del self._by_port[connection.ends.client.version, connection.port]
        for key, _ in self._keys(connection):
            del self._ways[key]

    def _free_port(self, version: int) -> int:
        while True:
            port = FIRST_PORT + self._next[version] % PORTS
            self._next[version] += 1
            if (version, port) not in self._by_port:
                return port

    def _keys(self, connection: Connection) -> Iterator[tuple[bytes, bytes]]:
        """What each direction looks like, and shall look like: from the client, and from the listener."""
        ends, stage = connection.ends, self._stages[connection.ends.client.version]
        yield (
            _key(ends.client, ends.address, ends.client_port, ends.port),
            _key(stage.peer, stage.own, connection.port, connection.listener),
        )
        yield (
            _key(stage.own, stage.peer, connection.listener, connection.port),
            _key(ends.address, ends.client, ends.port, ends.client_port),
        )


def answer_echo(request: memoryview) -> None:
    """Make an ICMP or ICMPv6 echo request its own reply, in place (RFC 792, RFC 4443 4.2)."""
    if request[0] >> 4 == 4:
        header = packet.header_length(request)
        request[12:16], request[16:20] = bytes(request[16:20]), bytes(request[12:16])
        request[header] = 0
        _update(request, header + 2, 0x0800 ^ 0xFFFF)
        if not bytes(request[header:]).strip(b"\0"):  # the sum of nothing but zeros is the other zero
            _WORD.pack_into(request, header + 2, 0xFFFF)
    else:
        request[8:24], request[24:40] = bytes(request[24:40]), bytes(request[8:24])
        request[40] = 129
        _update(request, 42, _delta(b"\x80\0", b"\x81\0"))


def _key(source: Address, destination: Address, port: int, other_port: int) -> bytes:
    """Addresses and ports in the order of the headers."""
    return source.packed + destination.packed + struct.pack("!HH", port, other_port)


def _deltas(before: bytes, after: bytes) -> tuple[int, int]:
    return _delta(before[:-4], after[:-4]), _delta(before, after)


def _delta(before: bytes, after: bytes) -> int:
    """~m + m' of RFC 1624 over all words that change."""
    return _folded(sum(new + (old ^ 0xFFFF) for old, new in zip(_words(before), _words(after), strict=True)))


def _words(data: Octets) -> tuple[int, ...]:
    return struct.unpack(f"!{len(data) // 2}H", data)


def _folded(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _update(data: memoryview, at: int, delta: int) -> None:
    """HC' = ~(~HC + ~m + m') (RFC 1624, equation 3), which is right for all data but nothing but zeros."""
    total = (_WORD.unpack_from(data, at)[0] ^ 0xFFFF) + delta
    _WORD.pack_into(data, at, ((total & 0xFFFF) + (total >> 16)) ^ 0xFFFF)
