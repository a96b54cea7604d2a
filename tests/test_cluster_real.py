"""What only a real kube-apiserver and etcd can do: certificates, restarts, thousands of objects."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from cluster_sides import followed_as, soon, truth
from commands import NOBODY, resolverd, running, shell
from fakes import eventually
from ports import free_port
from real_cluster import RealCluster, needs_assets, real_cluster
from tls_front import Authority
from watch_soak import known, service

from resolverd.cli.rbac import documents
from resolverd.cluster import kubeconfig, login
from resolverd.cluster.client import ApiClient, ApiError
from resolverd.cluster.kubeconfig import KubeContext
from resolverd.settings import Settings, TunnelSettings

pytestmark = needs_assets

CLIENT_SIDE = Settings(tunnel=TunnelSettings(enabled=False))
ROLES = list(documents(CLIENT_SIDE))
DEFAULT = "/api/v1/namespaces/default/services"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with real_cluster(tmp_path_factory.mktemp("real")) as cluster:
        yield cluster


# Who one is.


async def test_a_client_certificate_in_a_kubeconfig(real: RealCluster, tmp_path: Path) -> None:
    await real.grant("client", ROLES)  # the common name of the certificate
    other = Authority.make(tmp_path / "other")
    for authority, expected in ((real.authority, 0), (other, 401)):
        pems = [(authority.folder / f"client.{part}").read_text() for part in ("pem", "key")]
        access = replace(real.admin, token="", cert_pem=pems[0], key_pem=pems[1])
        (tmp_path / "kubeconfig").write_text(real.kubeconfig(access))
        context = await kubeconfig.load(str(tmp_path / "kubeconfig"), "", tmp_path)
        async with ApiClient(context.access) as client:
            if expected:
                with pytest.raises(ApiError, match="Unauthorized") as caught:
                    await client.get("/api/v1/services")
                assert caught.value.status == expected
            else:
                assert (await client.get("/api/v1/services"))["items"]


async def test_a_token_that_was_withdrawn_is_asked_for_anew(
    real: RealCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a service account, which ends with it. Without a better one it stays quiet, and says what is wrong."""
    monkeypatch.setattr(login, "REFRESH_PAUSE", 0.5)
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    await real.grant("system:serviceaccount:default:dev", ROLES)

    async def token() -> str:
        await real.send("POST", accounts, {"metadata": {"name": "dev"}})
        asked = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {}}
        status = (await real.send("POST", f"{accounts}/dev/token", asked))["status"]
        return f"Bearer {status['token']}"

    access = replace(real.admin, token=await token())
    async with followed_as(access, tmp_path, monkeypatch) as (follower, task):
        await soon(follower, real)
        await real.send("DELETE", f"{accounts}/dev")
        before = follower.load.requests
        await _restart(real, "kube-apiserver")  # a watch that is open outlives its token
        await eventually(lambda: any("Unauthorized" in error.why for error in follower.trouble.values()), 30)
        await asyncio.sleep(3)
        assert not task.done()
        assert follower.load.requests - before < 60, "no hot loop"
        assert known(follower.snapshot) == await truth(real), "the last truth is served meanwhile"
        fresh = KubeContext("side", "shop", replace(access, token=await token()))

        async def load(*_: object) -> KubeContext:
            return fresh

        monkeypatch.setattr(kubeconfig, "load", load)
        await real.send("POST", DEFAULT, service("afterwards", "default"))
        await soon(follower, real)
        await real.send("DELETE", f"{DEFAULT}/afterwards")
        assert not follower.trouble


# Servers that go, and come back.


async def _restart(real: RealCluster, *names: str) -> None:
    real.stop(*names, number=signal.SIGKILL)
    real.start(*names)
    await real.ready()


@pytest.mark.parametrize("names", [("kube-apiserver",), ("etcd",), ("kube-apiserver", "etcd")], ids=" and ".join)
async def test_killed_and_started_again_while_it_is_followed(
    real: RealCluster, names: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await real.send("POST", DEFAULT, service("stays", "default"))
    _, access = await real.user(ROLES)
    async with followed_as(access, tmp_path, monkeypatch) as (follower, task):
        await soon(follower, real)
        before = known(follower.snapshot)
        real.stop(*names, number=signal.SIGKILL)
        await asyncio.sleep(1)
        assert known(follower.snapshot) == before, "away is not gone"
        real.start(*reversed(names))
        await real.ready()
        began = time.monotonic()
        await real.send("DELETE", f"{DEFAULT}/stays")
        await real.send("POST", DEFAULT, service("comes", "default"))
        await soon(follower, real)
        print(f"{' and '.join(names)} back: the truth after {time.monotonic() - began:.2f} s")
        assert not task.done()
        assert not follower.is_away
    await real.send("DELETE", f"{DEFAULT}/comes")


# Many objects.

MANY = int(os.environ.get("RESOLVERD_TEST_MANY", "2000"))


async def test_thousands_of_services(real: RealCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await real.namespace("many")
    gate = asyncio.Semaphore(20)

    async def each(method: str, name: str, client: ApiClient) -> None:
        async with gate:
            if method == "POST":
                await client.post("/api/v1/namespaces/many/services", {**service(name, "many")})
            else:
                await real.send("DELETE", f"/api/v1/namespaces/many/services/{name}")

    _, access = await real.user(ROLES)
    async with ApiClient(real.admin) as client, followed_as(access, tmp_path, monkeypatch) as (follower, _):
        await asyncio.gather(*(each("POST", f"s{n}", client) for n in range(MANY)))
        await soon(follower, real)
        assert len(follower.snapshot.services) >= MANY
        assert follower.load.watches == 3
        await asyncio.gather(*(each("DELETE", f"s{n}", client) for n in range(0, MANY, 10)))
        await soon(follower, real)
        async with followed_as(access, tmp_path, monkeypatch) as (another, _):
            assert known(another.snapshot) == known(follower.snapshot), "read in pages"
            assert another.load.requests < 10 + MANY / 500 + 20
    await real.delete_namespace("many")


# The whole program.


@pytest.mark.staged
async def test_run_as_a_plain_user_and_dig(real: RealCluster, tmp_path: Path) -> None:
    _, access = await real.user(ROLES)
    file, state, port = tmp_path / "kubeconfig", tmp_path / "state", free_port()
    file.write_text(real.kubeconfig(access))
    (tmp_path / "config.yaml").write_text("dns: {upstreams: []}\n")
    tmp_path.chmod(0o777)
    arguments = ["--backend", "none", "--no-tunnel", "--dns-listen", f"127.0.0.1:{port}", "--kubeconfig", str(file)]
    arguments += ["--config", str(tmp_path / "config.yaml"), "--state-dir", str(state)]

    async def dig(*what: str) -> list[str]:
        return (await shell(f"dig +short +tries=1 +time=2 @127.0.0.1 -p {port} {' '.join(what)}")).out.split("\n")[:-1]

    async def until(expected: list[str], *what: str) -> None:
        async with asyncio.timeout(30):
            while await dig(*what) != expected:
                assert run.process.returncode is None, run.log.read_text()
                await asyncio.sleep(0.1)

    async with running(tmp_path, "run", *arguments, user=NOBODY) as run:
        await until(["10.96.0.1"], "kubernetes.default.svc.cluster.local")
        made = (await real.send("POST", DEFAULT, service("web", "default")))["spec"]["clusterIP"]
        await until([made], "web.default.svc.cluster.local")
        assert await dig("web.default") == [made]
        assert await dig("SRV", "_http._tcp.web.default.svc.cluster.local") == [
            "0 100 80 web.default.svc.cluster.local."
        ]
        assert await dig("-x", made) == ["web.default.svc.cluster.local."]
        status = await resolverd("status", "--state-dir", str(state))
        assert (status.code, "may not" in status.out) == (0, False), status
        await real.send("DELETE", f"{DEFAULT}/web")
        await until([], "web.default.svc.cluster.local")
        assert run.process.returncode is None, run.log.read_text()


@pytest.mark.staged
async def test_a_verb_less_is_named_by_status_and_doctor(real: RealCluster, tmp_path: Path) -> None:
    (role,) = documents(CLIENT_SIDE)
    role["rules"][2]["verbs"] = ["list"]
    _, access = await real.user([role])
    file, state = tmp_path / "kubeconfig", tmp_path / "state"
    file.write_text(real.kubeconfig(access))
    where = ["--kubeconfig", str(file), "--state-dir", str(state)]
    arguments = ["--backend", "none", "--no-tunnel", "--dns-listen", f"127.0.0.1:{free_port()}", *where]
    async with running(tmp_path, "run", *arguments):
        async with asyncio.timeout(30):
            while "watch endpointslices in the whole cluster" not in (text := await _said("status", *where[2:])):
                await asyncio.sleep(0.2)
        assert "list, watch endpointslices" not in text
        assert "watch endpointslices" in await _said("doctor", *where)


async def _said(*arguments: str) -> str:
    finished = await resolverd(*arguments)
    return finished.out + finished.err


@pytest.mark.staged
async def test_a_server_that_is_too_old_is_named_with_its_version(real: RealCluster, tmp_path: Path) -> None:
    if not real.lacks_slices:
        pytest.skip(f"this server, {real.version}, serves discovery.k8s.io/v1 itself")
    await real.send("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{DEFINITION}")
    try:
        file = tmp_path / "kubeconfig"
        file.write_text(real.kubeconfig(real.admin))
        where = ["--kubeconfig", str(file), "--state-dir", str(tmp_path / "state")]
        alone = ["--backend", "none", "--no-tunnel", "--dns-listen", f"127.0.0.1:{free_port()}"]
        async with ApiClient(real.admin) as client, asyncio.timeout(30):
            while await _serves_slices(client):
                await asyncio.sleep(0.1)
        finished = await resolverd("run", *alone, *where)
        assert finished.code == 5
        assert finished.complaint == (
            f"resolverd: API server {real.url}: it does not serve discovery.k8s.io/v1: "
            f"it is Kubernetes {real.git_version} (it takes Kubernetes 1.21 or newer)"
        )
        assert "discovery.k8s.io/v1" in await _said("doctor", *where)
    finally:
        await real.ready()


DEFINITION = "endpointslices.discovery.k8s.io"


async def _serves_slices(client: ApiClient) -> bool:
    try:
        await client.get("/apis/discovery.k8s.io/v1/endpointslices")
    except ApiError as error:
        return error.status != 404
    return True


async def test_what_the_cluster_says_of_itself(
    real: RealCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if real.version < (1, 33):
        pytest.skip(f"this server, {real.version}, has no networking.k8s.io/v1 servicecidrs")
    async with followed_as(real.admin, tmp_path, monkeypatch) as (follower, _):
        await eventually(lambda: "10.96.0.0/16" in map(str, follower.facts.told_ranges), 30)
