"""List, watch, rights and reviews against a real kube-apiserver, where ``KUBEBUILDER_ASSETS`` names one (and etcd)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually
from ports import free_port
from tls_front import Authority
from watch_soak import known, service

from resolverd.cluster import kubeconfig, objects
from resolverd.cluster.access import Access
from resolverd.cluster.client import ApiClient, UnreachableError
from resolverd.cluster.follow import Follower
from resolverd.cluster.kubeconfig import KubeContext
from resolverd.cluster.rights import find_scope
from resolverd.errors import ClusterError
from resolverd.settings import ClusterSettings

ASSETS = Path(os.environ.get("KUBEBUILDER_ASSETS", "/nonexistent"))
NEEDED = ("kube-apiserver", "etcd")

pytestmark = pytest.mark.skipif(
    not all((ASSETS / name).exists() for name in NEEDED),
    reason="KUBEBUILDER_ASSETS names no folder with kube-apiserver and etcd",
)

TOKENS = 'admin-token,admin,1,"system:masters"\nada-token,ada,2\n'


@dataclass
class Real:
    access: Access

    def as_user(self, token: str) -> Access:
        return Access(self.access.server, f"Bearer {token}", self.access.ca_pem)


@pytest.fixture(name="served")
def serve(tmp_path: Path) -> Iterator[Real]:
    authority = Authority.make(tmp_path / "ca")
    (tmp_path / "tokens").write_text(TOKENS)
    etcd, peer, port = free_port(), free_port(), free_port()
    folder = authority.folder
    commands = (
        [
            str(ASSETS / "etcd"), "--data-dir", str(tmp_path / "etcd"),
            "--listen-client-urls", f"http://127.0.0.1:{etcd}", "--advertise-client-urls", f"http://127.0.0.1:{etcd}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}",
        ],
        [
            str(ASSETS / "kube-apiserver"), "--etcd-servers", f"http://127.0.0.1:{etcd}",
            "--bind-address", "127.0.0.1", "--secure-port", str(port), "--cert-dir", str(tmp_path / "certs"),
            "--tls-cert-file", str(folder / "server.pem"), "--tls-private-key-file", str(folder / "server.key"),
            "--token-auth-file", str(tmp_path / "tokens"), "--authorization-mode", "RBAC",
            "--service-cluster-ip-range", "10.96.0.0/16", "--service-account-issuer", "https://test",
            "--service-account-key-file", str(folder / "server.key"),
            "--service-account-signing-key-file", str(folder / "server.key"),
            "--disable-admission-plugins", "ServiceAccount",
        ],
    )  # fmt: skip
    with contextlib.ExitStack() as ending:
        for command in commands:
            log = ending.enter_context((tmp_path / Path(command[0]).name).open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=log)
            ending.callback(process.wait, 20)
            ending.callback(process.terminate)
        yield Real(Access(f"https://127.0.0.1:{port}", "Bearer admin-token", authority.pem))


@pytest.fixture
async def real(served: Real) -> Real:
    await _until_ready(served.access)
    return served


async def _until_ready(access: Access) -> None:
    async with ApiClient(access) as client, asyncio.timeout(60):
        while True:
            try:
                await client.fetch("/readyz")
                await client.get("/api/v1/namespaces/default")
                return
            except (ClusterError, UnreachableError):
                await asyncio.sleep(0.2)


async def listed(client: ApiClient, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get(path))["items"]
    return found


async def test_what_is_listed_and_watched_is_the_truth(
    real: Real, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def load(*_: object) -> KubeContext:
        return KubeContext("real", "default", real.access)

    monkeypatch.setattr(kubeconfig, "load", load)
    follower = Follower(ClusterSettings(), None, tmp_path, lambda *_: None, lambda _: None)
    task = asyncio.create_task(follower.run())
    async with ApiClient(real.access) as client:
        await eventually(lambda: follower.synced.is_set() or task.done(), 30)
        for name in ("one", "two"):
            await client.post("/api/v1/namespaces/default/services", service(name, "default"))
        await eventually(lambda: ("default", "two") in follower.snapshot.services)
        services = {objects.parse_service(raw) for raw in await listed(client, "/api/v1/services")}
        assert known(follower.snapshot)["services"] == services
        namespaces = {objects.parse_namespace(raw) for raw in await listed(client, "/api/v1/namespaces")}
        assert known(follower.snapshot)["namespaces"] == namespaces
        for reflector in follower._reflectors:
            reflector.version = "1"
        follower._moved.set()
        await client.post("/api/v1/namespaces/default/services", service("three", "default"))
        await eventually(lambda: ("default", "three") in follower.snapshot.services, 30)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_rights_are_found_by_reviews(real: Real) -> None:
    rules = [
        {"apiGroups": [""], "resources": ["services"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    group = "rbac.authorization.k8s.io"
    async with ApiClient(real.access) as admin, ApiClient(real.as_user("ada-token")) as ada:
        assert (await find_scope(admin, "default")).namespaces is None
        assert (await find_scope(ada, "default")).namespaces == ()
        head = {"apiVersion": f"{group}/v1", "metadata": {"name": "resolverd", "namespace": "default"}}
        where = f"/apis/{group}/v1/namespaces/default"
        await admin.post(f"{where}/roles", {**head, "kind": "Role", "rules": rules})
        subjects = [{"kind": "User", "name": "ada", "apiGroup": group}]
        reference = {"apiGroup": group, "kind": "Role", "name": "resolverd"}
        binding = {**head, "kind": "RoleBinding", "subjects": subjects, "roleRef": reference}
        await admin.post(f"{where}/rolebindings", binding)
        async with asyncio.timeout(20):
            while (await find_scope(ada, "default")).namespaces != ("default",):
                await asyncio.sleep(0.1)
