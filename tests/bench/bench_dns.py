"""Queries per second of the DNS process beside its peers: one core each, the same names, the same load.

Needs ``dnsperf``. Which other servers there are, and where they are looked for: ``dns_peers.py``. Every server runs on
core 0, the load on core 1; one warm-up, then RUNS rounds in which the servers take turns; medians are shown.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

from dns_load import Measured, require, saturate, steady
from dns_peers import AHEAD, PATIENCE, PEERS, program, running

from resolverd.channel import Channel
from resolverd.cluster.objects import Namespace, Service, ServicePort
from resolverd.cluster.snapshot import Change, Kind
from resolverd.dns import client
from resolverd.dns.rules import DnsConfig
from resolverd.errors import ResolverdError
from resolverd.feed import Feed
from resolverd.host import Server
from resolverd.sockets import listen

NAMES = 1000
RUNS = 5
SECONDS = 3
RATE = 5000
"""Queries per second that every server answers easily, for the latencies."""
OURS = "resolverd"
PORT = 5351
P99_LIMIT = 1.5
"""Times unbound's p99 that ours may be."""
EVERYTHING = DnsConfig(
    namespaces=frozenset({"bench"}),
    ranges=(ip_network("10.96.0.0/16"), ip_network("10.244.0.0/16")),
    upstreams=(Server(ip_address("127.0.0.1"), 9),),
    includes=frozenset({("corp", "internal")}),
    excluded_suffixes=frozenset({("com",), ("net",)}),
    excludes=frozenset({("public", "bench")}),
    mappings={("db", "local-dev"): ip_address("10.96.8.1")},
)
"""Every kind of rule that a name can fall under."""


def services() -> list[Service]:
    port = (ServicePort("http", "TCP", 80, 8080),)
    return [
        Service("bench", f"s{n}", "ClusterIP", (f"10.96.{n // 250 + 8}.{n % 250 + 1}",), False, "", port)
        for n in range(NAMES)
    ]


def names() -> dict[str, str]:
    return {f"{s.name}.bench.svc.cluster.local": s.cluster_ips[0] for s in services()}


@contextmanager
def ours(port: int) -> Iterator[None]:
    """The worker process, told about the services, until the end of the block."""
    listening = listen(Server(ip_address("127.0.0.1"), port))
    mine, theirs = socket.socketpair()
    handed = {"--udp": listening.udp.fileno(), "--tcp": listening.tcp.fileno(), "--channel": theirs.fileno()}
    arguments = [str(part) for option in handed.items() for part in option]
    command = [*AHEAD, sys.executable, "-m", "resolverd.dns.worker", *arguments]
    process = subprocess.Popen(command, pass_fds=tuple(handed.values()))
    listening.close()
    theirs.close()

    async def tell() -> None:
        channel = await Channel.over(mine.dup())
        await channel.send(EVERYTHING)
        namespace = Change(Kind.NAMESPACE, ("", "bench"), Namespace("bench"))
        await channel.send(Feed((namespace, *(Change(Kind.SERVICE, s.key, s) for s in services())), True, 1))
        await channel.receive()
        await channel.close()

    # The stream ends with its last descriptor, which is ours: the duplicate that told everything is closed.
    asyncio.run(tell())
    try:
        yield
    finally:
        mine.close()
        process.wait(10)


@contextmanager
def serving(folder: Path) -> Iterator[dict[str, int]]:
    """Every server there is, and its port; for the others it is said why they are not measured."""
    with ExitStack() as stack:
        servers = {OURS: PORT}
        stack.enter_context(ours(PORT))
        for name, peer in PEERS.items():
            found = program(peer.program or name)
            if found is None:
                print(f"{name}: NOT MEASURED, there is none here ({peer.hint})")
                continue
            place = folder / name
            place.mkdir()
            stack.enter_context(running(name, found, place, names()))
            wait_for(name, peer.port, place / f"{name}.log")
            servers[name] = peer.port
        yield servers


def wait_for(name: str, port: int, log: Path) -> None:
    """Until the server knows the last of the names. SystemExit, with what it said, when it never does."""
    (asked, address), until = list(names().items())[-1], time.monotonic() + PATIENCE
    while True:
        try:
            if client.query("127.0.0.1", port, asked, timeout=0.5).short() == [address]:
                return
        except ResolverdError:
            pass  # it does not listen yet
        if time.monotonic() > until:
            raise SystemExit(f"{name} does not answer for {asked}:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def measure(folder: Path, servers: dict[str, int]) -> dict[str, tuple[list[Measured], list[Measured]]]:
    """For each server its runs at saturation and its runs at ``RATE``."""
    questions = folder / "questions"
    questions.write_text("".join(f"{name} A\n" for name in names()))
    runs: dict[str, tuple[list[Measured], list[Measured]]] = {name: ([], []) for name in servers}
    for turn in range(RUNS + 1):
        for name, port in servers.items():
            full = saturate("127.0.0.1", port, questions, SECONDS)
            easy = steady("127.0.0.1", port, questions, SECONDS, RATE)
            if turn:
                runs[name][0].append(full)
                runs[name][1].append(easy)
    return runs


def main() -> None:
    require("dnsperf", "taskset", "chrt")
    with tempfile.TemporaryDirectory() as place, serving(Path(place)) as servers:
        runs = measure(Path(place), servers)
    rates = {name: statistics.median(run.rate for run in full) for name, (full, _) in runs.items()}
    slowest = {name: statistics.median(run.percentile(0.99) for run in easy) for name, (_, easy) in runs.items()}
    print(f"{'server':<16}{'queries/s':>12}{'ours/theirs':>14}{'lost':>6}{'p50':>10}{'p99':>10}   at {RATE:,}/s")
    for name, (full, easy) in runs.items():
        ratio, lost = rates[OURS] / rates[name], sum(run.lost for run in full)
        p50 = statistics.median(run.percentile(0.5) for run in easy)
        print(f"{name:<16}{rates[name]:>12,.0f}{ratio:>14.2f}{lost:>6}{p50:>7.0f} us{slowest[name]:>7.0f} us", end="")
        least = PEERS[name].at_least if name in PEERS else 0
        print(f"   at least {least}: {'met' if ratio >= least else 'NOT met'}" if least else "")
    if "unbound" in slowest:
        met = "met" if slowest[OURS] <= P99_LIMIT * slowest["unbound"] else "NOT met"
        print(f"p99 is {slowest[OURS] / slowest['unbound']:.2f} times unbound's, {P99_LIMIT} at most: {met}")


if __name__ == "__main__":
    main()
