"""The packet loop: what comes out of the host's device is judged, and moved to where connections end.

The copy loop moves it unmodified to the private namespace's device and back. Only what comes from the host is looked
at, and only its headers (:mod:`resolverd_tunnel.packet`).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from resolverd.errors import HostError
from resolverd.names import Address

from . import packet
from .packet import Kind, Unreachable

log = logging.getLogger(__name__)

LARGEST = 65535
"""Octets of an IP packet."""
ECHO_PATIENCE = 0.05
"""Seconds after which an echo request to an address that was not known yet is looked at again."""
MOST_ECHOES = 256
"""Echo requests that wait for that."""
_BUDGET = 64
"""Packets read in one go, so that others get their turn."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How a packet is taken from a device, into a buffer, and given to it. OSError."""

    receive: Callable[[int, bytearray], int]
    send: Callable[[int, bytes | memoryview], int]


PLAIN = Framing(lambda descriptor, buffer: os.readv(descriptor, [buffer]), os.write)
"""A packet a read, a packet a write, and nothing else."""


IsAlive = Callable[[Address], bool | None]
"""Whether something is ready behind an address; None: that is not known yet, and will soon be."""


class PacketLoop(ABC):
    """Runs while the event loop does; ``failed`` is done when the host's device is gone."""

    def __init__(self, host: int, is_alive: IsAlive, framing: Framing = PLAIN) -> None:
        """``host`` is the descriptor of the host's TUN device; ``is_alive`` tells which addresses echo."""
        self._host = host
        self._framing = framing
        self._is_alive = is_alive
        self._echoes: deque[asyncio.TimerHandle] = deque()
        self._admit: Callable[[bytes], None] | None = None
        self._take: Callable[[bytes], bool] | None = None
        self._buffer = bytearray(LARGEST)
        self._view = memoryview(self._buffer)
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.dropped: Counter[str] = Counter()
        """Packets not copied, by kind or reason."""

    @property
    def blocked(self) -> str:
        """What keeps every connection from where they end, and what to do about it; empty: nothing."""
        return ""

    def start(self, admit: Callable[[bytes], None], take: Callable[[bytes], bool] | None = None) -> None:
        """Begin; ``admit`` takes every SYN, ``take`` the datagrams that somebody answers."""
        self._admit, self._take = admit, take
        asyncio.get_running_loop().add_reader(self._host, self._from_host)

    def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._host)
        for waiting in self._echoes:
            waiting.cancel()

    @abstractmethod
    def inward(self, data: bytes | memoryview) -> None:
        """Put a packet of TCP to where connections end."""

    def back(self, data: bytes | memoryview) -> None:
        """Put a packet into the host."""
        self._write(self._host, data)

    def _from_host(self) -> None:
        for _ in range(_BUDGET):
            length = self._read(self._host)
            if not length:
                return
            kind = packet.classify(self._buffer, length)
            if kind is Kind.SEGMENT:
                self.inward(self._view[:length])
            else:
                self._judge(kind, self._view[:length])

    @abstractmethod
    def _echo(self, request: memoryview) -> None:
        """Have an echo request answered."""

    def _judge(self, kind: Kind, data: memoryview) -> None:
        """What to do with a packet that is not just copied."""
        if kind in (Kind.MALFORMED, Kind.FRAGMENT, Kind.OTHER):
            self.dropped[kind.name.lower()] += 1
        elif not packet.may_be_answered(data):
            self.dropped["group"] += 1
        elif kind is Kind.SYN and self._admit:
            self._admit(bytes(data))
        elif kind is Kind.ECHO:
            self._judge_echo(data)
        elif kind is Kind.UDP and not (self._take and self._take(bytes(data))):
            self.back(packet.unreachable(data, Unreachable.PORT))

    def _judge_echo(self, data: memoryview, *, again: bool = False) -> None:
        is_alive = self._is_alive(packet.destination(data))
        if is_alive:
            self._echo(data)
        elif is_alive is not None:
            self.back(packet.unreachable(data, Unreachable.ADDRESS))
        elif again or len(self._echoes) >= MOST_ECHOES:
            self.dropped["echo"] += 1
        else:
            kept = memoryview(bytearray(data))
            self._echoes.append(asyncio.get_running_loop().call_later(ECHO_PATIENCE, self._judge_late, kept))

    def _judge_late(self, data: memoryview) -> None:
        self._echoes.popleft()  # each waits as long as the others
        self._judge_echo(data, again=True)

    def _read(self, descriptor: int) -> int:
        """The length of the packet now in the buffer; 0 when there is none."""
        try:
            return self._framing.receive(descriptor, self._buffer)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.stop()
            if not self.failed.done():
                why = error.strerror or str(error)
                self.failed.set_exception(HostError("tunnel device", f"it is gone: {why}", "start resolverd again"))
            return 0

    def _write(self, descriptor: int, data: bytes | memoryview) -> None:
        try:
            self._framing.send(descriptor, data)
        except OSError as error:  # the device is down, or the kernel does not like the packet
            self.dropped[errno.errorcode.get(error.errno or 0, "error").lower()] += 1


class CopyLoop(PacketLoop):
    """Copies between the host's device and the private namespace's."""

    def __init__(self, host: int, private: int, is_alive: IsAlive) -> None:
        """``host`` and ``private`` are descriptors of TUN devices."""
        super().__init__(host, is_alive)
        self._private = private

    def start(self, admit: Callable[[bytes], None], take: Callable[[bytes], bool] | None = None) -> None:
        super().start(admit, take)
        asyncio.get_running_loop().add_reader(self._private, self._from_private)

    def stop(self) -> None:
        super().stop()
        asyncio.get_running_loop().remove_reader(self._private)

    def inward(self, data: bytes | memoryview) -> None:
        self._write(self._private, data)

    def _echo(self, request: memoryview) -> None:
        self.inward(request)

    def _from_private(self) -> None:
        for _ in range(_BUDGET):
            length = self._read(self._private)
            if not length:
                return
            self.back(self._view[:length])
