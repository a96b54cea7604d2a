"""``up`` and ``down`` on a whole host: a real systemd-resolved, a real TUN device, dig and curl."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import Finished, resolverd, running, shell

from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import Rule, User

pytestmark = pytest.mark.staged

WEB = "web.shop.svc.cluster.local"
DUMP = "ip -brief link; ip -4 route; ip -6 route; ip rule; nft list ruleset; resolvectl domain; cat /etc/resolv.conf"


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait; TimeoutError after what only a hang takes."""
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.05)


@dataclass
class Laptop:
    """The host of this stage."""

    cluster: DemoCluster
    folder: Path

    async def up(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Finished:
        return await resolverd(
            "up", "--kubeconfig", str(self.folder / "kubeconfig"), "--config", str(self.folder / "config.yaml"),
            *arguments, environment=environment,
        )  # fmt: skip

    async def daemon(self) -> int:
        return int(Path("/run/resolverd/lock").read_text())

    async def children(self) -> list[str]:
        pid = await self.daemon()
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.fixture
def traits() -> Traits:
    """What kind of cluster it is."""
    return Traits()


@pytest.fixture
async def laptop(tmp_path: Path, traits: Traits) -> AsyncIterator[Laptop]:
    (tmp_path / "config.yaml").write_text("dns: {allow-collisions: [shop]}\n")
    before = (await shell(DUMP)).out
    async with DemoCluster(traits=traits) as cluster:
        (tmp_path / "kubeconfig").write_text(cluster.kubeconfig(token="t"))
        yield Laptop(cluster, tmp_path)
        await resolverd("down")
    assert (await shell(DUMP)).out == before
    assert not Path("/run/resolverd").exists()


ECHO = "exec 3<>/dev/tcp/db-0.db.shop.svc.cluster.local/5432; echo hello >&3; head -n 1 <&3"
LEAST = {
    "t": User(
        "ada",
        (
            Rule(frozenset({"list", "watch"}), frozenset({"namespaces", "services", "endpointslices"})),
            Rule(frozenset({"get", "create"}), frozenset({"pods/portforward"})),
        ),
    )
}
"""Who may read what must be read and port-forward, and nothing else: not nodes, not ServiceCIDRs."""


async def lines(command: str) -> list[str]:
    return (await shell(command)).out.split()


async def test_up_means_that_it_works_and_down_that_nothing_is_left(laptop: Laptop) -> None:
    started = await laptop.up()
    assert started.code == 0, started
    assert "resolverd is up" in started.out
    assert "says the host's resolver" in started.err
    assert "accepts connections" in started.err
    service = laptop.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
    assert await lines(f"dig +short {WEB}") == [service]
    assert await lines("dig +short web.shop") == [service]
    assert await lines(f"dig +short -x {service}") == [f"{WEB}."]
    for url in (f"http://{WEB}/", "http://web.shop/", "http://web/"):
        assert "in namespace shop" in (await shell(f"curl -sS --max-time 10 {url}")).out
    assert f"{service} dev resolverd0" in (await shell("ip route")).out
    stopped = await resolverd("down")
    assert (stopped.code, stopped.out) == (0, "resolverd is down; the host is as it was\n")


@pytest.mark.parametrize("traits", [Traits(), Traits(tokens=LEAST)], ids=["all-rights", "least-rights"])
async def test_a_pod_by_its_name(laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0
    assert (await shell(f"bash -c '{ECHO}'")).out == "hello\n"


async def test_the_link_is_told_what_it_should_be_and_nothing_more(laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0
    told = (await shell("resolvectl status resolverd0")).out
    assert re.search(r"-DefaultRoute -LLMNR -mDNS -DNSOverTLS DNSSEC=no", told)
    domains = set(await lines("resolvectl domain resolverd0"))
    assert {"~cluster.local", "~svc", "~default", "~shop", "shop.svc.cluster.local"} <= domains
    assert not {"~rs", "~dev", "~.", "~local"} & domains


async def test_a_new_namespace_is_told_at_once(laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0

    async def told() -> bool:
        return "~staging" in await lines("resolvectl domain resolverd0")

    laptop.cluster.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "staging"}})
    await until(told)
    web: dict[str, Any] = {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web", "namespace": "staging"}}
    made = laptop.cluster.create({**web, "spec": {"ports": [{"port": 80}]}})

    async def resolves() -> bool:
        return await lines("dig +short web.staging") == [made["spec"]["clusterIP"]]

    await until(resolves)
    laptop.cluster.delete("Namespace", "staging")

    async def forgotten() -> bool:
        return not await told()

    await until(forgotten)


async def test_kill_9_leaves_nothing_but_its_folder(laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0
    pids = [str(await laptop.daemon()), *await laptop.children()]
    os.kill(int(pids[0]), signal.SIGKILL)

    async def gone() -> bool:
        return "resolverd0" not in (await shell(DUMP)).out and not any(Path(f"/proc/{pid}").exists() for pid in pids)

    await until(gone)
    assert (await resolverd("status")).code == 3
    assert (await laptop.up()).code == 0


@pytest.mark.parametrize("which", [0, 1])
async def test_a_worker_that_is_killed_comes_back(laptop: Laptop, which: int) -> None:
    assert (await laptop.up()).code == 0
    children = await laptop.children()
    os.kill(int(children[which]), signal.SIGKILL)

    async def works() -> bool:
        answered = await shell("curl -sS --max-time 5 http://web.shop/")
        return "in namespace shop" in answered.out and (await laptop.children()) != children

    await until(works)


async def test_a_device_that_somebody_deletes_ends_it_and_leaves_nothing(laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0
    assert (await shell("ip link del resolverd0")).code == 0

    async def ended() -> bool:
        return (await resolverd("status")).code == 3

    await until(ended)
    log = Path("/run/resolverd/daemon.log").read_text()
    assert log.splitlines()[-1].startswith("resolverd: tunnel device: it is gone")


async def test_a_service_that_accepts_nothing_is_not_the_end(laptop: Laptop) -> None:
    pod = {"labels": {"app": "aaa"}, "namespace": "shop", "name": "aaa"}
    laptop.cluster.create({"apiVersion": "v1", "kind": "Pod", "metadata": pod, "spec": {"containers": [{"name": "a"}]}})
    ports = [{"name": "http", "port": 80, "targetPort": 9999}]
    spec = {"selector": {"app": "aaa"}, "ports": ports}
    about = {"namespace": "shop", "name": "aaa"}
    laptop.cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": spec})
    started = await laptop.up()
    assert (started.code, "accepts connections" in started.err) == (0, True), started


@pytest.mark.parametrize("moment", [0.0, 0.2, 0.5, 0.8])
async def test_down_while_up_is_at_work_wins(laptop: Laptop, moment: float) -> None:
    up = asyncio.create_task(laptop.up())
    await asyncio.sleep(0.1 + moment)
    stopped = await resolverd("down")
    assert stopped.code == 0, stopped
    started = await up
    assert "Traceback" not in started.err
    if "is down" in stopped.out:
        assert started.code in (0, 1), started
        assert (await resolverd("status")).code == 3


async def test_up_that_is_interrupted_leaves_nothing(laptop: Laptop) -> None:
    laptop.cluster.faults.freeze()

    async def begun() -> bool:
        return Path("/run/resolverd").exists()

    async with running(laptop.folder, "up", "--kubeconfig", str(laptop.folder / "kubeconfig")) as up:
        await until(begun)
        assert await up.end() == 128 + signal.SIGTERM
    laptop.cluster.faults.thaw()
    assert not Path("/run/resolverd").exists()


async def test_up_again_is_no_harm(laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0
    again = await laptop.up()
    assert (again.code, "runs already" in again.err) == (0, True)


async def test_up_without_a_cluster_leaves_nothing(laptop: Laptop) -> None:
    await laptop.cluster.refuse()
    failed = await laptop.up()
    assert (failed.code, failed.out) == (5, "")
    assert laptop.cluster.server in failed.complaint
    assert not Path("/run/resolverd").exists()


async def test_when_nothing_accepts_connections_up_says_so(laptop: Laptop) -> None:
    for raw in laptop.cluster.objects("Pod"):
        metadata = raw["metadata"]
        pointed = {"metadata": {"annotations": {"demo.resolverd.io/state": "crashing"}}}
        laptop.cluster.patch("Pod", metadata["name"], pointed, metadata["namespace"])
    started = await laptop.up()
    assert started.code == 0, started
    assert "accepts connections" not in started.err
