"""Watching pods against the demo cluster: what is known of them is the API's truth, and nothing else waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually

from resolverd.cluster import backoff, follow, login, watch
from resolverd.cluster.follow import Follower
from resolverd.cluster.objects import Pod, PodList, parse_pod
from resolverd.cluster.pods import FIX, PodWatch
from resolverd.cluster.snapshot import Change, Kind
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import Rule, User
from resolverd.settings import ClusterSettings


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "PAUSES", (0.01, 0.1))
    monkeypatch.setattr(follow, "GATHER", 0.01)
    monkeypatch.setattr(login, "REFRESH_PAUSE", 0.0)


@asynccontextmanager
async def following(
    cluster: DemoCluster, folder: Path, *, token: str = "", namespaces: tuple[str, ...] = ()
) -> AsyncIterator[Follower]:
    """A follower that wants pods, in step with everything else."""
    file = folder / "kubeconfig"
    file.write_text(cluster.kubeconfig(token=token))
    settings = ClusterSettings(kubeconfig=str(file), namespaces=namespaces)
    follower = Follower(settings, None, folder, lambda changes, touched: None, lambda context: None)
    follower.pods.want(True)
    task = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(20):
            await follower.synced.wait()
        yield follower
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def truth(cluster: DemoCluster) -> dict[tuple[str, str], Pod]:
    return {pod.key: pod for pod in map(parse_pod, cluster.objects("Pod"))}


async def test_pods_are_followed_while_they_are_wanted(tmp_path: Path) -> None:
    async with DemoCluster() as cluster, following(cluster, tmp_path) as follower:
        await eventually(lambda: follower.snapshot.has_pods_of("shop"))
        assert follower.snapshot.pods == truth(cluster)
        assert any(pod.address for pod in follower.snapshot.pods.values())
        cluster.delete("pods", "web-1", "shop")
        await eventually(lambda: follower.snapshot.pods == truth(cluster))
        follower.pods.want(False)
        await eventually(lambda: not follower.snapshot.pods and not follower.snapshot.has_pods_of("shop"))
        assert follower.snapshot.services
        follower.pods.want(True)
        await eventually(lambda: follower.snapshot.has_pods_of("shop"))
        assert follower.snapshot.pods == truth(cluster)


async def test_what_vanished_while_nobody_watched_is_gone_after_a_410(tmp_path: Path) -> None:
    async with DemoCluster() as cluster, following(cluster, tmp_path) as follower:
        await eventually(lambda: follower.snapshot.has_pods_of("shop"))
        await cluster.refuse()
        cluster.delete("pods", "web-1", "shop")
        cluster.expire_history()
        assert ("shop", "web-1") in follower.snapshot.pods
        await cluster.listen()
        await eventually(lambda: follower.snapshot.pods == truth(cluster))


async def test_pods_stay_known_when_credentials_are_renewed(tmp_path: Path) -> None:
    async with DemoCluster() as cluster, following(cluster, tmp_path) as follower:
        await eventually(lambda: follower.snapshot.has_pods_of("shop"))
        follower.renew()
        cluster.delete("pods", "web-1", "shop")
        await eventually(lambda: follower.snapshot.pods == truth(cluster))
        assert follower.snapshot.has_pods_of("shop")


async def test_a_finished_pod_is_gone_though_its_object_stays(tmp_path: Path) -> None:
    async with DemoCluster() as cluster, following(cluster, tmp_path) as follower:
        await eventually(lambda: ("shop", "web-1") in follower.snapshot.pods)
        cluster.patch("pods", "web-1", {"metadata": {"annotations": {"demo.resolverd.io/state": "finished"}}}, "shop")
        await eventually(lambda: ("shop", "web-1") not in follower.snapshot.pods)
        assert cluster.get("Pod", "web-1", "shop")["status"]["podIP"]


NO_PODS = Rule(frozenset({"list", "watch"}), frozenset({"namespaces", "services", "endpointslices"}))
SHOP_PODS = Rule(frozenset({"list", "watch"}), frozenset({"pods"}), frozenset({"shop"}))


async def test_without_the_right_everything_else_goes_on_and_the_trouble_says_what_to_do(tmp_path: Path) -> None:
    async with (
        DemoCluster(traits=Traits(tokens={"t": User("ada", (NO_PODS,))})) as cluster,
        following(cluster, tmp_path, token="t") as follower,
    ):
        await eventually(lambda: "pods" in follower.trouble)
        error = follower.trouble["pods"]
        assert 'cannot list resource "pods"' in error.why
        assert error.fix == FIX
        assert not follower.pods.are_listed
        assert not follower.snapshot.has_pods_of("shop")
        assert set(follower.trouble) == {"pods"}
        follower.pods.want(False)
        await eventually(lambda: not follower.trouble)


async def test_rights_in_one_of_two_namespaces_are_rights_in_that_one(tmp_path: Path) -> None:
    user = User("ada", (NO_PODS, SHOP_PODS))
    async with (
        DemoCluster(traits=Traits(tokens={"t": user})) as cluster,
        following(cluster, tmp_path, token="t", namespaces=("shop", "default")) as follower,
    ):
        await eventually(lambda: follower.snapshot.has_pods_of("shop") and "pods in default" in follower.trouble)
        assert not follower.snapshot.has_pods_of("default")
        assert {key[0] for key in follower.snapshot.pods} == {"shop"}


class Sink:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def put(self, change: Change) -> None:
        self.changes.append(change)

    def listed(self, reflector: watch.Reflector) -> None:
        return

    alive = listed

    def failed(self, reflector: watch.Reflector, error: Any) -> None:
        raise error


def test_a_pod_that_is_being_ended_stays_as_it_was_known_or_not() -> None:
    sink = Sink()
    pods = PodWatch(sink, lambda _: None)
    before, ending = Pod("shop", "a", "10.0.0.1"), Pod("shop", "a", "10.0.0.1", terminating=True)
    for pod in (before, ending):
        pods.put(Change(Kind.POD, pod.key, pod))
    pods.put(Change(Kind.POD, before.key, None))
    assert sink.changes == [Change(Kind.POD, before.key, before), Change(Kind.POD, before.key, None)]


def test_a_complete_list_is_said_after_its_pods_and_taken_back_with_them() -> None:
    sink = Sink()
    pods = PodWatch(sink, lambda _: None)
    pods.cover(("shop", "dev"))
    first = pods.reflectors[0]
    pods.listed(first)
    assert sink.changes == [Change(Kind.POD_LIST, ("", "shop"), PodList("shop"))]
