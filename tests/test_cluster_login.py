"""Credentials that are renewed, refused, rotated, changed: no gap in the watch, no hot loop, no secret anywhere."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import resolverd, running
from fakes import eventually
from ports import free_port
from tls_front import Authority, TlsFront
from watch_soak import known, service, truth

from resolverd import followed
from resolverd.cluster import backoff, kubeconfig, login
from resolverd.cluster.access import Access
from resolverd.cluster.client import ApiClient, UnreachableError
from resolverd.cluster.follow import Follower
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import ADMIN, User
from resolverd.errors import UsageError
from resolverd.settings import ClusterSettings

SECRET = "sesame-" + "opens" * 4


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "PAUSES", (0.01, 0.1))
    monkeypatch.setattr(backoff, "REFUSED", {401: 0.05})


@asynccontextmanager
async def following(file: Path, **settings: Any) -> AsyncIterator[Follower]:
    one = Follower(
        ClusterSettings(kubeconfig=str(file), **settings), None, file.parent, lambda *_: None, lambda _: None
    )
    task = asyncio.create_task(one.run())
    try:
        await eventually(lambda: one.synced.is_set() or task.done(), 20)
        yield one
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def exec_user(script: str) -> dict[str, Any]:
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script]}
    return {"exec": {**plugin, "interactiveMode": "Never"}}


def write(file: Path, cluster: DemoCluster, user: dict[str, Any], server: str = "", **more: Any) -> Path:
    document = yaml.safe_load(cluster.kubeconfig())
    document["users"][0]["user"] = user
    document["clusters"][0]["cluster"] |= {"server": server or cluster.server, **more}
    file.write_text(yaml.safe_dump(document))
    return file


def credential(token: str) -> str:
    status = f'{{"token":"{token}"}}'
    return f'{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{status}}}'


async def test_watching_goes_on_while_a_plugin_takes_its_time(tmp_path: Path) -> None:
    begun, may_end, ended = (tmp_path / name for name in ("begun", "may-end", "ended"))
    second = f"touch {begun}; until test -e {may_end}; do sleep 0.05; done; touch {ended}"
    slow = f"test -e {tmp_path}/once && {{ {second}; }}; touch {tmp_path}/once; echo '{credential(SECRET)}'"
    async with (
        DemoCluster(traits=Traits(tokens={SECRET: ADMIN})) as cluster,
        following(write(tmp_path / "k", cluster, exec_user(slow))) as one,
    ):
        await eventually(lambda: one.facts.knows_domain and one.load.watches == 3)
        requests = one.load.requests
        one.kubeconfig_changed()
        await eventually(begun.exists)
        cluster.create(service("fresh"))
        await eventually(lambda: ("shop", "fresh") in one.snapshot.services)
        assert not ended.exists(), "the plugin is still at it"
        may_end.touch()
        renewed = one.context
        await eventually(lambda: one.context is not renewed)
        await asyncio.sleep(0.1)
        assert (one.load.watches, one.load.requests) == (3, requests), "the same credentials: nothing is asked anew"


async def test_a_token_that_rotates_is_renewed_once_and_nothing_is_listed_again(tmp_path: Path) -> None:
    tokens: dict[str, User] = {"first": ADMIN}
    token = tmp_path / "token"
    token.write_text("first")
    async with (
        DemoCluster(traits=Traits(tokens=tokens)) as cluster,
        following(write(tmp_path / "k", cluster, {"tokenFile": str(token)})) as one,
    ):
        await eventually(lambda: one.facts.knows_domain and one.load.watches == 3)
        lists = sum("limit=500" in path for _, path in cluster.asked)
        del tokens["first"]
        tokens["second"] = ADMIN
        token.write_text("second")
        one._login._renewed -= 1000
        cluster.faults.drop_streams()
        cluster.create(service("fresh"))
        await eventually(lambda: ("shop", "fresh") in one.snapshot.services)
        await eventually(lambda: not one.trouble)
        assert sum("limit=500" in path for _, path in cluster.asked) == lists


async def test_a_refused_credential_is_renewed_once_then_shown_and_no_hot_loop(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    script = f"echo >>{runs}; echo '{credential(SECRET)}'"
    tokens: dict[str, User] = {SECRET: ADMIN}
    async with (
        DemoCluster(traits=Traits(tokens=tokens)) as cluster,
        following(write(tmp_path / "k", cluster, exec_user(script))) as one,
    ):
        before = known(one.snapshot)
        tokens.clear()
        one._login._renewed -= 1000
        cluster.faults.drop_streams()
        await eventually(lambda: len(runs.read_text()) == 2)
        await asyncio.sleep(1.0)
        assert len(runs.read_text()) == 2, "a plugin may open a browser"
        (check,) = (check for check in followed.checks(one) if check.id == "cluster")
        assert (check.ok, "log in again" in check.fix) == (False, True)
        assert known(one.snapshot) == before, "names are answered meanwhile"
        tokens[SECRET] = ADMIN
        await eventually(lambda: not one.trouble)


async def test_another_current_context_is_followed_unless_one_is_pinned(tmp_path: Path) -> None:
    async with DemoCluster() as cluster, DemoCluster(traits=Traits(samples=False)) as other:
        document = yaml.safe_load(cluster.kubeconfig())
        second = yaml.safe_load(other.kubeconfig().replace("resolverd-demo", "other"))
        for part in ("clusters", "contexts", "users"):
            document[part] += second[part]
        file = tmp_path / "k"
        file.write_text(yaml.safe_dump(document))
        (tmp_path / "pinned").mkdir()
        pinned_file = tmp_path / "pinned" / "k"
        pinned_file.write_text(file.read_text())
        async with following(file) as one, following(pinned_file, context="resolverd-demo") as pinned:
            document["current-context"] = "other"
            for path in (file, pinned_file):
                path.write_text(yaml.safe_dump(document))
            one.kubeconfig_changed()
            pinned.kubeconfig_changed()
            await eventually(lambda: known(one.snapshot) == truth(other))
            assert one.context
            assert one.context.name == "other"
            assert "following other" in one.context_note
            assert known(pinned.snapshot) == truth(cluster)
            assert not pinned.context_note


async def test_client_certificates_and_another_authority(tmp_path: Path) -> None:
    authority, other = Authority.make(tmp_path / "one"), Authority.make(tmp_path / "two")
    async with (
        DemoCluster() as cluster,
        TlsFront(int(cluster.server.rpartition(":")[2]), authority, clients=other) as front,
    ):
        user = {
            "client-certificate": str(other.folder / "client.pem"),
            "client-key-data": base64.b64encode((other.folder / "client.key").read_bytes()).decode(),
        }
        more = {"certificate-authority-data": base64.b64encode(authority.pem.encode()).decode()}
        async with following(write(tmp_path / "k", cluster, user, front.url, **more)) as one:
            assert known(one.snapshot) == truth(cluster)
        async with ApiClient(Access(front.url, ca_pem=other.pem)) as stranger:
            with pytest.raises(UnreachableError) as caught:
                await stranger.get("/version")
            assert caught.value.is_certificate


@pytest.mark.parametrize("authority", [b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----", "né".encode()])
async def test_a_certificate_that_cannot_be_used_is_trouble_and_what_was_there_stays(
    tmp_path: Path, authority: bytes
) -> None:
    async with DemoCluster() as cluster, following(write(tmp_path / "k", cluster, {})) as one:
        before, url = one.context, cluster.server.replace("http", "https")
        more = {"certificate-authority-data": base64.b64encode(authority).decode()}
        write(tmp_path / "k", cluster, {}, url, **more)
        one.kubeconfig_changed()
        await eventually(lambda: "credentials" in one.trouble)
        assert "bad certificate" in one.trouble["credentials"].why
        assert one.context is before
        cluster.create(service("fresh"))
        await eventually(lambda: ("shop", "fresh") in one.snapshot.services)


async def test_a_system_that_starts_no_more_processes_is_trouble_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with DemoCluster() as cluster, following(write(tmp_path / "k", cluster, {})) as one:

        async def full(*_: object, **__: object) -> None:
            raise BlockingIOError(11, "Resource temporarily unavailable")

        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "create_subprocess_exec", full)
            one.kubeconfig_changed()
            await eventually(lambda: "credentials" in one.trouble)
        assert "temporarily" in one.trouble["credentials"].why
        one.kubeconfig_changed()
        await eventually(lambda: not one.trouble)


async def test_in_a_pod_the_service_account_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "HOME": str(tmp_path)}
    assert kubeconfig.in_cluster("", environment)
    assert not kubeconfig.in_cluster("some/file", environment)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(UsageError, match="service account"):  # there is none here
        await kubeconfig.load("", "", tmp_path)


def test_pauses_between_renewals_grow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    waited: list[float] = []

    async def note(event: asyncio.Event, longest: float | None) -> None:
        if longest is not None:
            waited.append(longest)

    monkeypatch.setattr(login, "_happens", note)

    async def scenario() -> None:
        one = login.Login(ClusterSettings(), None, tmp_path)
        for _ in range(8):
            one._renewed = time.monotonic()
            await one.due()

    asyncio.run(scenario())
    assert waited == pytest.approx([15, 30, 60, 120, 240, 480, 600, 600], abs=1)


async def test_no_secret_is_ever_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Planted in every place there is, looked for in everything that comes out, at the loudest level."""
    secrets = [f"{SECRET}-{n}" for n in range(3)]
    async with DemoCluster(traits=Traits(tokens={secrets[0]: ADMIN})) as cluster:
        script = f"echo {secrets[1]} >&2; echo '{credential(secrets[0])}'"
        server = cluster.server.replace("http://", f"http://user:{secrets[2]}@")
        file = write(tmp_path / "k", cluster, exec_user(script))
        arguments = ["--backend", "none", "--no-tunnel", "--dns-listen", f"127.0.0.1:{free_port()}"]
        arguments += ["--kubeconfig", str(file), "--state-dir", str(tmp_path / "state"), "--log-level", "debug"]
        async with running(tmp_path, "run", *arguments) as run:
            async with asyncio.timeout(30):
                while (await resolverd("status", "--state-dir", str(tmp_path / "state"))).code != 0:
                    await asyncio.sleep(0.1)
            cluster.faults.failing = 401
            cluster.faults.drop_streams()
            async with asyncio.timeout(30):
                while (await resolverd("status", "--state-dir", str(tmp_path / "state"))).code != 1:
                    await asyncio.sleep(0.1)
            shown = await resolverd("status", "--state-dir", str(tmp_path / "state"), "-o", "json")
            kept = b"".join(path.read_bytes() for path in (tmp_path / "state").glob("*") if path.is_file())
            said = run.log.read_text() + shown.out + shown.err + kept.decode(errors="replace")
        cluster.faults.failing = 0
    with caplog.at_level(logging.DEBUG):
        async with ApiClient(Access(server, token=f"Bearer {secrets[0]}")) as client:
            with pytest.raises(UnreachableError) as caught:
                await client.get("/version")
        said += (
            caplog.text
            + str(caught.value)
            + repr(caught.value)
            + repr(Access("https://api.test", secrets[0], key_pem=secrets[1], proxy=secrets[2]))
        )
    assert "watching" in said
    assert not [secret for secret in secrets if secret in said]
