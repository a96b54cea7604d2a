"""The control socket, metrics, tail, connections and loglevel, on a daemon without a tunnel and on one with."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from commands import NOBODY, resolverd, shell
from fakes import eventually
from prometheus_client.parser import text_string_to_metric_families
from test_cli_up import Laptop, laptop, traits

from resolverd import control, control_client, metrics
from resolverd.cli import observe
from resolverd.control_peers import may_ask
from resolverd.dns.records import Rcode, Type
from resolverd.dns.rules import DnsConfig
from resolverd.dns.tally import Latencies, Tallies
from resolverd.errors import NoPermissionError, UsageError
from resolverd.feed import AskConnections, Connections, LogLevel, Seen, Tail, Tailed
from resolverd.observation import MOST, Listener, Observation, line, question

__all__ = ["laptop", "traits"]

DOCUMENT: dict[str, Any] = {
    "state": "healthy",
    "version": "1",
    "checks": [{"id": "dns", "ok": True}, {"id": "cluster", "ok": False}],
    "dns": {
        "answers": [{"type": "A", "rcode": "NOERROR", "rule": 'a"b\n', "count": 7}],
        "latency": {"bounds": [0.1, 1.0], "counts": [3, 2, 1], "sum": 4.5},
        "memo-hits": 5,
    },
    "cluster": {
        "synced": True, "away": False, "age": 0, "watches": 3, "watches-begun": 4, "requests": 9, "events": 2,
        "namespaces": 1, "services": 2, "endpoints": 3,
    },
    "tunnel": {"state": "ready", "streams": 1, "routes": ["10.96.0.1/32"], "bytes": 10},
    "host": {
        "backend": "none", "domains": [], "withdrawn": None,
        "withheld": [{"reason": "icann-tld"}, {"reason": "icann-tld"}],
    },
}  # fmt: skip


def query(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes((len(part),)) + part.encode() for part in name.split("."))
    return struct.pack("!6H", 1, 256, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, kind, 1)


def told() -> tuple[Observation, list[object], list[object]]:
    dns: list[object] = []
    tunnel: list[object] = []
    return Observation("info", dns.append, tunnel.append, DnsConfig), dns, tunnel


def test_metrics_are_read_as_they_were_meant() -> None:
    samples = {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.text(DOCUMENT).decode())
        for sample in family.samples
    }
    assert samples["resolverd_dns_queries_total", ("NOERROR", 'a"b\n', "A")] == 7
    assert samples["resolverd_dns_latency_seconds_bucket", ("1.0",)] == 5
    assert samples["resolverd_dns_latency_seconds_bucket", ("+Inf",)] == 6
    assert samples["resolverd_dns_latency_seconds_sum", ()] == 4.5
    assert samples["resolverd_check", ("cluster",)] == 0
    assert samples["resolverd_host_withheld", ("icann-tld",)] == 2
    assert samples["resolverd_cluster_watches_begun_total", ()] == 4


def test_answers_are_counted_by_type_code_and_rule_and_strangers_make_no_series() -> None:
    tallies = Tallies()
    for kind in (1, 1, 28, 65000, 65001):
        tallies.of(kind, Rcode.NOERROR, "svc").answered += 1
    tallies.of(1, Rcode.NOERROR, "svc").again += 3
    tallies.of(1, Rcode.NXDOMAIN, "svc").answered += 1
    assert (tallies.queries, tallies.hits) == (9, 3)
    assert tallies.rcodes == {"NOERROR": 8, "NXDOMAIN": 1}
    assert {(each["type"], each["rcode"]): each["count"] for each in tallies.to_json()} == {
        ("A", "NOERROR"): 5, ("AAAA", "NOERROR"): 1, ("OTHER", "NOERROR"): 2, ("A", "NXDOMAIN"): 1,
    }  # fmt: skip


def test_latencies_fall_into_their_buckets() -> None:
    latencies = Latencies()
    latencies.add(0.00005, 3)
    latencies.add(0.00006)
    latencies.add(100.0)
    assert latencies.counts[:2] == [3, 1]
    assert latencies.counts[-1] == 1
    assert latencies.total == pytest.approx(100.00021)


@pytest.mark.parametrize(
    ("data", "rcode", "shown"),
    [
        (query("web.shop.svc.cluster.local"), 0, ("web.shop.svc.cluster.local.", "A", "NOERROR", "cluster-domain")),
        (query("example.com", 28), 5, ("example.com.", "AAAA", "REFUSED", "refused")),
        (query("example.com"), 0, ("example.com.", "A", "NOERROR", "upstream")),
        (query("x.svc", 65000), 3, ("x.svc.", "TYPE65000", "NXDOMAIN", "svc")),
        (b"short", 1, ("", "TYPE0", "FORMERR", "malformed")),
        (query("example.com")[:-2] + b"", 0, ("example.com.", "A", "NOERROR", "upstream")),
        (query("a")[:12] + b"\xc0\x0c\0\1\0\1", 1, ("", "TYPE0", "FORMERR", "malformed")),
    ],
)
def test_a_query_in_a_line(data: bytes, rcode: int, shown: tuple[str, ...]) -> None:
    made = line(Seen(0.5, "127.0.0.1", data, rcode, 0.000123), DnsConfig())
    assert (made["name"], made["type"], made["rcode"], made["rule"]) == shown
    assert (made["time"], made["us"]) == ("1970-01-01T00:00:00.500Z", 123)
    assert observe.shown(made, colour=False).startswith("00:00:00.500 127.0.0.1 ")


def test_a_hostile_name_stays_on_its_line() -> None:
    labels, kind = question(query("a\x1b[2Jb") + b"")
    assert (labels, kind) == ((b"a\x1b[2Jb",), Type.A)
    made = line(Seen(0, "::1", query("a\x1b[2J\nb"), 0, 0), DnsConfig())
    assert "\x1b" not in observe.shown(made, colour=False)
    assert "\n" not in observe.shown(made, colour=False)


@pytest.mark.parametrize(
    ("name", "suffix", "under"),
    [("web.shop.", "shop", True), ("web.shop.", ".SHOP.", True), ("bookshop.", "shop", False), ("x.", "", True)],
)
def test_names_are_filtered_by_labels(name: str, suffix: str, under: bool) -> None:
    assert observe.is_under(name, suffix) == under


async def test_a_slow_listener_loses_lines_and_is_told_how_many() -> None:
    listener = Listener()
    for number in range(MOST + 5):
        listener.put({"n": number})
    listener.drop(2)
    assert await listener.next() == {"n": 0, "dropped": 7}
    assert await listener.next() == {"n": 1}


async def test_queries_are_noted_only_while_somebody_listens() -> None:
    observation, dns, _ = told()
    async with observation.listening() as first:
        async with observation.listening():
            assert dns == [Tail(True)]
        assert list(observation.greeting(dns=True)) == [Tail(True)]
        observation.take(Tailed((Seen(0, "c", query("a.svc"), 0, 0),), 3))
        assert (await first.next())["dropped"] == 3
    assert dns == [Tail(True), Tail(False)]
    assert list(observation.greeting(dns=True)) == []


async def test_a_level_goes_to_all_and_to_those_that_are_started_again() -> None:
    observation, dns, tunnel = told()
    observation.set_level("error")
    assert dns == tunnel == [LogLevel("error")]
    assert list(observation.greeting()) == [LogLevel("error")]
    observation.set_level("info")
    with pytest.raises(UsageError):
        observation.set_level("loud")


async def test_everybody_who_asks_for_connections_gets_them() -> None:
    observation, _, tunnel = told()
    asked = [asyncio.create_task(observation.connections()) for _ in range(2)]
    await asyncio.sleep(0)
    assert tunnel == [AskConnections()] * 2
    observation.take(Connections(({"to": "x"},)))
    assert await asyncio.gather(*asked) == [[{"to": "x"}]] * 2


def test_connections_are_aligned() -> None:
    rows = [
        {"client": "1.2.3.4:5", "to": "10.0.0.1:80", "pod": "a/b:80", "up": 999, "down": 1_500_000, "age": 61},
        {"client": "1.2.3.4:55555", "to": "10.0.0.1:80", "pod": "", "up": 0, "down": 123_456, "age": 7200.5},
    ]
    shown = list(observe.table(rows))
    assert len({len(row) for row in shown}) == 1
    assert shown[1].split() == ["1.2.3.4:55555", "10.0.0.1:80", "0", "B", "123", "kB", "2", "h", "0", "min"]
    assert shown[2].split()[-6:] == ["B", "1.5", "MB", "1", "min", "1"] or "1.5 MB" in shown[2]


@dataclass
class Quiet:
    """A daemon that does nothing."""

    observation: Observation = field(default_factory=lambda: told()[0])

    async def status(self) -> dict[str, Any]:
        return DOCUMENT

    async def why(self, name: str) -> dict[str, Any]:
        return {"name": name}

    def stop(self) -> None:
        """Nothing runs."""

    async def reload(self) -> None:
        """Nothing is read."""


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Path]:
    async with control.serve(tmp_path / "resolverd.sock", Quiet()):
        yield tmp_path


async def ask(folder: Path, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    return await asyncio.to_thread(control_client.request, folder, method, path, body)


async def test_the_socket_is_its_owners_and_its_groups(folder: Path) -> None:
    assert (folder / "resolverd.sock").stat().st_mode & 0o777 == 0o660
    assert (await ask(folder, "GET", "/healthz"))["failed"] == [{"id": "cluster", "ok": False}]
    assert await ask(folder, "PUT", "/loglevel", {"level": "warning"}) == {"level": "warning"}
    with pytest.raises(UsageError, match="loud"):
        await ask(folder, "PUT", "/loglevel", {"level": "loud"})
    await ask(folder, "PUT", "/loglevel", {"level": "info"})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(
            ("127.0.0.1:9153", 200),
            ("127.9.9.9", 200),
            ("localhost", 200),
            ("LocalHost.:9153", 200),
            ("[::1]:9153", 200),
        ),
        *(("attacker.example:9153", 421), ("localhost.attacker.example", 421), ("127.0.0.1.attacker.example", 421)),
        *(("192.0.2.1", 421), ("::1", 421), ("[::1", 421), ("[192.0.2.1]", 421), ("127.0.0.1\r\nHost: x.example", 400)),
        ("", 200),
    ],
)
async def test_a_page_whose_name_leads_to_loopback_reads_no_metrics(host: str, status: int) -> None:
    """DNS rebinding: a browser then says so by the Host of its requests."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        where = listening.getsockname()
        async with control.serve_metrics(listening, Quiet()):
            for path, usual in (("/metrics", 200), ("/healthz", 503)):
                reader, writer = await asyncio.open_connection(*where)
                asked = f"GET {path} HTTP/1.1\r\nHost: {host}" if host else f"GET {path} HTTP/1.0"
                writer.write(f"{asked}\r\nConnection: close\r\n\r\n".encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                writer.close()
                assert int(head.split()[1]) == (usual if status == 200 else status)
                if status == 421:
                    assert body == b"resolverd: metrics: only for requests to localhost, or to an address on loopback\n"


async def test_who_is_refused_is_told_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "may_ask", lambda *_: False)
    with pytest.raises(NoPermissionError, match="may not ask"):
        await ask(folder, "GET", "/status")
    with pytest.raises(NoPermissionError, match="may not ask"):
        await asyncio.to_thread(lambda: next(control_client.lines(folder, "/tail")))


@pytest.mark.staged
@pytest.mark.parametrize(
    ("groups", "group", "may"),
    [("--clear-groups", 0, False), ("--groups=7", 7, True), ("--clear-groups", NOBODY, True), ("--groups=8", 7, False)],
)
async def test_a_peer_is_known_by_what_the_kernel_says(
    request: pytest.FixtureRequest, groups: str, group: int, may: bool
) -> None:
    """As if somebody had widened the socket's mode."""
    path = Path("/run") / f"peer-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o666)
        listening.listen()
        request.addfinalizer(path.unlink)
        command = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", groups, "/usr/bin/curl", "-sm5", "http://x/")
        process = await asyncio.create_subprocess_exec(*command, "--unix-socket", str(path))
        listening.settimeout(10)
        peer, _ = await asyncio.to_thread(listening.accept)
        with peer:
            assert may_ask(peer, group) == may
        await process.wait()
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert may_ask(ours, 12345), "our own user"


@pytest.mark.staged
async def test_a_running_daemon_is_observed(laptop: Laptop) -> None:
    (laptop.folder / "config.yaml").write_text("dns: {allow-collisions: [shop]}\ndaemon: {metrics: '127.0.0.1:9153'}\n")
    assert (await laptop.up()).code == 0
    lines: list[dict[str, Any]] = []

    def listen() -> None:
        for each in control_client.lines(Path("/run/resolverd"), "/tail"):
            lines.append(each)  # noqa: PERF402  # they are looked at while more come

    listening = asyncio.create_task(asyncio.to_thread(listen))
    await asyncio.sleep(0.3)
    reader, writer = await asyncio.open_connection("echo.shop.svc.cluster.local", 7)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    await shell("dig +short nope.shop.svc.cluster.local; dig +tcp +short web.shop @198.18.53.1")
    await eventually(lambda: {"NXDOMAIN", "NOERROR"} <= {each["rcode"] for each in lines})
    assert {"web.shop.", "nope.shop.svc.cluster.local."} <= {each["name"] for each in lines}
    (connection,) = json.loads((await resolverd("connections", "-o", "json")).out)
    assert (connection["pod"][:10], connection["up"], connection["down"]) == ("shop/echo-", 6, 6)
    writer.close()
    for path, code in (("metrics", "200"), ("healthz", "200"), ("status", "404")):
        got = await shell(f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:9153/{path}")
        assert got.out == code
    over_socket = await shell("curl -s --unix-socket /run/resolverd/resolverd.sock http://x/metrics")
    assert 'resolverd_dns_queries_total{rcode="NXDOMAIN"' in over_socket.out
    log = Path("/run/resolverd/daemon.log")
    assert (await resolverd("loglevel", "debug")).code == 0
    dns_worker = int((await laptop.children())[0])
    os.kill(dns_worker, signal.SIGKILL)  # the one that is started again keeps the level, and the tail goes on
    await eventually(lambda: "DEBUG" in log.read_text() or "starting it again" in log.read_text())
    lines.clear()

    async def seen() -> None:
        while not lines:
            await shell("dig +short +tries=1 +time=1 web.shop @198.18.53.1")

    await asyncio.wait_for(seen(), 20)
    assert (await resolverd("down")).code == 0
    await asyncio.wait_for(listening, 10)
