"""``run``, ``query``, ``status`` and ``down`` as a plain user has them: a DNS server for the cluster, nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import NOBODY, Running, resolverd, running
from ports import free_port
from upstream_double import a, always, upstream

from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import Rule, User


@dataclass
class Plain:
    """A plain DNS server and its cluster."""

    cluster: DemoCluster
    run: Running
    state: Path
    listen: str

    async def answer(self, name: str, kind: str = "A") -> str:
        return (await resolverd("query", name, kind, "--state-dir", str(self.state))).out.strip()

    async def until(self, name: str, expected: str) -> None:
        async with asyncio.timeout(20):
            while await self.answer(name) != expected:
                await asyncio.sleep(0.05)

    async def status(self) -> dict[str, Any]:
        finished = await resolverd("status", "--state-dir", str(self.state), "-o", "json")
        assert finished.code in (0, 1), finished
        document: dict[str, Any] = json.loads(finished.out)
        return document


ALONE = "dns: {upstreams: []}\n"
"""Whatever DNS servers the machine has, no test asks them."""


@asynccontextmanager
async def plain(
    folder: Path,
    cluster: DemoCluster,
    user: int | None = None,
    config: str = ALONE,
    *,
    token: str = "",
    code: int = 0,
    tunnel: str = "--no-tunnel",
) -> AsyncIterator[Plain]:
    """A server that runs, as soon as ``resolverd status`` ends with ``code``."""
    settings = folder / "config.yaml"
    settings.write_text(config)
    file, state, listen = folder / "kubeconfig", folder / "state", f"127.0.0.1:{free_port()}"
    file.write_text(cluster.kubeconfig(token=token))
    arguments = ["--backend", "none", tunnel, "--dns-listen", listen, "--kubeconfig", str(file)]
    arguments += ["--config", str(settings)]
    async with running(folder, "run", *arguments, "--state-dir", str(state), user=user) as run:
        one = Plain(cluster, run, state, listen)
        async with asyncio.timeout(30):
            while (await resolverd("status", "--state-dir", str(state))).code != code:
                assert run.process.returncode is None, run.log.read_text()
                await asyncio.sleep(0.05)
        yield one


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Plain]:
    async with DemoCluster() as cluster, plain(tmp_path, cluster) as one:
        yield one


async def test_the_names_of_the_cluster(server: Plain) -> None:
    address = server.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
    for name in ("web.shop.svc.cluster.local", "web.shop.svc", "kubernetes.default"):
        assert (await server.answer(name)).startswith("10.96.")
    assert await server.answer("web.shop.svc.cluster.local") == address
    srv = await server.answer("_http._tcp.web.shop.svc.cluster.local", "SRV")
    assert srv.endswith(" 80 web.shop.svc.cluster.local.")
    pointer = ".".join(reversed(address.split("."))) + ".in-addr.arpa"
    assert await server.answer(pointer, "PTR") == "web.shop.svc.cluster.local."
    assert (await server.answer("mail.shop.svc.cluster.local", "CNAME")).endswith(".")
    denied = await resolverd("query", "absent.shop.svc.cluster.local", "--state-dir", str(server.state))
    assert (denied.code, denied.out) == (1, "")
    assert "NXDOMAIN" in denied.err


async def test_the_short_names_of_a_withheld_namespace_are_nobody_s(server: Plain) -> None:
    assert (await server.answer("web.rs.svc.cluster.local")).startswith("10.96.")
    refused = await resolverd("query", "docs.rs", "--state-dir", str(server.state))
    assert (refused.code, refused.out) == (1, "")
    assert "REFUSED (not the cluster's to answer: resolverd why " in refused.err


OTHERS = """
dns:
  upstreams: ["127.0.0.1:{port}"]
  excludes: [web.shop]
  exclude-suffixes: [.staging]
  include-suffixes: [.corp.test]
  mappings:
    - {{name: web.local-dev, alias-for: web.shop.svc.cluster.local}}
    - {{name: box.local-dev, alias-for: 192.0.2.44}}
"""


async def test_names_of_others_and_names_of_one_s_own(tmp_path: Path) -> None:
    theirs = "192.0.2.1"
    async with (
        DemoCluster() as cluster,
        upstream(always(a(theirs))) as other,
        plain(tmp_path, cluster, config=OTHERS.format(port=other.port)) as server,
    ):
        address = cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
        for name in ("www.example.com", "web.shop", "web.staging", "docs.rs", "wpad.shop.svc.cluster.local"):
            assert await server.answer(name) == theirs
        assert await server.answer("web.shop.svc") == address
        assert await server.answer("web.local-dev") == f"web.shop.svc.cluster.local.\n{address}"
        assert await server.answer("box.local-dev") == "192.0.2.44"
        assert (await server.answer("mail.shop.svc")).endswith(f"\n{theirs}")
        failed = await resolverd("query", "git.corp.test", "--state-dir", str(server.state))
        assert (failed.code, "SERVFAIL" in failed.err) == (1, True), "only the cluster's DNS service would know"
        assert (await server.status())["dns"]["forwarded"]["failed"] == 1


POD_RECORDS = "dns: {{upstreams: [], pod-records: {mode}}}\n"


async def test_pod_records_can_be_switched_while_it_runs(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    async with DemoCluster() as cluster, plain(tmp_path, cluster) as server:
        address = cluster.get("Pod", "web-1", "shop")["status"]["podIP"]
        there, nowhere = (f"{text.replace('.', '-')}.shop.pod.cluster.local" for text in (address, "10.9.9.9"))
        assert (await server.answer(there), await server.answer(nowhere)) == (address, "10.9.9.9")
        for mode, expected in (("verified", (address, "")), ("disabled", ("", "")), ("verified", (address, ""))):
            config.write_text(POD_RECORDS.format(mode=mode))
            server.run.process.send_signal(signal.SIGHUP)
            await server.until(nowhere, expected[1])
            await server.until(there, expected[0])
            checks = [check["id"] for check in (await server.status())["checks"]]
            assert ("pods" in checks) == (mode == "verified")
        cluster.delete("Pod", "web-1", "shop")
        await server.until(there, "")


READER = User("ada", (Rule(frozenset({"list", "watch"}), frozenset({"namespaces", "services", "endpointslices"})),))
"""May read what names need, and nothing else."""


async def test_pod_records_that_nobody_may_verify_are_unknown_and_status_says_why(tmp_path: Path) -> None:
    async with (
        DemoCluster(traits=Traits(tokens={"t": READER})) as cluster,
        plain(tmp_path, cluster, config=POD_RECORDS.format(mode="verified"), token="t", code=1) as server,
    ):
        await server.until("web.shop.svc", cluster.get("Service", "web", "shop")["spec"]["clusterIP"])
        asked = await resolverd("query", "10-244-0-1.shop.pod.cluster.local", "--state-dir", str(server.state))
        assert (asked.code, "SERVFAIL" in asked.err) == (1, True)
        (check,) = [check for check in (await server.status())["checks"] if not check["ok"]]
        assert (check["id"], "dns.pod-records" in check["fix"]) == ("pods", True)
        assert 'cannot list resource "pods"' in check["detail"]


async def test_changes_are_followed(server: Plain) -> None:
    ports = [{"port": 80}]
    server.cluster.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "staging"}})
    new = {"kind": "Service", "apiVersion": "v1", "metadata": {"name": "web", "namespace": "staging"}}
    made = server.cluster.create({**new, "spec": {"ports": ports}})
    await server.until("web.staging", made["spec"]["clusterIP"])
    server.cluster.delete("Service", "web", "staging")
    await server.until("web.staging", "")


async def test_status_as_the_contract_has_it(server: Plain) -> None:
    document = await server.status()
    assert document["state"] == "healthy"
    assert document["host"]["backend"] == "none"
    withheld = {item["name"]: item["reason"] for item in document["host"]["withheld"]}
    assert withheld["rs"] == "icann-tld"
    assert document["cluster"]["synced"]
    assert document["cluster"]["services"] == len(server.cluster.objects("Service"))
    assert document["dns"]["listen"] == [server.listen]
    assert document["tunnel"]["state"] == "off"
    assert all(check["ok"] for check in document["checks"])
    as_yaml = await resolverd("status", "--state-dir", str(server.state), "-o", "yaml")
    assert yaml.safe_load(as_yaml.out)["cluster"] == document["cluster"]


async def test_status_says_that_the_cluster_is_away_and_names_still_resolve(server: Plain) -> None:
    await server.cluster.refuse()
    async with asyncio.timeout(20):
        while (document := await server.status())["state"] == "healthy":
            await asyncio.sleep(0.05)
    (check,) = [check for check in document["checks"] if not check["ok"]]
    assert check["id"] == "cluster"
    assert (await server.answer("kubernetes.default")).startswith("10.96.")


async def test_a_worker_that_hangs_shows_and_does_not_keep_it_from_ending(server: Plain) -> None:
    (worker,) = _children(server.run.process.pid)
    os.kill(int(worker), signal.SIGSTOP)
    document = await server.status()
    assert [check["id"] for check in document["checks"] if not check["ok"]] == ["dns-process"]
    services = [{"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}} for _ in range(3000)]
    for number, raw in enumerate(services):
        raw["metadata"] = {"namespace": "shop", "name": f"s{number}"}
    server.cluster.create_all(services)
    await asyncio.sleep(0.5)
    assert await server.run.end() == 0
    assert not Path(f"/proc/{worker}").exists()


async def test_down_finds_it_by_the_config_file(server: Plain, tmp_path: Path) -> None:
    (tmp_path / "resolverd").mkdir()
    (tmp_path / "resolverd" / "config.yaml").write_text(f"daemon: {{state-dir: {server.state}}}\n")
    stopped = await resolverd("down", environment={"XDG_CONFIG_HOME": str(tmp_path)})
    assert stopped.out == "resolverd is down; the host is as it was\n"


async def test_down_stops_it_and_leaves_nothing(server: Plain) -> None:
    stopped = await resolverd("down", "--state-dir", str(server.state))
    assert (stopped.code, stopped.err) == (0, "")
    assert await server.run.end(0) == 0
    assert not server.state.exists()
    again = await resolverd("down", "--state-dir", str(server.state))
    assert (again.code, again.out) == (0, "resolverd is not running\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it(server: Plain, number: int) -> None:
    assert await server.run.end(number) == 0
    assert not server.state.exists()


async def test_a_signal_at_any_moment_leaves_nothing(tmp_path: Path) -> None:
    async with DemoCluster() as cluster:
        (tmp_path / "kubeconfig").write_text(cluster.kubeconfig())
        cluster.faults.freeze()
        arguments = ["--backend", "none", "--no-tunnel", "--dns-listen", "127.0.0.1:0", "--kubeconfig"]
        for moment in (0.2, 0.3, 0.4, 0.5, 0.7, 1.0):
            state = tmp_path / f"state-{moment}"
            rest = [str(tmp_path / "kubeconfig"), "--state-dir", str(state)]
            async with running(tmp_path, "run", *arguments, *rest) as run:
                await asyncio.sleep(moment)
                assert await run.end() in (0, -signal.SIGTERM), run.log.read_text()
            assert not state.exists(), run.log.read_text()


async def test_after_kill_9_the_workers_are_gone_and_a_new_one_can_start(tmp_path: Path) -> None:
    async with DemoCluster() as cluster:
        async with plain(tmp_path, cluster) as one:
            children = _children(one.run.process.pid)
            assert children
            assert await one.run.end(signal.SIGKILL) == -signal.SIGKILL
            async with asyncio.timeout(20):
                while any(Path(f"/proc/{pid}").exists() for pid in children):
                    await asyncio.sleep(0.02)
        async with plain(tmp_path, cluster) as one:
            assert (await one.answer("kubernetes.default")).startswith("10.96.")


async def test_two_at_once_are_refused(server: Plain, tmp_path: Path) -> None:
    second = await resolverd(
        "run", "--backend", "none", "--no-tunnel", "--dns-listen", "127.0.0.1:0", "--state-dir", str(server.state),
        "--kubeconfig", str(tmp_path / "kubeconfig"),
    )  # fmt: skip
    assert (second.code, "running already" in second.complaint) == (6, True)
    assert (await server.status())["state"] == "healthy"


@pytest.mark.staged
async def test_without_root(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    async with DemoCluster() as cluster, plain(tmp_path, cluster, NOBODY) as one:
        assert (await one.answer("kubernetes.default")).startswith("10.96.")


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def test_killed_and_started_again_while_the_cluster_is_away(tmp_path: Path) -> None:
    async with DemoCluster() as cluster:
        async with plain(tmp_path, cluster) as server:
            address = await server.answer("web.shop.svc.cluster.local")
            async with asyncio.timeout(20):
                while not list(server.state.glob("snapshot-*.gz")):
                    await asyncio.sleep(0.05)
            server.run.process.kill()
            await server.run.process.wait()
        await cluster.refuse()
        listen = f"127.0.0.1:{free_port()}"
        arguments = ["--backend", "none", "--no-tunnel", "--dns-listen", listen, "--kubeconfig"]
        arguments += [str(tmp_path / "kubeconfig"), "--state-dir", str(server.state)]
        async with running(tmp_path, "run", *arguments):
            again = Plain(cluster, server.run, server.state, listen)
            await again.until("web.shop.svc.cluster.local", address)
            document = await again.status()
            assert (document["state"], document["cluster"]["away"]) == ("degraded", True)
        assert list(server.state.glob("snapshot-*.gz")), "whoever starts next will not find the cluster either"
    assert (await resolverd("down", "--state-dir", str(server.state))).code == 0
    assert not server.state.exists()


async def test_where_the_addresses_are_reachable_anyway_only_names_are_answered(tmp_path: Path) -> None:
    config = ALONE + "tunnel: {transport: direct}\n"
    async with (
        DemoCluster(traits=Traits(tokens={"t": READER})) as cluster,
        plain(tmp_path, cluster, config=config, tunnel="--tunnel", token="t") as one,
    ):
        assert (
            await one.answer("web.shop.svc.cluster.local") == cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
        )
        document = await one.status()
        assert (document["tunnel"]["transport"], document["tunnel"]["state"]) == ("direct", "direct")
        assert document["tunnel"]["device"] == ""
        assert document["state"] == "healthy", "who carries nothing need not be allowed to"
        assert "tunnel-process" not in {check["id"] for check in document["checks"]}
        shown = await resolverd("status", "--state-dir", str(one.state))
        assert "direct: the addresses are reachable without one" in shown.out
