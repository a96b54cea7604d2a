"""The DNS process: told everything over a channel, answers on the sockets it inherited.

``python -m resolverd.dns.worker --channel FD --udp FD ... --tcp FD ... [--holds FD]``. The end of the channel is
the order to stop. Neither the Kubernetes client nor an HTTP library is imported here: it starts in a tenth of a
second, and answers while the daemon is busy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import socket

from resolverd import logs
from resolverd.channel import Channel
from resolverd.feed import Feed, Ready, Report

from .holds_client import HoldsClient
from .responder import Responder
from .rules import DnsConfig
from .server import UdpServer
from .service import Service
from .tcp import TcpServer

log = logging.getLogger(__name__)

SLICE = 1000
"""Changes folded in one turn of the loop, during which nothing is answered: a few milliseconds."""
MANY = 10_000
"""Changes after which the garbage collector is told that what is there stays."""
REPORT_PAUSE = 1.0
"""Seconds between two reports."""


async def take_in(responder: Responder, feed: Feed) -> None:
    """Fold ``feed`` in slices; it counts as in step when the last one is in."""
    before = responder.index.snapshot
    changes = feed.changes
    for start in range(0, len(changes) - SLICE, SLICE):
        responder.fold(changes[start : start + SLICE], synced=before.synced and feed.synced, serial=before.serial)
        await asyncio.sleep(0)
    rest = changes[(len(changes) - 1) // SLICE * SLICE :] if changes else ()
    responder.fold(rest, synced=feed.synced, serial=feed.serial)
    if len(changes) >= MANY:
        gc.collect()
        gc.freeze()


def report(responder: Responder, lost: int) -> Report:
    """The worker's part of ``status``."""
    rcodes = {rcode.name: count for rcode, count in sorted(responder.rcodes.items())}
    values = {"queries": responder.queries, "rcodes": rcodes, "memo-hits": responder.hits, "lost-replies": lost}
    return Report("dns", values)


async def _report(channel: Channel, responder: Responder, udp: list[UdpServer]) -> None:
    """Report at most once in ``REPORT_PAUSE``, when something changed."""
    told = None
    while True:
        now = report(responder, sum(server.lost for server in udp))
        if now != told:
            await channel.send(now)
            told = now
        await asyncio.sleep(REPORT_PAUSE)


async def _receive(channel: Channel, responder: Responder) -> None:
    """Take in what the daemon says until it stops."""
    while True:
        try:
            message = await channel.receive()
        except EOFError:
            return
        if isinstance(message, DnsConfig):
            responder.configure(message)
        elif isinstance(message, Feed):
            await take_in(responder, message)
        else:
            log.error("not for the DNS process: %s", type(message).__name__)


async def serve(channel: Channel, udp: list[socket.socket], tcp: list[socket.socket], holds: int | None) -> None:
    """Serve until the channel ends."""
    responder = Responder()
    service = Service(responder)
    if holds is not None:
        service.holds = HoldsClient(socket.socket(fileno=holds), responder.memo.clear)
    datagrams = [UdpServer(bound, service) for bound in udp]
    streams = []
    for listening in tcp:
        streams.append(TcpServer(service))
        await streams[-1].listen(listening)
    await channel.send(Ready("dns"))
    reporting = asyncio.create_task(_report(channel, responder, datagrams))
    try:
        await _receive(channel, responder)
    finally:
        reporting.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await reporting
        for server in datagrams:
            server.close()
        for stream in streams:
            stream.close()
        if service.holds is not None:
            service.holds.close()
        await channel.close()


async def _main(arguments: argparse.Namespace) -> None:
    channel = await Channel.over(socket.socket(fileno=arguments.channel))
    udp, tcp = ([socket.socket(fileno=fd) for fd in given] for given in (arguments.udp, arguments.tcp))
    await serve(channel, udp, tcp, arguments.holds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="resolverd.dns.worker")
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--udp", type=int, action="append", default=[])
    parser.add_argument("--tcp", type=int, action="append", default=[])
    parser.add_argument("--holds", type=int)
    logs.configure("info")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
