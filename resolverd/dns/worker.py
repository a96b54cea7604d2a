"""The DNS process: told everything over a channel, answers on the sockets it inherited.

``python -m resolverd.dns.worker --channel FD --udp FD ... --tcp FD ... [--holds FD --behind FD | --direct]``. The end
of the channel is the order to stop. Neither the Kubernetes client nor an HTTP library is imported here: it starts in a
tenth of a second, and answers while the daemon is busy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from resolverd import logs
from resolverd.channel import Channel
from resolverd.feed import Ask, Feed, FoundDomain, LogLevel, Outdated, Ready, Tail, parts
from resolverd.reporting import Reporter
from resolverd.sleep import notice_sleep, seconds_slept

from .behind_server import BehindServer
from .cluster_dns import ClusterDns
from .dispatch import Dispatcher
from .domain import find_domain
from .forward import Forwarder
from .holds_client import HoldsClient
from .responder import Responder
from .rules import DnsConfig
from .server import UdpServer
from .tally import Latencies
from .tap import Tap
from .tcp import TcpServer
from .tidy import look_at_new_only, tidy_for_ever, tidy_new

log = logging.getLogger(__name__)

Observing = LogLevel | Tail

NICE = -10
"""Where there is no real time: ten times the weight of an ordinary process."""
SLICE = 125
"""Objects and endpoints folded in one turn of the loop, during which nothing is answered: two to three milliseconds."""

GREETING = 0.5
"""Seconds to wait for the settings, which the daemon sends at once, before anything is answered without them."""


async def take_in(responder: Responder, feed: Feed, behind: BehindServer | None = None) -> None:
    """Fold ``feed`` in slices; it counts as in step when the last one is in."""
    before = responder.index.snapshot
    *first, last = list(parts(feed.changes, SLICE)) or [()]
    if first:
        await _give_way()  # reading it took as long as folding a slice
    for changes in first:
        _fold(responder, Feed(changes, before.synced and feed.synced, before.serial), behind)
        await _give_way()
    _fold(responder, Feed(last, feed.synced, feed.serial), behind)
    tidy_new()


async def _give_way() -> None:
    """Let what was asked meanwhile be answered. The loop hears of it behind what is due already: us, at first."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _fold(responder: Responder, feed: Feed, behind: BehindServer | None) -> None:
    before = responder.index.snapshot
    touched = responder.fold(feed.changes, synced=feed.synced, serial=feed.serial)
    if behind is not None and touched:
        behind.look(before, touched)


def adopt(config: DnsConfig, responder: Responder, forwarder: Forwarder, cluster: Iterable[ClusterDns]) -> None:
    """Answer by ``config`` from now on."""
    if config.cluster != responder.config.cluster:  # its DNS service may have the address of the old one's
        for service in cluster:
            service.close()
    responder.configure(config)
    forwarder.configure(config)


def wake(slept: float, responder: Responder, forwarder: Forwarder) -> None:
    """The host has slept for so many seconds, which the loop's clock does not count and times to live do."""
    forwarder.cache.age(slept)
    responder.forwarded.clear()


def report(responder: Responder, forwarder: Forwarder, lost: int, latencies: Latencies) -> dict[str, object]:
    """The worker's part of ``status``."""
    counted = {"queries": responder.queries, "rcodes": dict(responder.rcodes)}
    more = {
        "answers": responder.tallies.to_json(),
        "latency": latencies.to_json(),
        "memo": len(responder.memo) + len(responder.forwarded),
    }
    counts = forwarder.counts.to_json()
    forwarded = {**counts, "cached": counts["cached"] + responder.tallies.others_again}
    sent = {"memo-hits": responder.hits, "lost-replies": lost, "forwarded": forwarded}
    return {**counted, **sent, **more}


def _observe(message: Observing, dispatcher: Dispatcher, tap: Tap) -> None:
    """What somebody wants to see."""
    if isinstance(message, LogLevel):
        logs.set_level(message.level)
        return
    tap.turn(message.on)
    dispatcher.tap = tap if message.on else None


async def _receive(
    channel: Channel,
    responder: Responder,
    reporter: Reporter,
    configure: Callable[[DnsConfig], None],
    learn: Callable[[Feed], Awaitable[None]],
    observe: Callable[[Observing], None],
) -> None:
    """Take in what the daemon says until it stops."""
    while True:
        try:
            message = await channel.receive()
        except EOFError:
            return
        if isinstance(message, DnsConfig):
            configure(message)
        elif isinstance(message, Feed):
            await learn(message)
            if responder.outdated:
                responder.outdated = False
                await channel.send(Outdated())
            # The next message may have arrived already, and reading it would not give way to any question.
            await _give_way()
        elif isinstance(message, Ask):
            reporter.ask()
        elif isinstance(message, Observing):
            observe(message)
        else:
            log.error("not for the DNS process: %s", type(message).__name__)


def _cluster_dns(responder: Responder, holds: HoldsClient | None, direct: bool) -> tuple[ClusterDns, ...]:
    if holds is None and not direct:
        return ()
    return (ClusterDns(lambda: responder.index.snapshot, holds, configured=lambda: responder.config.cluster_dns),)


async def _find_domain(channel: Channel, responder: Responder, cluster: tuple[ClusterDns, ...]) -> None:
    """Find the cluster's domain out, where that is wanted and a way leads there."""
    while cluster:
        await asyncio.sleep(1)
        if responder.config.wants_domain:
            found = await find_domain(
                cluster[0], lambda: responder.index.snapshot, lambda: responder.config.cluster_dns
            )
            await channel.send(FoundDomain(found))
            return


async def serve(
    channel: Channel,
    udp: list[socket.socket],
    tcp: list[socket.socket],
    holds: int | None = None,
    behind: int | None = None,
    *,
    direct: bool = False,
) -> None:
    """Serve until the channel ends. ``direct``: the cluster's addresses are reachable without a tunnel."""
    responder = Responder()
    dispatcher = Dispatcher(responder)
    if holds is not None:
        dispatcher.holds = HoldsClient(socket.socket(fileno=holds), responder.clear)
    told = BehindServer(socket.socket(fileno=behind), responder.index) if behind is not None else None
    cluster = _cluster_dns(responder, dispatcher.holds, direct)
    forwarder = dispatcher.forwarder = Forwarder(cluster, responder.probes)
    datagrams: list[UdpServer] = []
    streams: list[TcpServer] = []
    latencies, tap = dispatcher.latencies, Tap(channel)
    reporter = Reporter(
        "dns", channel, lambda: report(responder, forwarder, sum(each.lost for each in datagrams), latencies)
    )
    configured = asyncio.Event()

    def configure(config: DnsConfig) -> None:
        adopt(config, responder, forwarder, cluster)
        configured.set()

    learn = partial(take_in, responder, behind=told)
    observe = partial(_observe, dispatcher=dispatcher, tap=tap)
    tasks = [asyncio.create_task(_receive(channel, responder, reporter, configure, learn, observe))]
    try:
        # What was asked while nobody was here is still in the sockets: it deserves more than "not ready".
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GREETING):
                await configured.wait()
        datagrams += [UdpServer(bound, dispatcher) for bound in udp]
        for listening in tcp:
            streams.append(TcpServer(dispatcher))
            await streams[-1].listen(listening)
        if not tasks[0].done():
            await channel.send(Ready("dns"))
        tasks.append(asyncio.create_task(reporter.run()))
        tasks.append(asyncio.create_task(tap.run()))
        on_wake = partial(wake, responder=responder, forwarder=forwarder)
        tasks.append(asyncio.create_task(notice_sleep(seconds_slept, on_wake)))
        tasks.append(asyncio.create_task(_find_domain(channel, responder, cluster)))
        tasks.append(asyncio.create_task(tidy_for_ever(lambda: responder.queries)))
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
        for service in cluster:
            service.close()
        if dispatcher.holds is not None:
            dispatcher.holds.close()
        if told is not None:
            told.close()
        await channel.close()


def _go_first() -> None:
    """Answers wait for no bulk work on the same processors: every program on the host waits for them.

    Measured beside a full tunnel on two processors, the slowest hundredth of the answers took 1 ms so, 5 to 15 ms
    with nothing but a higher priority (docs/performance.md). Real time has a floor for everybody else (the kernel
    keeps 5 % of each processor back), but on a single processor a flood of questions would leave no more than that.
    """
    try:
        if len(os.sched_getaffinity(0)) > 1:
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
            return
    except (AttributeError, PermissionError):
        log.debug("no real time for the DNS process here")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, NICE)
    except PermissionError:
        log.debug("not root: answers have the priority of everything else")


async def _main(arguments: argparse.Namespace) -> None:
    channel = await Channel.over(socket.socket(fileno=arguments.channel))
    udp, tcp = ([socket.socket(fileno=fd) for fd in given] for given in (arguments.udp, arguments.tcp))
    await serve(channel, udp, tcp, arguments.holds, arguments.behind, direct=arguments.direct)


def main() -> None:
    parser = argparse.ArgumentParser(prog="resolverd.dns.worker")
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--udp", "--more-udp", type=int, action="append", default=[])
    parser.add_argument("--tcp", "--more-tcp", type=int, action="append", default=[])
    parser.add_argument("--holds", type=int)
    parser.add_argument("--behind", type=int)
    parser.add_argument("--direct", action="store_true")
    parser.add_argument("--log-level", default="info", choices=logs.LEVELS)
    arguments = parser.parse_args()
    logs.configure(arguments.log_level, "dns")
    _go_first()
    look_at_new_only()
    asyncio.run(_main(arguments))


if __name__ == "__main__":
    main()
