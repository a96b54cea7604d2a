"""The demo cluster with what a real one offers to a test: users with roles, what they asked, a history to forget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from fakes import eventually
from watch_soak import known

from resolverd.cluster import kubeconfig, objects
from resolverd.cluster.access import Access, open_session
from resolverd.cluster.client import ApiClient
from resolverd.cluster.follow import Follower
from resolverd.cluster.kubeconfig import KubeContext
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import ADMIN, Rule, User
from resolverd.settings import ClusterSettings

Raw = dict[str, Any]


class Side(Protocol):
    """A cluster, embedded or real."""

    @property
    def admin(self) -> Access: ...

    async def user(self, roles: Iterable[Raw] = ()) -> tuple[str, Access]:
        """A user that nobody was before, with exactly ``roles``: their name, and how they reach the server."""

    def asked(self, name: str) -> list[tuple[str, str]]:
        """Method and path, with its query, of what the user asked."""

    async def send(self, method: str, path: str, body: Raw | None = None) -> Raw:
        """What the server answers to the administrator; AssertionError when it refuses."""

    async def delete_namespace(self, name: str) -> None:
        """Delete it and what is in it."""

    async def compact(self) -> None:
        """Forget the history: pages that are open expire."""

    async def forget(self) -> None:
        """Break all watches and forget the history: whoever resumes gets a 410."""


@dataclass
class DemoSide:
    cluster: DemoCluster
    tokens: dict[str, User]

    @property
    def admin(self) -> Access:
        return Access(self.cluster.server, "Bearer admin-token")

    async def user(self, roles: Iterable[Raw] = ()) -> tuple[str, Access]:
        number = len(self.tokens)
        rules = (
            Rule(
                frozenset(rule["verbs"]),
                frozenset(rule["resources"]),
                frozenset({role["metadata"].get("namespace", "*")}),
            )
            for role in roles
            for rule in role["rules"]
        )
        self.tokens[f"token-{number}"] = User(f"user-{number}", tuple(rules))
        return f"user-{number}", replace(self.admin, token=f"Bearer token-{number}")

    def asked(self, name: str) -> list[tuple[str, str]]:
        """Of everybody, since the administrator asks nothing meanwhile."""
        return self.cluster.asked

    async def send(self, method: str, path: str, body: Raw | None = None) -> Raw:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        async with (
            open_session(self.admin) as session,
            session.request(method, path.lstrip("/"), json=body, headers={"Content-Type": kind}) as response,
        ):
            found: Raw = await response.json()
            assert response.status < 300, (method, path, found)
            return found

    async def delete_namespace(self, name: str) -> None:
        await self.send("DELETE", f"/api/v1/namespaces/{name}")

    async def compact(self) -> None:
        self.cluster.expire_history()

    async def forget(self) -> None:
        self.cluster.expire_history()


@asynccontextmanager
async def demo_side() -> AsyncIterator[DemoSide]:
    tokens = {"admin-token": ADMIN}
    async with DemoCluster(traits=Traits(tokens=tokens, linger=0)) as cluster:
        yield DemoSide(cluster, tokens)


async def truth(side: Side) -> dict[str, set[Any]]:
    """What is in the cluster, as its administrator lists it."""
    paths = {
        "namespaces": ("/api/v1/namespaces", objects.parse_namespace),
        "services": ("/api/v1/services", objects.parse_service),
        "slices": ("/apis/discovery.k8s.io/v1/endpointslices", objects.parse_endpoint_slice),
    }
    async with ApiClient(side.admin) as client:
        return {
            kind: {parse(raw) for raw in (await client.get(path))["items"]} for kind, (path, parse) in paths.items()
        }


@asynccontextmanager
async def followed_as(
    access: Access, folder: Path, patch: pytest.MonkeyPatch, namespace: str = "shop", **settings: Any
) -> AsyncIterator[tuple[Follower, asyncio.Task[None]]]:
    """A Follower with the credentials of ``access``, which has its first lists, or has ended."""

    async def load(*_: object) -> KubeContext:
        return KubeContext("side", namespace, access)

    patch.setattr(kubeconfig, "load", load)
    follower = Follower(ClusterSettings(**settings), None, folder, lambda *_: None, lambda _: None)
    task = asyncio.create_task(follower.run())
    try:
        await eventually(lambda: follower.synced.is_set() or task.done(), 30)
        yield follower, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def soon(follower: Follower, side: Side, longest: float = 30.0) -> None:
    """Wait until the Snapshot is the truth; AssertionError with what differs."""
    async with asyncio.timeout(longest):
        while known(follower.snapshot) != await truth(side):
            await asyncio.sleep(0.05)
