"""A running daemon takes what changes in its files, and nobody who asks it notices more than the new answers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import resolverd
from dnslib import DNSRecord
from fakes import eventually
from test_cli_run import ALONE, Plain, plain

from resolverd import config
from resolverd.config import Loaded
from resolverd.config.known import KNOWN
from resolverd.demo.cluster import DemoCluster
from resolverd.reload import AT_ONCE, Reloading, merge
from resolverd.settings import Settings

NAME = "web.shop.svc.cluster.local"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Plain]:
    async with DemoCluster() as cluster, plain(tmp_path, cluster) as one:
        yield one


class Asking:
    """Asks over UDP, without a break, and over one TCP connection."""

    def __init__(self, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        self.address = (host, int(port))
        self.ttl = -1
        self.answers = 0

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[Asking]:
        task = asyncio.create_task(self._ask())
        try:
            yield self
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _ask(self) -> None:
        loop, query = asyncio.get_running_loop(), bytes(DNSRecord.question(NAME).pack())
        reader, writer = await asyncio.open_connection(*self.address)
        with closing(writer), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            one.setblocking(False)
            one.connect(self.address)
            while True:
                # Nothing loses a datagram on loopback: one that is not answered in this time never will be.
                async with asyncio.timeout(10):
                    await loop.sock_sendall(one, query)
                    self._take(await loop.sock_recv(one, 4096))
                    writer.write(len(query).to_bytes(2, "big") + query)
                    size = await reader.readexactly(2)
                    self._take(await reader.readexactly(int.from_bytes(size, "big")))

    def _take(self, reply: bytes) -> None:
        record = DNSRecord.parse(reply)
        assert (record.header.rcode, len(record.rr)) == (0, 1), record
        self.ttl = record.rr[0].ttl
        self.answers += 1

    async def until(self, ttl: int) -> None:
        async with asyncio.timeout(20):
            while self.ttl != ttl:
                await asyncio.sleep(0.005)


async def check(server: Plain, ok: bool) -> str:
    """What ``status`` says of the config, once it is ``ok`` or not."""
    async with asyncio.timeout(20):
        while True:
            found = next(item for item in (await server.status())["checks"] if item["id"] == "config")
            if found["ok"] == ok:
                return str(found["detail"])


async def test_no_query_and_no_connection_is_lost_while_the_file_is_written_anew(server: Plain, tmp_path: Path) -> None:
    file, new = tmp_path / "config.yaml", tmp_path / "new.yaml"
    async with Asking(server.listen).asking() as one:
        for ttl in range(100, 120):
            text = f"dns: {{upstreams: [], ttl: {ttl}, excludes: [x{ttl}.shop]}}\n"
            if ttl % 2:
                file.write_text(text)
            else:
                new.write_text(text)
                new.rename(file)
            await one.until(ttl)
        assert one.answers > 100
    assert (await server.status())["state"] == "healthy"


async def test_a_bad_file_changes_nothing_and_shows_until_it_is_mended(server: Plain, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    async with Asking(server.listen).asking() as one:
        file.write_text("dns: {upstreams: [], ttl: 77}\n")
        await one.until(77)
        file.write_text("dns: {upstreams: [], ttl: 78, serch: [x]}\nhost: {backend: 7}\n")
        detail = await check(server, ok=False)
        assert f"{file}:1:31: unknown key serch, did you mean search?; {file}:2:17: host.backend: 7 is none" in detail
        shown = await resolverd("status", "--state-dir", str(server.state))
        assert shown.code == 1
        assert "✗ config: " in shown.out
        # Whoever has such a mistake in the file that names the folder still finds the daemon.
        (tmp_path / "resolverd").mkdir()
        (tmp_path / "resolverd" / "config.yaml").write_text(f"daemon: {{state-dir: {server.state}}}\ndsn: {{}}\n")
        assert (await resolverd("status", environment={"XDG_CONFIG_HOME": str(tmp_path)})).code == 1
        assert one.ttl == 77
        file.write_text("dns: {upstreams: [], ttl: 79}\n")
        await one.until(79)
        assert await check(server, ok=True) == "in force"
    log = server.run.log.read_text()
    assert "the old settings stay in force" in log
    assert "dns.ttl: changed" in log


async def test_what_needs_a_restart_is_named_and_nothing_else(server: Plain, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    async with Asking(server.listen).asking() as one:
        file.write_text(
            "dns: {upstreams: [], ttl: 88, suffix-list: /none}\nhost: {backend: auto}\n"
            "tunnel: {device: other0, never-proxy: [10.0.0.0/8]}\n"
        )
        await one.until(88)
    # The back end is a flag's, which beats the file: it does not differ.
    assert await check(server, ok=True) == "in force, but for dns.suffix-list, tunnel.device: restart for those"
    assert "dns.suffix-list, tunnel.device: changed, in force after a restart" in server.run.log.read_text()
    file.write_text("dns: {upstreams: [], ttl: 89}\n")
    async with Asking(server.listen).asking() as one:
        await one.until(89)
    assert await check(server, ok=True) == "in force"


def test_every_setting_is_taken_or_waits() -> None:
    usual = Settings()
    for name, known in KNOWN.items():
        section = getattr(usual, known.section)
        other = type(section)(**{known.field: object()})
        fresh = Settings(**{known.section: other})
        taken, waiting = merge(usual, fresh)
        assert (known.of(taken) is known.of(fresh)) == (name in AT_ONCE)
        assert waiting == (() if name in AT_ONCE else (name,))


async def test_what_waits_for_a_restart_keeps_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"

    def read() -> Loaded:
        return config.load(str(file), {}, {"HOME": str(tmp_path)})

    file.write_text("tunnel: {device: one0}\ndns: {ttl: 7}\n")
    reloading = Reloading(read(), read, lambda _: None, lambda: None)
    file.write_text("\n\ndns: {ttl: 8}\ntunnel: {device: two0}\n")
    await reloading.reload()
    assert (reloading.settings.tunnel.device, reloading.settings.dns.ttl) == ("one0", 8)
    assert reloading.waiting == ("tunnel.device",)
    assert reloading.origins["tunnel.device"] == f"{file}:1:18"
    assert reloading.origins["dns.ttl"] == f"{file}:3:12"


async def test_nothing_waits_while_a_long_file_is_read_and_what_is_written_last_counts(tmp_path: Path) -> None:
    file, go_on, reads = tmp_path / "config.yaml", threading.Event(), list[int]()

    def read() -> Loaded:
        loaded = config.load(str(file), {}, {"HOME": str(tmp_path)})
        reads.append(loaded.settings.dns.ttl)
        assert go_on.wait(10), "the loop waits for the file, and so nobody says that it was read"
        return loaded

    file.write_text("dns: {ttl: 7}\n")
    reloading = Reloading(config.load(str(file), {}, {"HOME": str(tmp_path)}), read, lambda _: None, lambda: None)
    file.write_text("dns: {ttl: 8}\n")
    first = asyncio.create_task(reloading.reload())
    await eventually(lambda: reads == [8])
    file.write_text("dns: {ttl: 9}\n")
    second = asyncio.create_task(reloading.reload())
    await asyncio.sleep(0.05)
    assert reads == [8], "one after the other"
    go_on.set()
    await asyncio.gather(first, second)
    assert (reads, reloading.settings.dns.ttl) == ([8, 9], 9)


async def test_a_kubeconfig_that_the_file_names_anew_is_watched_for_its_extension(tmp_path: Path) -> None:
    file, other = tmp_path / "config.yaml", tmp_path / "other"
    file.write_text(f"cluster: {{kubeconfig: {tmp_path / 'first'}}}\n")

    def read() -> Loaded:
        return config.load(str(file), {}, {"HOME": str(tmp_path)})

    def extend(excluded: str) -> None:
        extension = {"name": "resolverd.io", "extension": {"dns": {"excludes": [excluded]}}}
        cluster = {"name": "c", "cluster": {"extensions": [extension]}}
        contexts = [{"name": "x", "context": {"cluster": "c"}}]
        other.write_text(yaml.safe_dump({"current-context": "x", "contexts": contexts, "clusters": [cluster]}))

    reloading = Reloading(read(), read, lambda _: None, lambda: None)
    watching = asyncio.create_task(reloading.run())
    try:
        extend("one.test")
        file.write_text(f"cluster: {{kubeconfig: {other}}}\n")
        await eventually(lambda: reloading.settings.dns.excludes == ("one.test",))
        assert reloading.waiting == ("cluster.kubeconfig",)
        extend("two.test")
        await eventually(lambda: reloading.settings.dns.excludes == ("two.test",))
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def extended(cluster: DemoCluster, extension: dict[str, Any]) -> str:
    document = yaml.safe_load(cluster.kubeconfig())
    document["clusters"][0]["cluster"]["extensions"] = [{"name": "resolverd.io", "extension": extension}]
    return yaml.safe_dump(document)


async def test_the_kubeconfig_s_extension_is_taken_when_it_changes(server: Plain, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    before = server.run.log.read_text().count("context resolverd-demo:")
    mapping = {"name": "web.local-dev", "alias-for": "192.0.2.7"}
    file.write_text(extended(server.cluster, {"dns": {"mappings": [mapping]}}))
    await server.until("web.local-dev", "192.0.2.7")
    file.write_text(extended(server.cluster, {"dns": {"mapings": [mapping]}}))
    assert f"{file}:" in await check(server, ok=False)
    assert await server.answer("web.local-dev") == "192.0.2.7"
    file.write_text(server.cluster.kubeconfig())
    await server.until("web.local-dev", "")
    assert await check(server, ok=True) == "in force"
    await eventually(lambda: server.run.log.read_text().count("context resolverd-demo:") > before)


async def test_the_kubeconfig_s_new_current_context_is_followed(tmp_path: Path) -> None:
    async with DemoCluster() as one, DemoCluster() as two:
        port = [{"port": 80}]
        made = [
            cluster.create(
                {"apiVersion": "v1", "kind": "Service", "spec": {"ports": port},
                 "metadata": {"name": name, "namespace": "shop"}}
            )["spec"]["clusterIP"]
            for cluster, name in ((one, "first"), (two, "second"))
        ]  # fmt: skip
        both = yaml.safe_load(one.kubeconfig())
        other = yaml.safe_load(two.kubeconfig().replace("resolverd-demo", "other"))
        for section in ("clusters", "contexts", "users"):
            both[section] += other[section]
        async with plain(tmp_path, one) as server, Asking(server.listen).asking():
            await server.until("first.shop.svc", made[0])
            (tmp_path / "kubeconfig").write_text(yaml.safe_dump({**both, "current-context": "other"}))
            await server.until("second.shop.svc", made[1])
            await server.until("first.shop.svc", "")
            assert (await server.status())["cluster"]["context"] == "other"
            (tmp_path / "kubeconfig").write_text("clusters: [\n")
            async with asyncio.timeout(20):
                while (await server.status())["state"] == "healthy":
                    await asyncio.sleep(0.05)
            assert await server.answer("second.shop.svc") == made[1]
            (tmp_path / "kubeconfig").write_text(yaml.safe_dump({**both, "current-context": "resolverd-demo"}))
            await server.until("first.shop.svc", made[0])
            await server.until("second.shop.svc", "")
            assert (await server.status())["state"] == "healthy"


async def test_sighup_still_reads_the_file(server: Plain, tmp_path: Path) -> None:
    import signal

    server.run.process.send_signal(signal.SIGHUP)
    async with asyncio.timeout(20):
        while "reload: nothing else than before" not in server.run.log.read_text():
            await asyncio.sleep(0.02)
    assert (tmp_path / "config.yaml").read_text() == ALONE
