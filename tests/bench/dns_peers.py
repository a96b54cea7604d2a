"""The servers that ours is measured beside, each with the same names: dnsmasq, unbound, CoreDNS.

``DNSMASQ``, ``UNBOUND`` and ``COREDNS`` in the environment name a program; without them the first two are looked for on
the path and where ``scripts/setup.sh bench`` unpacks them. CoreDNS has its kubernetes and cache plugins, and asks an
API server of ours by a kubeconfig: once with as little else as can be, once as kubeadm sets up every cluster.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import yaml

UNPACKED = Path(__file__).resolve().parents[2] / ".cache" / "bench"
"""Programs that are not installed, one folder each, to be started by its ``run``."""
PATIENCE = 30.0
"""Seconds until a server must answer, and until an API server must be there."""
AHEAD = ("chrt", "--rr", "1", "taskset", "-c", "0")
"""Every server is on core 0, before what else is there."""


@dataclass(frozen=True)
class Peer:
    """Another server."""

    port: int
    command: Callable[[str, Path, int, Mapping[str, str]], list[str]]
    """Of the program, a folder for its files, the port and the names with their addresses."""
    hint: str
    """How to get it."""
    at_least: float
    """Of its queries per second, what ours are to reach."""
    is_in_cluster: bool = False
    """Whether it knows the names from an API server."""
    program: str = ""
    """Its name, where that is another than the peer's."""


def program(name: str) -> str | None:
    """Where the program ``name`` is; None when it is nowhere. SystemExit when the environment names none."""
    if named := os.environ.get(name.upper()):
        found = shutil.which(named)
        if found is None:
            raise SystemExit(f"{name.upper()}={named}: not a program that can be run")
        return found
    if name == "coredns":
        return None  # one that is on the path by chance may be of any age
    return shutil.which(name) or shutil.which(str(UNPACKED / name / "run"))


def _dnsmasq(program: str, folder: Path, port: int, names: Mapping[str, str]) -> list[str]:
    hosts = folder / "hosts"
    hosts.write_text("".join(f"{address} {name}\n" for name, address in names.items()))
    options = ["--no-daemon", "--no-resolv", "--no-hosts", "--conf-file=/dev/null", "--listen-address=127.0.0.1"]
    return [
        program,
        *options,
        f"--port={port}",
        "--bind-interfaces",
        f"--addn-hosts={hosts}",
        "--local-ttl=5",
        "--user=root",
    ]


def _unbound(program: str, folder: Path, port: int, names: Mapping[str, str]) -> list[str]:
    data = "".join(f'  local-data: "{name}. 5 IN A {address}"\n' for name, address in names.items())
    settings = (
        f"server:\n  interface: 127.0.0.1\n  port: {port}\n  do-daemonize: no\n  chroot: ''\n"
        f"  username: ''\n  directory: {folder}\n  pidfile: ''\n  num-threads: 1\n  use-syslog: no\n"
        "  access-control: 127.0.0.0/8 allow\n  so-reuseport: no\n  local-zone: cluster.local. static\n"
    )
    (folder / "unbound.conf").write_text(settings + data)
    return [program, "-c", str(folder / "unbound.conf")]


LEAST = """\
.:{port} {{
  bind 127.0.0.1
  errors
  kubernetes cluster.local in-addr.arpa ip6.arpa {{
    kubeconfig {kubeconfig}
    ttl 5
  }}
  cache 30
  loadbalance
}}
"""
"""The kubernetes plugin, and the cache plugin before it."""
KUBEADM = """\
.:{port} {{
  bind 127.0.0.1
  errors
  kubernetes cluster.local in-addr.arpa ip6.arpa {{
    kubeconfig {kubeconfig}
    pods insecure
    fallthrough in-addr.arpa ip6.arpa
    ttl 30
  }}
  prometheus 127.0.0.1:{metrics}
  forward . 127.0.0.1:9 {{
    max_concurrent 1000
  }}
  cache 30 {{
    disable success cluster.local
    disable denial cluster.local
  }}
  loadbalance
}}
"""
"""kubeadm's, kind's and minikube's, but for what takes no part in an answer: health, ready, loop, reload."""


def _coredns(corefile: str) -> Callable[[str, Path, int, Mapping[str, str]], list[str]]:
    def command(program: str, folder: Path, port: int, names: Mapping[str, str]) -> list[str]:
        settings = corefile.format(port=port, metrics=port + 10, kubeconfig=folder / "kubeconfig")
        (folder / "Corefile").write_text(settings)
        return [program, "-conf", str(folder / "Corefile")]

    return command


PEERS = {
    "dnsmasq": Peer(5352, _dnsmasq, "DNSMASQ=/path, or make bench-dns as root where there is apt", 0.95),
    "unbound": Peer(5353, _unbound, "UNBOUND=/path, or make bench-dns where there is apt", 0.95),
    "coredns": Peer(5354, _coredns(LEAST), "COREDNS=/path", 4.0, is_in_cluster=True),
    "coredns-kubeadm": Peer(5355, _coredns(KUBEADM), "COREDNS=/path", 4.0, is_in_cluster=True, program="coredns"),
}


@contextmanager
def running(name: str, program: str, folder: Path, names: Mapping[str, str]) -> Iterator[None]:
    """The peer ``name`` until the end of the block. What it says is in ``folder``, in a file of its name."""
    peer = PEERS[name]
    with _api(folder, names) if peer.is_in_cluster else nullcontext(), (folder / f"{name}.log").open("wb") as said:
        process = subprocess.Popen(
            [*AHEAD, *peer.command(program, folder, peer.port, names)], stdout=said, stderr=subprocess.STDOUT
        )
        try:
            yield
        finally:
            _end(process)


@contextmanager
def _api(folder: Path, names: Mapping[str, str]) -> Iterator[None]:
    """An API server that has the names as services, and its kubeconfig in ``folder``."""
    file, objects = folder / "kubeconfig", folder / "objects"
    objects.mkdir()
    namespaces = {name.split(".")[1] for name in names}
    made: list[object] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": each}} for each in sorted(namespaces)
    ]
    for name, address in names.items():
        service, namespace, *_ = name.split(".")
        spec = {"clusterIP": address, "ports": [{"name": "http", "port": 80}]}
        metadata = {"name": service, "namespace": namespace}
        made.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
    (objects / "services.yaml").write_text(yaml.safe_dump_all(made))
    command = [sys.executable, "-m", "resolverd.demo.cluster", "--objects", str(objects), "--kubeconfig", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + PATIENCE
        while not (file.exists() and file.read_text()):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("the API server for CoreDNS did not start")
            time.sleep(0.05)
        yield
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
