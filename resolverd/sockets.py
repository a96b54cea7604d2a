"""The DNS server's sockets: bound by the daemon, served by the DNS process, and kept when that one restarts."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from resolverd.errors import HostError, NoPermissionError
from resolverd.host import Server

RECEIVE_BUFFER = 4 * 1024 * 1024
"""Octets of the UDP socket's queue: a burst of questions must not be lost while an answer is made."""
BACKLOG = 512
MESSAGE_BUFFER = 256 * 1024
"""Octets of messages on the way between two of our processes."""
TRIES = 8
"""Attempts at a port, 0 having been asked for, that is free for both UDP and TCP."""


@dataclass(frozen=True, slots=True)
class Listening:
    """A bound UDP socket and a listening TCP socket on the same address and port."""

    server: Server
    udp: socket.socket
    tcp: socket.socket

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


def listen(server: Server) -> Listening:
    """Bind UDP and TCP; port 0 takes a free one. Raises HostError (in use, no such address) and NoPermissionError."""
    for attempt in range(TRIES):
        udp = _bind(server, socket.SOCK_DGRAM)
        there = Server(server.address, udp.getsockname()[1])
        try:
            tcp = _bind(there, socket.SOCK_STREAM)
        except HostError:
            udp.close()
            if server.port or attempt == TRIES - 1:
                raise
            continue
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        tcp.listen(BACKLOG)
        return Listening(there, udp, tcp)
    raise AssertionError("unreachable: the last attempt returns or raises")


def listen_for_metrics(server: Server) -> socket.socket:
    """A listening TCP socket. Raises HostError and NoPermissionError."""
    try:
        bound = _bind(server, socket.SOCK_STREAM)
    except (HostError, NoPermissionError) as error:
        raise type(error)(f"metrics on {server}", error.why, "choose another ADDR:PORT for daemon.metrics") from error
    bound.listen()
    return bound


def message_pair() -> tuple[socket.socket, socket.socket]:
    """Two sockets joined together that keep messages whole: by sequenced packets, or by datagrams without them."""
    try:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError:  # not in the local domain of every system
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in pair:  # macOS takes datagrams of 2,048 octets unless it is told otherwise
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BUFFER)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MESSAGE_BUFFER)
    return pair


def _bind(server: Server, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if server.address.version == 6 else socket.AF_INET
    bound = socket.socket(family, kind)
    try:
        bound.setblocking(False)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((str(server.address), server.port))
    except OSError as error:
        bound.close()
        raise _explained(server, kind, error) from error
    return bound


def _explained(server: Server, kind: socket.SocketKind, error: OSError) -> HostError | NoPermissionError:
    what = f"DNS server on {server} ({'UDP' if kind == socket.SOCK_DGRAM else 'TCP'})"
    if error.errno in (errno.EACCES, errno.EPERM):
        return NoPermissionError(what, "ports below 1024 are root's", "run as root, or --dns-listen 127.0.0.1:5300")
    if error.errno == errno.EADDRINUSE:
        fix = f"see who with ss -lunpt 'sport = :{server.port}', or choose another with --dns-listen"
        return HostError(what, "the port is in use, by another resolverd maybe", fix)
    return HostError(what, str(error.strerror), "choose another address with --dns-listen")
