"""List, watch, rights and reviews: the same tests against the demo cluster and against a real kube-apiserver."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_sides import Side, demo_side, followed_as, soon
from fakes import eventually
from real_cluster import RealCluster, needs_assets, real_cluster
from watch_soak import service

from resolverd import followed
from resolverd.cli.rbac import documents
from resolverd.cluster import backoff, watch
from resolverd.cluster.access import Access
from resolverd.cluster.client import ApiClient, ApiError
from resolverd.cluster.rights import Need, find_scope, missing_verbs
from resolverd.cluster.snapshot import Change
from resolverd.cluster.watch import WATCHED, Reflector
from resolverd.errors import ResolverdError
from resolverd.settings import ClusterSettings, Settings, TunnelSettings

Raw = dict[str, Any]
SHOP = "/api/v1/namespaces/shop/services"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    with real_cluster(tmp_path_factory.mktemp("real")) as cluster:
        asyncio.run(_furnish(cluster))
        yield cluster


async def _furnish(cluster: RealCluster) -> None:
    """What the tests use of the demo's samples."""
    for name in ("shop", "rs"):
        await cluster.namespace(name)
        for each in ("web", "api"):
            await cluster.send("POST", f"/api/v1/namespaces/{name}/services", service(each, name))
    dns = service("kube-dns", "kube-system")
    dns["metadata"]["labels"] = {"k8s-app": "kube-dns"}
    dns["spec"]["clusterIP"] = "10.96.0.10"
    await cluster.send("POST", "/api/v1/namespaces/kube-system/services", dns)


@pytest.fixture(params=["demo", pytest.param("real", marks=needs_assets)])
def which(request: pytest.FixtureRequest) -> RealCluster | None:
    return request.getfixturevalue("real") if request.param == "real" else None


@pytest.fixture
async def side(which: RealCluster | None) -> AsyncIterator[Side]:
    if which is not None:
        yield which
        return
    async with demo_side() as demo:
        yield demo


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "PAUSES", (0.01, 0.1))


def endpoints(name: str, owner: str, address: str) -> Raw:
    metadata = {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": owner}}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    }


def free(name: str) -> Raw:
    """A service without a selector, whose endpoints are ours to make."""
    raw = service(name)
    del raw["spec"]["selector"]
    return raw


NEW = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}


# Lists and watches.


async def test_what_is_listed_in_pages_and_watched_is_the_truth(
    side: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "PAGE", 2)
    async with followed_as(side.admin, tmp_path, monkeypatch) as (follower, _):
        await soon(follower, side)
        requests = follower.load.requests
        await side.send("POST", SHOP, free("fresh"))
        await side.send("POST", SLICES, endpoints("fresh-1", "fresh", "192.0.2.7"))
        await side.send("POST", SHOP, service("brief"))
        await side.send("PATCH", f"{SHOP}/fresh", {"spec": {"ports": [{"name": "https", "port": 443}]}})
        await side.send("DELETE", f"{SHOP}/brief")
        await side.send(
            "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
        )
        await side.send("POST", "/api/v1/namespaces/n/services", service("inside", "n"))
        await eventually(lambda: ("n", "inside") in follower.snapshot.services)
        await soon(follower, side)
        await side.delete_namespace("n")
        await eventually(lambda: ("n", "inside") not in follower.snapshot.services)
        await eventually(lambda: "n" not in follower.snapshot.namespaces)
        await side.send("DELETE", f"{SLICES}/fresh-1")
        await side.send("DELETE", f"{SHOP}/fresh")
        await soon(follower, side)
        assert follower.load.requests - requests <= len(WATCHED), "events came by the watches, not by lists"


class Table:
    """A sink that keeps what there is, and counts lists."""

    def __init__(self) -> None:
        self.there: dict[Any, Any] = {}
        self.lists = 0
        self.errors: list[ResolverdError] = []

    def put(self, change: Change) -> None:
        if change.object is None:
            self.there.pop(change.key, None)
        else:
            self.there[change.key] = change.object

    def listed(self, reflector: Reflector) -> None:
        self.lists += 1

    def alive(self, reflector: Reflector) -> None: ...

    def failed(self, reflector: Reflector, error: ResolverdError) -> None:
        self.errors.append(error)


class Watching:
    """A Reflector of the services of shop, which can be interrupted."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.table = Table()
        self.reflector = Reflector(WATCHED[1], self.table, "shop")
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        self._client = ApiClient(self.access)
        self._task = asyncio.create_task(self.reflector.run(self._client))
        await eventually(lambda: self.reflector.listed)

    async def end(self) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._client.__aexit__()

    def names(self) -> set[str]:
        return {name for _, name in self.table.there}


async def test_an_interruption_is_resumed_without_a_list(side: Side) -> None:
    one = Watching(side.admin)
    await one.begin()
    await side.send("POST", SHOP, service("gone"))
    await eventually(lambda: "gone" in one.names())
    await one.end()
    await side.send("DELETE", f"{SHOP}/gone")
    await side.send("POST", SHOP, service("come"))
    await one.begin()
    await eventually(lambda: "come" in one.names() and "gone" not in one.names())
    await side.send("DELETE", f"{SHOP}/come")
    await eventually(lambda: "come" not in one.names())
    await one.end()
    assert (one.table.lists, one.table.errors) == (1, [])


async def test_bookmarks_say_how_far_it_is(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what happens in other namespaces nothing is seen, and yet the version stays fresh."""
    monkeypatch.setattr(watch, "WATCH_SECONDS", (4, 4))  # a watch has a bookmark before its end
    one = Watching(side.admin)
    await one.begin()
    made = await side.send("POST", "/api/v1/namespaces/rs/services", service("elsewhere", "rs"))
    await eventually(lambda: int(one.reflector.version) >= int(made["metadata"]["resourceVersion"]), 30)
    await side.send("DELETE", "/api/v1/namespaces/rs/services/elsewhere")
    await one.end()
    assert (one.table.lists, one.names() & {"elsewhere"}) == (1, set())


async def test_what_vanished_while_the_history_was_forgotten_is_gone(side: Side) -> None:
    await side.send("POST", SHOP, service("gone"))
    one = Watching(side.admin)
    await one.begin()
    assert "gone" in one.names()
    await one.end()
    await side.send("DELETE", f"{SHOP}/gone")
    await side.send("POST", SHOP, service("come"))
    await side.forget()
    await one.begin()
    await eventually(lambda: "come" in one.names() and "gone" not in one.names())
    assert one.table.lists == 2, "there was nothing to resume from"
    await one.end()
    await side.send("DELETE", f"{SHOP}/come")


async def test_a_list_whose_pages_expire_is_whole(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history is forgotten, and the truth another, after every first page."""
    monkeypatch.setattr(watch, "PAGE", 1)
    fetch, pages = ApiClient.fetch, 0

    async def forgetful(self: ApiClient, path: str, parameters: Any = None, body: Any = None) -> bytes:
        nonlocal pages
        data = await fetch(self, path, parameters, body)
        if "limit" in (parameters or {}) and "continue" not in (parameters or {}):
            pages += 1
            await side.send("POST", SHOP, service(f"late-{pages}"))
            await side.compact()
        return data

    monkeypatch.setattr(ApiClient, "fetch", forgetful)
    one = Watching(side.admin)
    await one.begin()
    monkeypatch.undo()
    await eventually(lambda: "late-1" in one.names())
    async with ApiClient(side.admin) as client:
        names = {raw["metadata"]["name"] for raw in (await client.get(SHOP))["items"]}
    await eventually(lambda: one.names() == names)
    await one.end()
    for number in range(pages):
        await side.send("DELETE", f"{SHOP}/late-{number + 1}")


# Who one is.


async def test_a_token_that_nobody_has_is_a_401_and_the_end(
    side: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Access(side.admin.server, "Bearer nobody-s", side.admin.ca_pem)
    async with ApiClient(stranger) as client:
        with pytest.raises(ApiError, match="Unauthorized") as caught:
            await client.get(SHOP)
    assert (caught.value.status, "log in" in caught.value.fix) == (401, True)
    async with followed_as(stranger, tmp_path, monkeypatch) as (_, task):
        with pytest.raises(BaseExceptionGroup) as group:
            await task
    assert group.group_contains(ApiError, match="Unauthorized")


async def test_nobody_in_particular_may_nothing(side: Side) -> None:
    async with ApiClient(Access(side.admin.server, "", side.admin.ca_pem)) as client:
        with pytest.raises(ApiError, match="system:anonymous") as caught:
            await client.get(SHOP)
    assert (caught.value.status, caught.value.reason) == (403, "Forbidden")


# Rights, and how they are asked for.


def role(namespace: str, *rules: Need) -> Raw:
    kind, metadata = ("Role", {"name": "x", "namespace": namespace}) if namespace else ("ClusterRole", {"name": "x"})
    granted = [{"apiGroups": [n.group], "resources": [n.resource], "verbs": list(n.verbs)} for n in rules]
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": granted}


LISTS = Need("", "services", ("list",))
FORWARDS = Need("", "pods/portforward", ("create",))


@pytest.mark.parametrize(
    ("need", "namespace", "missing"),
    [
        (Need("", "services", ("list", "watch")), "shop", ("watch",)),
        (Need("", "services", ("list", "watch")), "rs", ("list", "watch")),
        (Need("", "services", ("list", "watch")), "", ("list", "watch")),
        (Need("", "namespaces", ("list", "watch")), "", ("watch",)),
        (Need("", "pods/portforward", ("get", "create")), "shop", ("get",)),
        (Need("", "pods", ("create",)), "shop", ("create",)),
        (Need("discovery.k8s.io", "endpointslices", ("list", "watch")), "shop", ("list", "watch")),
    ],
    ids=str,
)
async def test_access_reviews_say_what_may_not_be_done(
    side: Side, need: Need, namespace: str, missing: tuple[str, ...]
) -> None:
    _, access = await side.user([role("shop", LISTS, FORWARDS), role("", Need("", "namespaces", ("list",)))])
    async with ApiClient(access) as client:
        assert await missing_verbs(client, need, namespace) == missing


async def test_the_namespaces_that_may_be_followed_are_found(
    side: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = (Need("", "services", ("list", "watch")), Need("discovery.k8s.io", "endpointslices", ("list", "watch")))
    cases: list[tuple[list[Raw], tuple[str, ...] | None]] = [
        ([], ()),
        ([role("", LISTS)], ()),
        ([role("shop", *follow)], ("shop",)),
        ([role("shop", *follow), role("rs", *follow)], ("shop",)),
        ([role("rs", *follow), role("", Need("", "namespaces", ("list",)))], ("rs",)),
        ([role("", *follow)], None),
    ]
    for roles, expected in cases:
        _, access = await side.user(roles)
        async with ApiClient(access) as client:
            assert (await find_scope(client, "shop")).namespaces == expected
        async with followed_as(access, tmp_path, monkeypatch) as (follower, _):
            assert follower.scope.namespaces == expected
            spaces = {key[0] for key in follower.snapshot.services}
            assert spaces >= {"shop", "rs", "kube-system"} if expected is None else spaces == set(expected)


# What `resolverd rbac` prints.

VARIANTS = {
    "whole": Settings(tunnel=TunnelSettings(enabled=False)),
    "tunnel": Settings(),
    "some": Settings(cluster=ClusterSettings(namespaces=("shop", "rs"))),
    "some without tunnel": Settings(
        cluster=ClusterSettings(namespaces=("shop",)), tunnel=TunnelSettings(enabled=False)
    ),
}


async def complaints(
    side: Side, roles: list[Raw], settings: Settings, folder: Path, patch: pytest.MonkeyPatch
) -> tuple[str, set[tuple[str, str]]]:
    """All that is said about what lacks, empty when nothing does; and what was asked."""
    name, access = await side.user(roles)
    namespaces = settings.cluster.namespaces
    async with followed_as(access, folder, patch, namespaces=namespaces) as (follower, _):
        await eventually(lambda: any("reviews" in path for _, path in side.asked(name)))
        await asyncio.sleep(0.05)
        found = followed.checks(follower, settings.tunnel.enabled)
        said = [check.detail for check in found if check.fix or not check.ok]
    return "; ".join(said), set(side.asked(name))


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
async def test_what_rbac_prints_is_enough_and_each_verb_of_it_is_needed(
    settings: Settings, side: Side, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    roles = list(documents(settings))
    said, asked = await complaints(side, roles, settings, tmp_path, monkeypatch)
    assert said == _expected_gap(settings)
    for method, path in asked:
        assert method == "GET" or "/selfsubject" in path, "nothing is ever written"
    for each in roles:
        for rule in each["rules"]:
            for verb in list(rule["verbs"]):
                rule["verbs"].remove(verb)
                said, _ = await complaints(side, copy.deepcopy(roles), settings, tmp_path, monkeypatch)
                rule["verbs"].insert(0, verb)
                (resource,) = rule["resources"]
                assert verb in said, (each["metadata"], resource, verb, said)
                assert resource.partition("/")[0] in said, (each["metadata"], resource, verb, said)


def _expected_gap(settings: Settings) -> str:
    """Without a tunnel nobody can ask the cluster's DNS service, so that the rights for it are not asked for."""
    if settings.cluster.namespaces and not settings.tunnel.enabled:
        where = "in kube-system, for the names of other namespaces"
        missing = "; ".join(f"list, watch {resource} {where}" for resource in ("services", "endpointslices"))
        return f"follows shop; may not {missing}"
    return ""
