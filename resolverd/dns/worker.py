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
from collections.abc import Iterator

from resolverd import logs
from resolverd.channel import Channel
from resolverd.cluster.objects import EndpointSlice
from resolverd.cluster.snapshot import Change
from resolverd.feed import Ask, Feed, Ready
from resolverd.reporting import Reporter

from .cluster_dns import ClusterDns
from .dispatch import Dispatcher
from .forward import Forwarder
from .holds_client import HoldsClient
from .responder import Responder
from .rules import DnsConfig
from .server import UdpServer
from .tcp import TcpServer

log = logging.getLogger(__name__)

SLICE = 2000
"""Objects and endpoints folded in one turn of the loop, during which nothing is answered: a few milliseconds."""

GREETING = 0.5
"""Seconds to wait for the settings, which the daemon sends at once, before anything is answered without them."""


async def take_in(responder: Responder, feed: Feed) -> None:
    """Fold ``feed`` in slices; it counts as in step when the last one is in."""
    before = responder.index.snapshot
    *first, last = list(_slices(feed.changes)) or [()]
    for changes in first:
        responder.fold(changes, synced=before.synced and feed.synced, serial=before.serial)
        await asyncio.sleep(0)
    responder.fold(last, synced=feed.synced, serial=feed.serial)
    if first:
        gc.freeze()


def _slices(changes: tuple[Change, ...]) -> Iterator[tuple[Change, ...]]:
    """``changes`` in parts of about ``SLICE`` objects and endpoints."""
    part: list[Change] = []
    size = 0
    for change in changes:
        part.append(change)
        size += 1 + (len(change.object.endpoints) if isinstance(change.object, EndpointSlice) else 0)
        if size >= SLICE:
            yield tuple(part)
            part, size = [], 0
    if part:
        yield tuple(part)


def report(responder: Responder, forwarder: Forwarder, lost: int) -> dict[str, object]:
    """The worker's part of ``status``."""
    counted = {"queries": responder.queries, "rcodes": dict(responder.rcodes)}
    return {**counted, "memo-hits": responder.hits, "lost-replies": lost, "forwarded": forwarder.counts.to_json()}


async def _receive(
    channel: Channel, responder: Responder, forwarder: Forwarder, reporter: Reporter, configured: asyncio.Event
) -> None:
    """Take in what the daemon says until it stops."""
    while True:
        try:
            message = await channel.receive()
        except EOFError:
            return
        if isinstance(message, DnsConfig):
            responder.configure(message)
            forwarder.configure(message)
            configured.set()
        elif isinstance(message, Feed):
            await take_in(responder, message)
        elif isinstance(message, Ask):
            reporter.ask()
        else:
            log.error("not for the DNS process: %s", type(message).__name__)


async def serve(channel: Channel, udp: list[socket.socket], tcp: list[socket.socket], holds: int | None) -> None:
    """Serve until the channel ends."""
    responder = Responder()
    dispatcher = Dispatcher(responder)
    if holds is not None:
        dispatcher.holds = HoldsClient(socket.socket(fileno=holds), responder.memo.clear)
    cluster = (ClusterDns(lambda: responder.index.snapshot, dispatcher.holds),) if dispatcher.holds else ()
    forwarder = dispatcher.forwarder = Forwarder(cluster, responder.probes)
    datagrams: list[UdpServer] = []
    streams: list[TcpServer] = []
    reporter = Reporter("dns", channel, lambda: report(responder, forwarder, sum(each.lost for each in datagrams)))
    configured = asyncio.Event()
    tasks = [asyncio.create_task(_receive(channel, responder, forwarder, reporter, configured))]
    try:
        # What was asked while nobody was here is still in the sockets: it deserves more than "not ready".
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(configured.wait(), GREETING)
        datagrams += [UdpServer(bound, dispatcher) for bound in udp]
        for listening in tcp:
            streams.append(TcpServer(dispatcher))
            await streams[-1].listen(listening)
        if not tasks[0].done():
            await channel.send(Ready("dns"))
        tasks.append(asyncio.create_task(reporter.run()))
        await tasks[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for server in datagrams:
            server.close()
        for stream in streams:
            stream.close()
        await forwarder.close()
        if dispatcher.holds is not None:
            dispatcher.holds.close()
        await channel.close()


async def _main(arguments: argparse.Namespace) -> None:
    channel = await Channel.over(socket.socket(fileno=arguments.channel))
    udp, tcp = ([socket.socket(fileno=fd) for fd in given] for given in (arguments.udp, arguments.tcp))
    await serve(channel, udp, tcp, arguments.holds)


def main() -> None:
    parser = argparse.ArgumentParser(prog="resolverd.dns.worker")
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--udp", "--more-udp", type=int, action="append", default=[])
    parser.add_argument("--tcp", "--more-tcp", type=int, action="append", default=[])
    parser.add_argument("--holds", type=int)
    parser.add_argument("--log-level", default="info", choices=logs.LEVELS)
    arguments = parser.parse_args()
    logs.configure(arguments.log_level)
    # What stays (the Snapshot) has no cycles: looking through a large one for some would stop answers for a second.
    gc.set_threshold(10_000, 10, 1_000_000)
    asyncio.run(_main(arguments))


if __name__ == "__main__":
    main()
