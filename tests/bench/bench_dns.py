"""Queries per second of the DNS process beside its peers: one core each, the same names, the same load.

Needs ``dnsperf``. ``dnsmasq``, ``unbound`` (or ``DNSMASQ=/path``, ``UNBOUND=/path``) and CoreDNS (``COREDNS=/path``:
its kubernetes and cache plugins against an API server of ours) are measured when they are there. Every server runs on
core 0, the load on core 1; one warm-up, then RUNS rounds in which the servers take turns; medians are shown.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

import yaml
from dns_load import Measured, require, saturate, steady

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
RATE = 5000
"""Queries per second that every server answers easily, for the latencies."""
PORTS = {"resolverd": 5351, "dnsmasq": 5352, "unbound": 5353, "coredns": 5354}


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
    command = ["chrt", "--rr", "1", "taskset", "-c", "0", sys.executable, "-m", "resolverd.dns.worker", *arguments]
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
    process = subprocess.Popen(
        ["chrt", "--rr", "1", "taskset", "-c", "0", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
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


@contextmanager
def api() -> Iterator[str]:
    """An API server that has the services, for CoreDNS; its URL."""
    with tempfile.TemporaryDirectory() as place:
        file, objects = Path(place) / "kubeconfig", Path(place) / "objects"
        objects.mkdir()
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}}
        made = [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": each.name, "namespace": "bench"},
                "spec": {"clusterIP": each.cluster_ips[0], "ports": [{"name": "http", "port": 80}]},
            }
            for each in services()
        ]
        (objects / "bench.yaml").write_text(yaml.safe_dump_all([namespace, *made]))
        command = [sys.executable, "-m", "resolverd.demo.cluster", "--objects", str(objects), "--kubeconfig", str(file)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            while not file.exists() or not file.read_text():
                time.sleep(0.05)
            yield str(yaml.safe_load(file.read_text())["clusters"][0]["cluster"]["server"])
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def coredns(program: str, folder: Path, server: str) -> list[str]:
    """As a cluster has it: the kubernetes plugin, with the cache plugin before it."""
    (folder / "Corefile").write_text(
        f".:{PORTS['coredns']} {{\n  bind 127.0.0.1\n  kubernetes cluster.local in-addr.arpa ip6.arpa {{\n"
        f"    endpoint {server}\n    ttl 5\n  }}\n  cache 30\n  loadbalance\n}}\n"
    )
    return [program, "-conf", str(folder / "Corefile")]


@contextmanager
def serving(folder: Path) -> Iterator[dict[str, int]]:
    """Every server there is, and its port."""
    with ExitStack() as running:
        servers = {"resolverd": PORTS["resolverd"]}
        running.enter_context(ours(PORTS["resolverd"]))
        for name in ("dnsmasq", "unbound", "coredns"):
            program = os.environ.get(name.upper()) or (shutil.which(name) if name != "coredns" else None)
            if not program:
                continue
            if name == "coredns":
                command = coredns(program, folder, running.enter_context(api()))
            else:
                command = (dnsmasq if name == "dnsmasq" else unbound)(program, folder)
            running.enter_context(peer(command))
            servers[name] = PORTS[name]
        time.sleep(2.0 if "coredns" in servers else 0.5)
        yield servers


def main() -> None:
    require("dnsperf", "taskset")
    with tempfile.TemporaryDirectory() as place, serving(Path(place)) as servers:
        questions = Path(place) / "questions"
        questions.write_text("".join(f"{name} A\n" for name in names()))
        full: dict[str, list[Measured]] = {name: [] for name in servers}
        easy: dict[str, list[Measured]] = {name: [] for name in servers}
        for turn in range(RUNS + 1):
            for name, port in servers.items():
                pair = (
                    saturate("127.0.0.1", port, questions, SECONDS),
                    steady("127.0.0.1", port, questions, SECONDS, RATE),
                )
                if turn:
                    full[name].append(pair[0])
                    easy[name].append(pair[1])
        own = statistics.median(run.rate for run in full["resolverd"])
        print(f"{'server':<12}{'queries/s':>12}{'ours/theirs':>14}{'lost':>6}{'p50':>10}{'p99':>10}   at {RATE:,}/s")
        for name in servers:
            rate, lost = statistics.median(run.rate for run in full[name]), sum(run.lost for run in full[name])
            p50, p99 = (statistics.median(run.percentile(part) for run in easy[name]) for part in (0.5, 0.99))
            print(f"{name:<12}{rate:>12,.0f}{own / rate:>14.2f}{lost:>6}{p50:>7.0f} us{p99:>7.0f} us")


if __name__ == "__main__":
    main()
