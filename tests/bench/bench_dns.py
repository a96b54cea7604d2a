"""Queries per second of the DNS process beside dnsmasq and unbound: one core each, the same names, the same load.

Needs ``dnsperf``; ``dnsmasq`` and ``unbound`` (or ``UNBOUND=/path``) are measured when they are there. Every server
runs on core 0, the load on core 1; one warm-up, then RUNS rounds in which the servers take turns; medians are shown.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

from resolverd.channel import Channel
from resolverd.cluster.objects import Namespace, Service, ServicePort
from resolverd.cluster.snapshot import Change, Kind
from resolverd.dns.rules import DnsConfig
from resolverd.feed import Feed
from resolverd.host import Server
from resolverd.sockets import listen

NAMES = 1000
RUNS = 5
SECONDS = 3
LOAD = ("-l", str(SECONDS), "-c", "10", "-q", "100")
STEADY = ("-l", str(SECONDS), "-c", "10", "-Q", "5000")
PORTS = {"resolverd": 5351, "dnsmasq": 5352, "unbound": 5353}


def services() -> list[Service]:
    port = (ServicePort("http", "TCP", 80, 8080),)
    return [
        Service("bench", f"s{n}", "ClusterIP", (f"10.96.{n // 250}.{n % 250 + 1}",), False, "", port)
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
    command = ["taskset", "-c", "0", sys.executable, "-m", "resolverd.dns.worker", *arguments]
    process = subprocess.Popen(command, pass_fds=tuple(handed.values()))
    listening.close()
    theirs.close()

    async def tell() -> None:
        channel = await Channel.over(mine.dup())
        await channel.send(DnsConfig(namespaces=frozenset({"bench"})))
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
def peer(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(["taskset", "-c", "0", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def dnsmasq(program: str, folder: Path) -> list[str]:
    hosts = folder / "hosts"
    hosts.write_text("".join(f"{address} {name}\n" for name, address in names().items()))
    options = ["--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--listen-address=127.0.0.1"]
    port = f"--port={PORTS['dnsmasq']}"
    return [program, *options, port, "--bind-interfaces", f"--addn-hosts={hosts}", "--local-ttl=5", "--user=root"]


def unbound(program: str, folder: Path) -> list[str]:
    data = "".join(f'  local-data: "{name}. 5 IN A {address}"\n' for name, address in names().items())
    settings = (
        f"server:\n  interface: 127.0.0.1\n  port: {PORTS['unbound']}\n  do-daemonize: no\n  chroot: ''\n"
        f"  username: ''\n  directory: {folder}\n  pidfile: ''\n  num-threads: 1\n  use-syslog: no\n"
        "  access-control: 127.0.0.0/8 allow\n  so-reuseport: no\n  local-zone: cluster.local. static\n"
    )
    (folder / "unbound.conf").write_text(settings + data)
    return [program, "-c", str(folder / "unbound.conf")]


def measure(port: int, questions: Path, load: tuple[str, ...]) -> tuple[float, float]:
    """Queries per second, and average latency in microseconds."""
    command = ["taskset", "-c", "1", "dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(questions), *load]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rate = re.search(r"Queries per second:\s+([\d.]+)", out)
    latency = re.search(r"Average Latency \(s\):\s+([\d.]+)", out)
    lost = re.search(r"Queries lost:\s+(\d+)", out)
    if rate is None or latency is None or lost is None or int(lost[1]) > 0:
        raise SystemExit(f"dnsperf against port {port}:\n{out}")
    return float(rate[1]), float(latency[1]) * 1e6


def main() -> None:
    if shutil.which("dnsperf") is None:
        raise SystemExit("bench_dns: dnsperf not found (apt-get install --no-install-recommends dnsperf dnsmasq-base)")
    with tempfile.TemporaryDirectory() as place, ExitStack() as running:
        folder = Path(place)
        questions = folder / "questions"
        questions.write_text("".join(f"{name} A\n" for name in names()))
        servers = {"resolverd": PORTS["resolverd"]}
        running.enter_context(ours(PORTS["resolverd"]))
        for name, make in (("dnsmasq", dnsmasq), ("unbound", unbound)):
            program = os.environ.get(name.upper()) or shutil.which(name)
            if program:
                running.enter_context(peer(make(program, folder)))
                servers[name] = PORTS[name]
        rates: dict[str, list[float]] = {name: [] for name in servers}
        latencies: dict[str, list[float]] = {name: [] for name in servers}
        for turn in range(RUNS + 1):
            for name, port in servers.items():
                rate, _ = measure(port, questions, LOAD)
                _, latency = measure(port, questions, STEADY)
                if turn:
                    rates[name].append(rate)
                    latencies[name].append(latency)
        own = statistics.median(rates["resolverd"])
        print(f"{'server':<12}{'queries/s':>12}{'ours/theirs':>14}{'latency at 5,000/s':>22}")
        for name in servers:
            rate = statistics.median(rates[name])
            print(f"{name:<12}{rate:>12,.0f}{own / rate:>14.2f}{statistics.median(latencies[name]):>19.0f} us")


if __name__ == "__main__":
    main()
