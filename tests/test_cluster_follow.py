"""Following a cluster: against the demo cluster, whole and with faults, the Snapshot ends up as the API's truth."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually
from watch_soak import known, service, truth

from resolverd.cluster import backoff, follow, login, objects, scoping, servers, watch
from resolverd.cluster.access import Access
from resolverd.cluster.follow import Follower
from resolverd.cluster.kubeconfig import KubeContext
from resolverd.cluster.snapshot import Change, Kind, Snapshot, fold
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import Rule, User
from resolverd.errors import ResolverdError
from resolverd.names import Address
from resolverd.settings import ClusterSettings


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "PAUSES", (0.01, 0.1))
    monkeypatch.setattr(follow, "GATHER", 0.01)
    monkeypatch.setattr(login, "REFRESH_PAUSE", 0.0)


class Following:
    """A follower at work, with what it told."""

    def __init__(self, file: Path, namespaces: tuple[str, ...] = ()) -> None:
        self.batches: list[tuple[Change, ...]] = []
        self.contexts: list[KubeContext] = []
        settings = ClusterSettings(kubeconfig=str(file), namespaces=namespaces)
        self.follower = Follower(
            settings, None, file.parent, lambda changes, touched: self.batches.append(changes), self.contexts.append
        )
        self.task = asyncio.create_task(self.follower.run())

    async def synced(self) -> Follower:
        synced = asyncio.create_task(self.follower.synced.wait())
        done, _ = await asyncio.wait([synced, self.task], return_when=asyncio.FIRST_COMPLETED, timeout=20)
        synced.cancel()
        if self.task in done:
            await self.task
        assert self.follower.synced.is_set()
        return self.follower

    async def error(self) -> ResolverdError:
        with pytest.raises(BaseExceptionGroup) as caught:
            await asyncio.wait_for(self.task, 20)
        (error,) = caught.value.exceptions
        assert isinstance(error, ResolverdError)
        return error


@asynccontextmanager
async def following(cluster: DemoCluster, folder: Path, token: str = "", **options: Any) -> AsyncIterator[Following]:
    (folder / "kubeconfig").write_text(cluster.kubeconfig(token=token))
    one = Following(folder / "kubeconfig", **options)
    try:
        yield one
    finally:
        one.task.cancel()
        await asyncio.gather(one.task, return_exceptions=True)


async def test_the_first_lists_are_the_truth_and_workers_could_follow(tmp_path: Path) -> None:
    async with DemoCluster() as cluster, following(cluster, tmp_path) as one:
        follower = await one.synced()
        assert known(follower.snapshot) == truth(cluster)
        assert [context.namespace for context in one.contexts] == ["shop"]
        await eventually(lambda: "10.96.0.0/16" in map(str, follower.facts.ranges))
        cluster.create(service("fresh"))
        cluster.delete("Service", "web", "shop")
        await eventually(lambda: known(follower.snapshot) == truth(cluster))
        rebuilt = Snapshot()
        for changes in one.batches:
            rebuilt, _ = fold(rebuilt, changes, synced=True, serial=follower.snapshot.serial)
        assert rebuilt == follower.snapshot


async def test_a_list_in_pages_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PAGE", 3)
    async with DemoCluster() as cluster, following(cluster, tmp_path) as one:
        follower = await one.synced()
        assert known(follower.snapshot) == truth(cluster)


async def test_what_vanished_while_nobody_watched_is_gone_after_a_410(tmp_path: Path) -> None:
    async with DemoCluster() as cluster, following(cluster, tmp_path) as one:
        follower = await one.synced()
        await cluster.refuse()
        cluster.delete("Service", "web", "shop")
        cluster.create(service("fresh"))
        cluster.expire_history()
        assert ("shop", "web") in follower.snapshot.services
        await cluster.listen()
        await eventually(lambda: known(follower.snapshot) == truth(cluster))


async def test_away_is_not_gone(tmp_path: Path) -> None:
    async with DemoCluster() as cluster, following(cluster, tmp_path) as one:
        follower = await one.synced()
        before = follower.snapshot
        await cluster.refuse()
        await eventually(lambda: bool(follower.trouble))
        assert follower.snapshot is before
        await cluster.listen()
        await eventually(lambda: not follower.trouble)


async def test_under_changes_and_faults_the_truth_wins(tmp_path: Path) -> None:
    chance = random.Random(20261121)
    async with DemoCluster() as cluster, following(cluster, tmp_path) as one:
        follower = await one.synced()
        for turn in range(60):
            fault = chance.choice(["drop", "expire", "fail", "none", "none"])
            if fault == "drop":
                cluster.faults.drop_streams()
            elif fault == "expire":
                cluster.expire_history()
            cluster.faults.failing = 500 if fault == "fail" else 0
            cluster.create(service(f"s{turn}"))
            if turn > 5 and turn % 2:
                cluster.delete("Service", f"s{turn - 5}", "shop")
            await asyncio.sleep(0.01)
        cluster.faults.failing = 0
        await eventually(lambda: known(follower.snapshot) == truth(cluster))


async def test_a_malformed_object_is_skipped_and_the_rest_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(raw: objects.Raw) -> objects.Service:
        if raw["metadata"]["name"] == "mail":
            raise objects.MalformedObjectError("asked for by the test")
        return objects.parse_service(raw)

    watched = [replace(item, parse=picky) if item.kind is Kind.SERVICE else item for item in watch.WATCHED]
    monkeypatch.setattr(scoping, "WATCHED", watched)
    async with DemoCluster() as cluster, following(cluster, tmp_path) as one:
        follower = await one.synced()
        assert ("shop", "mail") not in follower.snapshot.services
        assert ("shop", "web") in follower.snapshot.services


async def test_rights_in_one_namespace_are_enough_when_it_is_named(tmp_path: Path) -> None:
    rule = Rule(frozenset({"list", "watch"}), frozenset({"services", "endpointslices"}), frozenset({"shop"}))
    limited = {"t": User("ada", (rule,))}
    async with DemoCluster(traits=Traits(tokens=limited)) as cluster:
        async with following(cluster, tmp_path, "t", namespaces=("shop",)) as one:
            follower = await one.synced()
            assert set(follower.snapshot.namespaces) == {"shop"}
            assert {key[0] for key in follower.snapshot.services} == {"shop"}
        async with following(cluster, tmp_path, "t") as one:
            follower = await one.synced()
            assert follower.scope.namespaces == ("shop",), "found by asking"
            assert not follower.trouble, "of what is followed no more"
            assert known(follower.snapshot)["services"] == {
                objects.parse_service(raw) for raw in cluster.objects("Service", "shop")
            }
            assert any("services" in text for text in follower.scope.missing)


async def test_a_refused_token_ends_it_at_once(tmp_path: Path) -> None:
    async with DemoCluster(traits=Traits(tokens={})) as cluster, following(cluster, tmp_path, "no") as one:
        error = await one.error()
        assert (error.code, "Unauthorized" in error.why) == (5, True)


async def test_a_server_without_a_kind_that_is_needed_is_called_by_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(watch.WATCHED[2], group_version="/apis/discovery.k8s.io/v0")
    monkeypatch.setattr(scoping, "WATCHED", (*watch.WATCHED[:2], other))
    async with DemoCluster() as cluster, following(cluster, tmp_path) as one:
        error = await one.error()
        assert error.why == "it does not serve discovery.k8s.io/v0: it is Kubernetes v1.36.2+resolverd-demo"
        assert "1.21" in error.fix


async def test_nobody_there_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "FIRST_ANSWER", 0.2)
    async with DemoCluster() as cluster:
        await cluster.refuse()
        async with following(cluster, tmp_path) as one:
            error = await one.error()
            assert "refused" in error.why.lower()
            assert cluster.server in error.what


async def test_an_api_server_that_moves_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    answers = [(first,), (second,), (), (first,)]

    async def addresses(_access: Access) -> tuple[Address, ...]:
        return answers.pop(0)

    monkeypatch.setattr(servers, "addresses_of", addresses)
    follower = Follower(ClusterSettings(), None, tmp_path, lambda *_: None, lambda _: None)
    assert not await follower.look_for_server()
    follower._login.context = KubeContext("here", "shop", Access("https://api.example"))
    assert await follower.look_for_server()
    assert await follower.look_for_server()
    assert follower.servers.addresses == (second, first)
    assert not await follower.look_for_server(), "a resolver without an answer says nothing"
    assert not await follower.look_for_server(), "a name with turns is no move each time"
    assert follower.servers.addresses == (second, first)
