"""The tunnel beside a plain connection: throughput, new connections, processor time. Needs root, iproute2, util-linux.

Everything runs in network namespaces of its own; nothing on this machine changes. *Data path*: TUN, private namespace
and relay, with a plain connection over a veth pair behind them, beside that veth pair without us; once with the kernel
moving segments, and once with copying them ourselves, as where eBPF may not be used. *port-forward*: the tunnel process
before the embedded cluster, beside the same websockets without a tunnel, and beside ``kubectl port-forward`` in both
ways it has, where kubectl is installed. The sides of a row take turns; medians of RUNS rounds are shown. The API server
speaks TLS, as real ones do. Everything that is measured runs ahead of whatever else the machine does, and with a
congestion control that does not pace, whatever the machine's default is.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tls_front import Authority

from resolverd.cluster.access import Access
from resolverd.demo.cluster import Tls, Traits
from resolverd_tunnel.copying import CopyLoop
from resolverd_tunnel.device_linux import create_device
from resolverd_tunnel.gate import Gate, Wires
from resolverd_tunnel.namespace import NAMESPACE, OFFLOAD, PrivateNamespace
from resolverd_tunnel.netlink import Netlink
from resolverd_tunnel.packet import Opening
from resolverd_tunnel.transport import MAX_SEND, Stream
from resolverd_tunnel.websocket import RECEIVE

RUNS = 5
SECONDS = 1.0
CONNECTIONS = 300
PAUSE = 1.5
"""Seconds before each measurement: what goes to kubectl goes on for a second after its client has gone."""
BLOCK = 2**20
NEAR, FAR, BEHIND, PORT = "192.0.2.1", "192.0.2.2", "10.96.0.7", 9000
CONGESTION = "/proc/sys/net/ipv4/tcp_congestion_control"
HERE = str(Path(__file__).resolve())
Figures = dict[str, float]


def serve(host: str, port: int) -> None:
    """What is measured against: ``d`` sends for ever, ``u`` takes for ever, ``e`` sends back."""
    listener = socket.create_server((host, port), backlog=1024)
    print("ready", flush=True)
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_serve_one, args=(client,), daemon=True).start()


def _serve_one(client: socket.socket) -> None:
    block = bytearray(BLOCK)
    with client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            kind = client.recv(1)
            while kind == b"d":
                client.sendall(block)
            while kind == b"u" and client.recv_into(block):
                pass
            if kind == b"e":
                client.sendall(kind)
                client.recv(1)  # as most protocols have it, the client ends the connection
        except ConnectionError:
            return


def load(host: str, port: int, kind: str, streams: int) -> Figures:
    """One measurement, from a process of its own."""
    if kind == "e":
        return _connect(host, port)
    totals = [0] * streams
    began = time.perf_counter()
    end = began + SECONDS

    def run(number: int) -> None:
        block = bytearray(BLOCK)
        with socket.create_connection((host, port)) as connection:
            connection.sendall(kind.encode())
            while time.perf_counter() < end:
                totals[number] += connection.recv_into(block) if kind == "d" else connection.send(block)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"octets": sum(totals), "seconds": time.perf_counter() - began}


def _connect(host: str, port: int) -> Figures:
    taken = []
    began = time.perf_counter()
    for _ in range(CONNECTIONS):
        before = time.perf_counter()
        with socket.create_connection((host, port)) as connection:
            connection.sendall(b"e")
            connection.recv(1)
        taken.append(time.perf_counter() - before)
    each = statistics.quantiles(taken, n=100)
    return {"rate": CONNECTIONS / (time.perf_counter() - began), "p50": each[49] * 1e3, "p99": each[98] * 1e3}


class _Plain:
    """A stream that is a plain connection; what it receives goes to the client as port-forward's does."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = memoryview(bytearray(RECEIVE))

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._connection, MAX_SEND)

    async def deliver(self, client: socket.socket, count: Callable[[int], None]) -> None:
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()

        def take() -> None:
            try:
                size = self._connection.recv_into(self._buffer)
                if size:
                    give(self._buffer[:size])
                elif not ended.done():
                    ended.set_result(None)
            except BlockingIOError:
                return
            except OSError as error:
                if not ended.done():
                    ended.set_exception(error)

        def give(rest: memoryview) -> None:
            try:
                sent = client.send(rest)
            except BlockingIOError:
                sent = 0
            except OSError as error:  # the client is gone
                loop.remove_reader(self._connection)
                loop.remove_writer(client)
                if not ended.done():
                    ended.set_exception(error)
                return
            count(sent)
            if sent == len(rest):
                loop.remove_writer(client)
                loop.add_reader(self._connection, take)
            else:
                loop.remove_reader(self._connection)
                loop.add_writer(client, give, rest[sent:])

        loop.add_reader(self._connection, take)
        try:
            await ended
        finally:
            loop.remove_reader(self._connection)
            loop.remove_writer(client)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._connection, data)

    async def close(self) -> None:
        self._connection.close()


async def _dial(ends: Opening) -> Stream:
    connection = socket.socket()
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    await asyncio.get_running_loop().sock_connect(connection, (FAR, ends.port))
    return _Plain(connection)


async def carry(path: str) -> None:
    """The data path ``path`` alone, until it is killed."""
    device = create_device("rbench0")
    Netlink().add_route(ip_network(BEHIND), device.ifindex)
    namespace = PrivateNamespace.create()
    if path == OFFLOAD:
        namespace.offload(device.ifindex)
    copying = CopyLoop(device.fd, namespace.tun, lambda _: True)
    gate = Gate(_dial, namespace, Wires(copying.inward, copying.back), most=1000)
    copying.start(gate.admit)
    print("ready", flush=True)
    await copying.failed


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has said ``ready``."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        if process.stdout.readline() != "ready\n":
            raise RuntimeError(f"{command} did not start")
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()


def processor_seconds(pid: int) -> float:
    """What the process has used; 0 when it has ended."""
    if not Path(f"/proc/{pid}").exists():
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


Measure = Callable[[str, int], Figures]


def loaded(host: str, port: int, pid: int = 0) -> Measure:
    """Measure by a process that connects to ``host``; with what process ``pid`` uses meanwhile."""

    def measure(kind: str, streams: int) -> Figures:
        time.sleep(PAUSE)
        before = processor_seconds(pid) if pid else 0.0
        command = [sys.executable, HERE, "load", host, str(port), kind, str(streams)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        found: Figures = json.loads(done.stdout) if not done.returncode else {}
        return {**found, "processor": processor_seconds(pid) - before if pid else 0.0}

    return measure


def table(title: str, ours: Measure, theirs: Measure, beside: str = "without us") -> None:
    """Print rows; the last two columns are what our process uses, and what theirs does, where there is one."""
    print(f"\n| {title} | ours | {beside} | ratio | processor, ours | theirs |\n|---|---|---|---|---|---|")
    for kind, what in (("d", "down"), ("u", "up")):
        for streams in (1, 8):
            rounds = _rounds(ours, theirs, kind, streams)
            if not rounds:
                print(f"| {what}, {streams} streams: nothing came through | | | | | |", flush=True)
                continue
            rates = [tuple(f["octets"] * 8 / f["seconds"] / 1e9 for f in pair) for pair in rounds]
            our, their = (statistics.median(rate[side] for rate in rates) for side in (0, 1))
            ratio = statistics.median(rate[0] / rate[1] for rate in rates)
            spent = _spent(rounds, lambda f: f["octets"] / 1e9, "s/GB")
            print(f"| {what}, {streams} streams, Gbit/s | {our:.2f} | {their:.2f} | {ratio:.2f} | {spent} |")
    if not (rounds := _rounds(ours, theirs, "e", 1)):
        print("| new connections: there were none | | | | | |", flush=True)
        return
    for name, unit in (("rate", "new connections/s"), ("p50", "p50 until the first octet, ms"), ("p99", "p99, ms")):
        our, their = (statistics.median(pair[side][name] for pair in rounds) for side in (0, 1))
        ratio = statistics.median(pair[0][name] / pair[1][name] for pair in rounds)
        spent = _spent(rounds, lambda _: CONNECTIONS / 1e3, "ms each") if name == "rate" else "|"
        print(f"| {unit} | {our:.2f} | {their:.2f} | {ratio:.2f} | {spent} |", flush=True)


def _rounds(ours: Measure, theirs: Measure, kind: str, streams: int) -> list[tuple[Figures, Figures]]:
    """Those in which both sides did something: kubectl ends with its session now and then."""
    pairs = [(ours(kind, streams), theirs(kind, streams)) for _ in range(RUNS)]
    return [pair for pair in pairs if all(f.get("octets") or f.get("rate") for f in pair)]


def _spent(rounds: list[tuple[Figures, Figures]], units: Callable[[Figures], float], unit: str) -> str:
    """Processor time of both sides for each of ``units``, as two cells."""
    each = [[f["processor"] / units(f) for f in pair] for pair in rounds]
    medians = [statistics.median(pair[side] for pair in each) for side in (0, 1)]
    return " | ".join(f"{median:.2f} {unit}" if median else "" for median in medians)


def data_path() -> None:
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as far:
        try:
            inside = ["nsenter", "--target", str(far.pid), "--net"]
            while Path(f"/proc/{far.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
                time.sleep(0.01)
            for line in (
                f"link add near0 type veth peer name far0 netns {far.pid}",
                f"address add {NEAR}/24 dev near0",
                "link set near0 up",
            ):
                subprocess.run(["ip", *line.split()], check=True)
            for line in ("link set lo up", f"address add {FAR}/24 dev far0", "link set far0 up"):
                subprocess.run([*inside, "ip", *line.split()], check=True)
            subprocess.run([*inside, "tee", CONGESTION], input=b"reno", check=True, stdout=subprocess.DEVNULL)
            with started(*inside, sys.executable, HERE, "serve", FAR, str(PORT)):
                for path in (OFFLOAD, NAMESPACE):
                    with started(sys.executable, HERE, "carry", path) as carrier:
                        table(f"data path: {path}", loaded(BEHIND, PORT, carrier.pid), loaded(FAR, PORT))
        finally:
            far.kill()


async def port_forward() -> None:
    from port_forward_double import kubectl_to, websockets_to  # the other side of the row
    from tunnel_rig import rig

    with tempfile.TemporaryDirectory() as folder, started(sys.executable, HERE, "serve", "127.0.0.1", str(PORT)):
        tls = speaking(Authority.make(Path(folder, "authority")))
        async with rig(Traits(tls=tls)) as tunnel:
            access = Access(tunnel.cluster.server, ca_pem=tls.ca_pem)
            await tunnel.start(access)
            tunnel.put_in_pod("echo-1", 7007, ("127.0.0.1", PORT))
            ours = loaded(str(await tunnel.address("echo")), 7, tunnel.process.pid)
            async with websockets_to(access) as plain:
                await asyncio.to_thread(table, "port-forward", ours, loaded("127.0.0.1", *plain))
            for title, websocket in (("kubectl, websocket", True), ("kubectl, upgrade", False)):
                async with kubectl_to(tunnel.cluster, websocket=websocket) as plain:
                    if plain.port:
                        theirs = loaded("127.0.0.1", *plain)
                        await asyncio.to_thread(table, title, ours, theirs, "kubectl port-forward")


def speaking(authority: Authority) -> Tls:
    """TLS with the certificate that ``authority`` has signed for loopback; an upgrade needs HTTP/1.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.folder / "server.pem", authority.folder / "server.key")
    context.set_alpn_protocols(["http/1.1"])
    return Tls(context, authority.pem)


def main() -> None:
    match sys.argv[1:]:
        case ["serve", host, port]:
            serve(host, int(port))
        case ["carry", path]:
            asyncio.run(carry(path))
        case ["load", host, port, kind, streams]:
            print(json.dumps(load(host, int(port), kind, int(streams))))
        case ["inside"]:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            Path(CONGESTION).write_text("reno")
            data_path()
            asyncio.run(port_forward())
        case _:
            ahead = ("chrt", "--rr", "1")
            subprocess.run([*ahead, "unshare", "--net", sys.executable, HERE, "inside"], check=True)


if __name__ == "__main__":
    main()
