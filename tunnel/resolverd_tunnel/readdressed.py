"""This host's own TCP as the place where connections end, for hosts where no private namespace can be made.

One TUN device: packets come out of it, are readdressed, and go back into it. The host sees them as connections from
outside, so a firewall that denies those must let them in.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable
from ipaddress import ip_address

from . import packet
from .congestion import set_congestion_control
from .copying import PLAIN, Framing, IsAlive, PacketLoop
from .device_linux import ADDRESSES, PEER_NETWORKS
from .host_routes import RouteTable
from .netlink import explain
from .packet import Opening
from .readdress import Readdressing, Stage, answer_echo
from .relay import reset_on_close

log = logging.getLogger(__name__)

PEERS = ("198.18.53.2", "fd53:7265:736f:6c76::2")
"""The peers that do not exist, beside the device's own addresses."""
ROUND = 30.0
"""Seconds between two sweeps of the table."""
PATIENCE = 0.5
"""Seconds in which the host's own TCP answers, however busy it is, unless somebody keeps it from it."""


class ReaddressLoop(PacketLoop):
    """Readdresses while the event loop runs."""

    def __init__(
        self,
        host: int,
        is_alive: IsAlive,
        is_in_use: Callable[[Opening], bool],
        inside: Readdressed,
    ) -> None:
        super().__init__(host, is_alive, inside.framing)
        self._is_in_use = is_in_use
        self._inside, self._table = inside, inside.table
        self._sweeping: asyncio.TimerHandle | None = None
        self._unanswered_after = -1
        """How many connections had been answered when one was not; -1: that has not happened."""

    @property
    def blocked(self) -> str:
        if self._unanswered_after != self._table.answered:
            return ""
        return f"no connection gets through: {firewall_hint(self._inside.link)}"

    def start(self, admit: Callable[[bytes], None], take: Callable[[bytes], bool] | None = None) -> None:
        super().start(admit, take)
        self._sweeping = asyncio.get_running_loop().call_later(ROUND, self._sweep)

    def stop(self) -> None:
        super().stop()
        if self._sweeping:
            self._sweeping.cancel()

    def inward(self, data: bytes | memoryview) -> None:
        """A segment of either direction, or a SYN (``bytes``) that was held until now."""
        view = data if isinstance(data, memoryview) else self._opened(data)
        if view is None:
            self.dropped["table-full"] += 1
        elif self._table.rewrite(view):
            self.back(view)
        elif packet.may_be_reset(view):  # of a connection that ended with an earlier process
            self.back(packet.reset(view))

    def _echo(self, request: memoryview) -> None:
        answer_echo(request)
        self.back(request)

    def _opened(self, syn: bytes) -> memoryview | None:
        """``syn``, to be changed, with its row in the table; None when there is no room."""
        ends, now = packet.opening(syn), asyncio.get_running_loop().time()
        connection = self._table.open(ends, self._inside.listener_of(ends), now, self._is_in_use)
        if connection is None:
            return None
        if not connection.answered and now - connection.opened > PATIENCE and not self.blocked:
            self._unanswered_after = self._table.answered
            log.warning("%s", self.blocked)
        return memoryview(bytearray(syn))

    def _sweep(self) -> None:
        self._table.sweep(self._is_in_use)
        self._sweeping = asyncio.get_running_loop().call_later(ROUND, self._sweep)


class Readdressed:
    """The host's own TCP, listening on the device's addresses."""

    name = "readdress"

    def __init__(self, link: str, framing: Framing = PLAIN) -> None:
        """``link`` is the device, whose packets come as ``framing`` says."""
        self.link = link
        self.framing = framing
        pairs = zip(map(ip_address, ADDRESSES), map(ip_address, PEERS), strict=True)
        self._stages: dict[int, Stage] = {own.version: Stage(own, peer) for own, peer in pairs}
        self.table = Readdressing(self._stages)
        self._listeners: dict[tuple[int, int], int] = {}
        """By IP version and the port that clients connect to."""

    @classmethod
    def create(cls, ifindex: int, routes: RouteTable, framing: Framing = PLAIN) -> Readdressed:
        """Set it up on a device. HostError or NoPermissionError when the peers cannot be routed to it."""
        failed = routes.add_routes(PEER_NETWORKS, ifindex)
        link = socket.if_indextoname(ifindex)
        for network, error in failed.items():
            without_ipv6 = network.version == 6 and error.errno != errno.EPERM
            if error.errno != errno.EEXIST and not without_ipv6:  # an earlier process did it
                raise explain(f"readdressing on {link}", error) from error
        return cls(link, framing)

    def packet_loop(self, host: int, is_alive: IsAlive, is_in_use: Callable[[Opening], bool]) -> ReaddressLoop:
        return ReaddressLoop(host, is_alive, is_in_use, self)

    def listen(self, family: socket.AddressFamily, port: int, backlog: int) -> socket.socket:
        version = 4 if family == socket.AF_INET else 6
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            _only_from(listener, self.link)
            set_congestion_control(listener)
            listener.bind((str(self._stages[version].own), 0))
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
        self._listeners[version, port] = listener.getsockname()[1]
        return listener

    def ends(self, client: socket.socket) -> Opening:
        address, port = client.getpeername()[:2]
        peer = ip_address(address)
        ends = self.table.find(peer.version, port) if peer == self._stages[peer.version].peer else None
        if ends is None:  # somebody on this host who connected to the listener itself
            reset_on_close(client)
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return ends

    def look(self) -> None:
        """Nothing: it needs the device alone."""

    def close(self) -> None:
        """The routes go with the device."""

    def listener_of(self, ends: Opening) -> int:
        """The port of the listener for a connection that was listened for."""
        return self._listeners[ends.address.version, ends.port]


def firewall_hint(link: str) -> str:
    """What to do about a firewall of the host."""
    return f"a host firewall that denies by default must accept input on {link}"


def _only_from(listener: socket.socket, link: str) -> None:
    """No other link's packets reach it; this host's own programs do, and are reset after the accept."""
    option = getattr(socket, "SO_BINDTODEVICE", None)
    if option is not None:
        with contextlib.suppress(PermissionError):
            listener.setsockopt(socket.SOL_SOCKET, option, link.encode())
