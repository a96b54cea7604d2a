"""The tunnel process: ``python -m resolverd_tunnel.worker --channel FD --tun FD --ifindex N --behind FD [--holds FD]``.

The daemon's descriptors are inherited; the end of the channel is the sign to stop.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import resource
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from resolverd import logs
from resolverd.channel import Channel
from resolverd.errors import ExitCode, ResolverdError
from resolverd.feed import Ask, AskConnections, Connections, LogLevel, Reach, Ready, Routable, Unauthorized
from resolverd.host import HostRoutes
from resolverd.names import Address
from resolverd.reporting import Reporter
from resolverd.sleep import notice_sleep, seconds_slept

from . import data_path, systems
from .dns_over_tcp import DnsOverTcp
from .finding import StreamFinder
from .gate import Gate, Wires
from .holds_server import HoldsServer
from .host_routes import RouteKeeper, RouteTable
from .inside import Inside
from .known import Known
from .transport import named

log = logging.getLogger(__name__)

NAME = "tunnel"
TIDY_INTERVAL = 30.0
UNAUTHORIZED_INTERVAL = 5.0
"""Seconds between two requests for fresh credentials."""
MOST_FLOWS = 8192
_RESERVED = 256
"""Descriptors that are not connections'."""


class Tunnel:
    """The parts of the tunnel process, and what they tell the daemon."""

    def __init__(self, options: argparse.Namespace, channel: Channel, table: RouteTable, inside: Inside) -> None:
        self._channel = channel
        self._transport_name, make = named(options.transport)
        self._known = Known(socket.socket(fileno=options.behind))
        self._finder = StreamFinder(self._known, make, self._on_unauthorized)
        self._inside = inside
        self._packets = inside.packet_loop(options.tun, self._known.is_alive, lambda ends: ends in self._gate)
        wires = Wires(inward=self._packets.inward, back=self._packets.back)
        self._gate = Gate(self._finder.open, inside, wires, most=_most_flows())
        self._dns = DnsOverTcp(self._known.is_dns, self._finder.open, self._packets.back)
        self._routes = RouteKeeper(table, options.ifindex, time.monotonic)
        self._changes = systems.watch_network(options.ifindex, self._on_network_change)
        self._known.use(self._routes.present)  # those of an earlier process: the device outlives us
        self._holds = HoldsServer(socket.socket(fileno=options.holds), self._hold) if options.holds >= 0 else None
        self._unauthorized = asyncio.Event()
        self._reporter = Reporter(NAME, channel, self._values)

    async def run(self) -> None:
        """Until the channel ends. Raises ResolverdError when the device is gone."""
        # What is here now stays: looking through it for what could be freed would keep an answer waiting for its route.
        gc.freeze()
        self._packets.start(self._gate.admit, self._dns.take)
        self._disown()
        await self._channel.send(Ready(NAME))
        parts = (
            self._receive(),
            self._reporter.run(),
            self._tidy(),
            self._ask(),
            notice_sleep(seconds_slept, self._on_wake),
        )
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            done, _ = await asyncio.wait([*tasks, self._packets.failed], return_when=asyncio.FIRST_COMPLETED)
            for ended in done:
                ended.result()
        except (EOFError, ConnectionError):
            log.debug("the daemon is gone")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._close()

    async def _close(self) -> None:
        self._packets.stop()
        self._changes.close()
        if self._holds:
            self._holds.close()
        await self._dns.close()
        await self._gate.close()
        await self._finder.close()
        self._known.close()

    async def _receive(self) -> None:
        while True:
            message = await self._channel.receive()
            if isinstance(message, Reach):
                self._finder.reach(message.access)
            elif isinstance(message, Routable):
                self._permit(message.routes)
            elif isinstance(message, Ask):
                self._reporter.ask()
            elif isinstance(message, AskConnections):
                await self._channel.send(Connections(tuple(self._connections())))
            elif isinstance(message, LogLevel):
                logs.set_level(message.level)

    def _connections(self) -> Iterator[dict[str, Any]]:
        now = time.monotonic()
        for ends, flow in self._gate.flows:
            target = self._finder.reached(ends)
            yield {
                "client": f"[{ends.client}]:{ends.client_port}"
                if ends.client.version == 6
                else f"{ends.client}:{ends.client_port}",
                "to": str(ends),
                "pod": str(target) if target else "",
                "up": flow.up,
                "down": flow.down,
                "age": round(now - flow.began, 3),
            }

    def _hold(self, addresses: Iterable[Address]) -> None:
        self._routes.hold(addresses)
        self._known.use(addresses)

    def _permit(self, routes: HostRoutes) -> None:
        try:
            self._routes.permit(routes)
        except OSError as error:
            log.error("changing routes: %s", error.strerror)
        if self._holds:
            self._holds.start()

    def _disown(self) -> None:
        try:
            self._gate.disown(self._routes.is_routed)
        except OSError as error:
            log.error("looking for an earlier process's connections: %s", error.strerror)

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_INTERVAL)
            used = {ends.address for ends, _ in self._gate.flows}
            self._known.tidy(used.__contains__)
            try:
                self._routes.tidy(used.__contains__)
            except OSError as error:
                log.error("tidying routes: %s", error.strerror)

    async def _ask(self) -> None:
        """Pass on that fresh credentials are wanted, now and then."""
        while True:
            await self._unauthorized.wait()
            self._unauthorized.clear()
            await self._channel.send(Unauthorized())
            await asyncio.sleep(UNAUTHORIZED_INTERVAL)

    def _on_wake(self, slept: float) -> None:
        log.info("awake again after %d s", slept)
        self._on_network_change()

    def _on_network_change(self) -> None:
        self._finder.hurry()
        for what, look in (("links", self._inside.look), ("routes", self._routes.look)):
            try:
                look()
            except OSError as error:
                log.error("following the host's %s: %s", what, error.strerror)

    def _on_unauthorized(self) -> None:
        self._unauthorized.set()

    def _values(self) -> dict[str, Any]:
        flows = [flow for _, flow in self._gate.flows]
        return {
            "state": self._packets.blocked or self._finder.state,
            "transport": self._transport_name,
            "data-path": self._inside.name,
            "routes": self._routes.shown(),
            "not-routed": self._routes.not_routed(),
            "streams": len(flows),
            "bytes": self._gate.carried + sum(flow.up + flow.down for flow in flows),
            "turned-away": self._gate.turned_away,
            "refused": self._finder.refusals.values(),
            "dropped": dict(self._packets.dropped),
        }


async def serve(options: argparse.Namespace) -> None:
    """Serve until the daemon is gone. ResolverdError when this host cannot; the daemon is told why."""
    channel = await Channel.over(socket.socket(fileno=options.channel))
    try:
        with (
            contextlib.closing(systems.open_route_table()) as table,
            contextlib.closing(systems.choose_inside(options.data_path, options.ifindex, table)) as inside,
        ):
            await Tunnel(options, channel, table, inside).run()
    except ResolverdError as error:
        with contextlib.suppress(ConnectionError):
            await channel.send(error)
        raise
    finally:
        await channel.close()


def _most_flows() -> int:
    """As many connections as there are descriptors for, two each; asks for as many as may be had."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return MOST_FLOWS if hard == resource.RLIM_INFINITY else max(16, min(MOST_FLOWS, (hard - _RESERVED) // 2))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="resolverd_tunnel.worker")
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--tun", type=int, required=True)
    parser.add_argument("--ifindex", type=int, required=True)
    parser.add_argument("--behind", type=int, required=True)
    parser.add_argument("--holds", type=int, default=-1)
    parser.add_argument("--transport", default="auto")
    parser.add_argument("--data-path", default=data_path.AUTO, choices=data_path.CHOICES)
    parser.add_argument("--log-level", default="info", choices=logs.LEVELS)
    options = parser.parse_args(arguments)
    logs.configure(options.log_level, "tunnel")
    try:
        asyncio.run(serve(options))
    except ResolverdError as error:
        log.error("%s", error)
        return error.code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
