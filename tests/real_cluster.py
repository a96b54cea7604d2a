"""A real kube-apiserver and its etcd, where ``KUBEBUILDER_ASSETS`` names a folder with both, as setup-envtest does.

There are no controllers: nobody makes EndpointSlices, and a namespace that is deleted stays until ``finalize``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from ports import free_port
from tls_front import Authority

from resolverd.cluster.access import Access, open_session
from resolverd.cluster.client import ApiClient
from resolverd.cluster.rights import Need, missing_verbs
from resolverd.errors import ClusterError

Raw = dict[str, Any]

ASSETS = Path(os.environ.get("KUBEBUILDER_ASSETS", "/nonexistent"))
needs_assets = pytest.mark.skipif(
    not all((ASSETS / name).exists() for name in ("kube-apiserver", "etcd")),
    reason="KUBEBUILDER_ASSETS names no folder with kube-apiserver and etcd",
)

USERS = 200
"""Who may be made: their tokens are in a file that the server reads at its start."""
ADVERTISED = "192.0.2.1"
"""Of no machine (RFC 5737); a server that finds no address of its own needs one."""
RBAC = "rbac.authorization.k8s.io"
SLICES = "/apis/discovery.k8s.io/v1"


@dataclass
class RealCluster:
    """One etcd and one API server, in ``folder``. Both keep their ports when they are started again."""

    folder: Path
    flags: tuple[str, ...] = ()
    """More of them, for the API server."""
    _users: int = 0
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        command = [str(ASSETS / "kube-apiserver"), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        self.git_version = said.split()[-1]
        """As in ``v1.36.2``."""
        major, minor = self.git_version.lstrip("v").split(".")[:2]
        self.version = int(major), int(minor)
        self.lacks_slices = self.version < (1, 21)
        """Whether discovery.k8s.io/v1 is ours: a CustomResourceDefinition, since the server has none."""
        self.authority = Authority.make(self.folder / "ca")
        self.port, self._etcd, self._peer = free_port(), free_port(), free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        tokens = ['admin-token,admin,1,"system:masters"', *(f"token-{n},user-{n},{n}" for n in range(USERS))]
        (self.folder / "tokens").write_text("\n".join(tokens) + "\n")
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
        (self.folder / "policy").write_text(
            json.dumps({**policy, "omitStages": ["ResponseStarted", "ResponseComplete", "Panic"]})
        )

    # Processes.

    def start(self, *names: str) -> None:
        for name in names or ("etcd", "kube-apiserver"):
            command = {"etcd": self._etcd_command, "kube-apiserver": self._server_command}[name]()
            with (self.folder / f"{name}.log").open("ab") as log:
                self._running[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self, *names: str, number: int = signal.SIGTERM) -> None:
        for name in names or ("kube-apiserver", "etcd"):
            if process := self._running.pop(name, None):
                process.send_signal(number)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _etcd_command(self) -> list[str]:
        client, peer = f"http://127.0.0.1:{self._etcd}", f"http://127.0.0.1:{self._peer}"
        where = ["--data-dir", str(self.folder / "etcd"), "--listen-peer-urls", peer]
        where += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
        return [str(ASSETS / "etcd"), *where, "--listen-client-urls", client, "--advertise-client-urls", client]

    def _server_command(self) -> list[str]:
        keys = self.authority.folder
        flags = {
            "etcd-servers": f"http://127.0.0.1:{self._etcd}",
            "bind-address": "127.0.0.1",
            "advertise-address": ADVERTISED,
            "secure-port": self.port,
            "cert-dir": self.folder / "certs",
            "tls-cert-file": keys / "server.pem",
            "tls-private-key-file": keys / "server.key",
            "client-ca-file": keys / "ca.pem",
            "token-auth-file": self.folder / "tokens",
            "authorization-mode": "RBAC",
            "audit-policy-file": self.folder / "policy",
            "audit-log-path": self.folder / "audit",
            "service-cluster-ip-range": "10.96.0.0/16",
            "service-account-issuer": "https://test",
            "service-account-key-file": keys / "server.pem",
            "service-account-signing-key-file": keys / "server.key",
            "disable-admission-plugins": "ServiceAccount",
        }
        if self.lacks_slices:
            flags["runtime-config"] = "discovery.k8s.io/v1beta1=false"  # it would keep the group from others
        return [str(ASSETS / "kube-apiserver"), *(f"--{key}={value}" for key, value in flags.items()), *self.flags]

    async def ready(self) -> None:
        """Wait until it serves all we need; AssertionError when it has ended."""
        async with ApiClient(self.admin) as client, asyncio.timeout(90):
            while True:
                ended = [name for name, process in self._running.items() if process.poll() is not None]
                assert not ended, (ended, (self.folder / f"{ended[0]}.log").read_text()[-2000:])
                with suppress(ClusterError):
                    await client.fetch("/readyz")
                    await client.get("/api/v1/namespaces/default")
                    await self._have_slices(client)
                    break
                await asyncio.sleep(0.1)

    async def _have_slices(self, client: ApiClient) -> None:
        if self.lacks_slices:
            with suppress(ClusterError):
                await client.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", SLICES_DEFINED)
        await client.get(f"{SLICES}/endpointslices")

    # Who may do what.

    @property
    def admin(self) -> Access:
        return Access(self.url, "Bearer admin-token", self.authority.pem)

    async def user(self, roles: Iterable[Raw] = ()) -> tuple[str, Access]:
        """A user that nobody was before, with exactly ``roles``, and how they reach the server, once these hold."""
        name, token = f"user-{self._users}", f"token-{self._users}"
        self._users += 1
        await self.grant(name, roles)
        access = replace(self.admin, token=f"Bearer {token}")
        async with ApiClient(access) as client, asyncio.timeout(30):
            for need, namespace in _needs(roles):
                while await missing_verbs(client, need, namespace):
                    await asyncio.sleep(0.02)
        return name, access

    async def grant(self, name: str, roles: Iterable[Raw]) -> None:
        for role in roles:
            kind, namespace = role["kind"], role["metadata"].get("namespace", "")
            where = f"/apis/{RBAC}/v1" + (f"/namespaces/{namespace}" if namespace else "")
            head = {"apiVersion": f"{RBAC}/v1", "metadata": {"name": name}}
            await self.send("POST", f"{where}/{kind.lower()}s", {**role, "metadata": {"name": name}})
            binding = {
                "kind": f"{kind}Binding",
                "subjects": [{"kind": "User", "name": name, "apiGroup": RBAC}],
                "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
            }
            await self.send("POST", f"{where}/{kind.lower()}bindings", {**head, **binding})

    def asked(self, name: str) -> list[tuple[str, str]]:
        """Method and path, with its query, of what the user asked, as the server's audit log has it."""
        events = map(json.loads, (self.folder / "audit").read_text().splitlines())
        mine = [event for event in events if event["user"].get("username") == name]
        verbs = {"get": "GET", "list": "GET", "watch": "GET", "create": "POST", "update": "PUT", "delete": "DELETE"}
        return [(verbs.get(event["verb"], event["verb"]), event["requestURI"]) for event in mine]

    def kubeconfig(self, access: Access, namespace: str = "default") -> str:
        """A kubeconfig with the token, or the certificate, of ``access``."""
        parts = {"client-certificate-data": access.cert_pem, "client-key-data": access.key_pem}
        user: Raw = {key: _encoded(pem) for key, pem in parts.items() if pem}
        user |= {"token": access.token.removeprefix("Bearer ")} if access.token else {}
        cluster = {"server": access.server, "certificate-authority-data": _encoded(access.ca_pem)}
        context = {"cluster": "real", "user": "real", "namespace": namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "real",
            "clusters": [{"name": "real", "cluster": cluster}],
            "contexts": [{"name": "real", "context": context}],
            "users": [{"name": "real", "user": user}],
        }
        return yaml.safe_dump(document)

    # What is in it.

    async def send(self, method: str, path: str, body: Raw | None = None, access: Access | None = None) -> Raw:
        """What the server answers; AssertionError with its words when it refuses."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        async with (
            open_session(access or self.admin) as session,
            session.request(method, path.lstrip("/"), json=body, headers={"Content-Type": kind}) as response,
        ):
            found: Raw = await response.json()
            assert response.status < 300, (method, path, found)
            return found

    async def namespace(self, name: str) -> None:
        """Make the namespace."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        await self.send("POST", "/api/v1/namespaces", body)

    async def delete_namespace(self, name: str) -> None:
        """Delete it and what is in it, as the namespace controller does."""
        where = f"/api/v1/namespaces/{name}"
        found = await self.send("DELETE", where)
        async with ApiClient(self.admin) as client:
            for path in (f"{where}/services", f"{SLICES}/namespaces/{name}/endpointslices"):
                for item in (await client.get(path))["items"]:
                    await self.send("DELETE", f"{path}/{item['metadata']['name']}")
        await self.send("PUT", f"{where}/finalize", {**found, "spec": {"finalizers": []}})

    # The history that etcd keeps.

    async def forget(self) -> None:
        """Forget it, and have the server do so: one that was started again has none of its own."""
        await self.compact()
        self.stop("kube-apiserver", number=signal.SIGKILL)
        self.start("kube-apiserver")
        await self.ready()

    async def compact(self) -> None:
        """Forget all versions but the newest one: what etcd does every five minutes on the server's behalf."""
        header = (await self._ask_etcd("range", {"key": _encoded("x")}))["header"]
        await self._ask_etcd("compaction", {"revision": header["revision"], "physical": True})

    async def _ask_etcd(self, what: str, body: Raw) -> Raw:
        url = f"http://127.0.0.1:{self._etcd}/v3/kv/{what}"
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            found: Raw = await response.json()
            assert response.status == 200, found
            return found


def _encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def _needs(roles: Iterable[Raw]) -> Iterator[tuple[Need, str]]:
    for role in roles:
        for rule in role["rules"]:
            for resource in rule["resources"]:
                need = Need(rule["apiGroups"][0], resource, tuple(rule["verbs"]))
                yield need, role["metadata"].get("namespace", "")


SLICES_DEFINED = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "endpointslices.discovery.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, a stand-in in tests"},
    },
    "spec": {
        "group": "discovery.k8s.io",
        "scope": "Namespaced",
        "names": {
            "plural": "endpointslices",
            "singular": "endpointslice",
            "kind": "EndpointSlice",
            "listKind": "EndpointSliceList",
        },
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


@contextmanager
def real_cluster(folder: Path, *flags: str) -> Iterator[RealCluster]:
    """One that runs and is ready."""
    cluster = RealCluster(folder, flags)
    try:
        cluster.start()
        asyncio.run(cluster.ready())
        yield cluster
    finally:
        cluster.stop()
