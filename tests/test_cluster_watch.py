"""A watch that cannot rot: each way in which it could, against the demo cluster with faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from fakes import eventually
from hypothesis import given
from hypothesis import strategies as st
from watch_soak import FAULTS, known, service, soaking, truth

from resolverd.cluster import backoff, client, objects, watch
from resolverd.cluster.access import Access
from resolverd.cluster.backoff import Backoff
from resolverd.cluster.client import ApiClient, ApiError, Load, UnreachableError
from resolverd.cluster.pages import read_item, read_page
from resolverd.cluster.snapshot import Change, Snapshot, fold
from resolverd.cluster.watch import WATCHED, Reflector
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.faults import Mischief

SERVICES = WATCHED[1]


class Table:
    """A sink that keeps what there is."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.lists = self.opened = 0
        self.errors: list[ApiError | UnreachableError] = []

    def put(self, change: Change) -> None:
        self.snapshot, _ = fold(self.snapshot, [change])

    def listed(self, reflector: Reflector) -> None:
        self.lists += 1

    def alive(self, reflector: Reflector) -> None:
        self.opened += 1

    def failed(self, reflector: Reflector, error: ApiError | UnreachableError) -> None:
        self.errors.append(error)


@asynccontextmanager
async def reflecting(cluster: DemoCluster) -> AsyncIterator[tuple[Reflector, Table]]:
    table = Table()
    reflector = Reflector(SERVICES, table)
    async with ApiClient(Access(cluster.server)) as api:
        task = asyncio.create_task(reflector.run(api))
        try:
            await eventually(lambda: cluster.faults.streams == 1)
            yield reflector, table
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def services(cluster: DemoCluster) -> set[objects.Service]:
    return {objects.parse_service(raw) for raw in cluster.objects("Service")}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "PAUSES", (0.01, 0.1))


async def test_a_page_that_expired_leads_to_a_whole_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PAGE", 2)
    async with DemoCluster() as cluster:
        cluster.faults.expired_pages = 1
        async with reflecting(cluster) as (_, table):
            assert set(table.snapshot.services.values()) == services(cluster)
            lists = [path for _, path in cluster.asked if "watch=1" not in path]
            assert ["limit" in path for path in lists] == [True, True, False]


async def test_what_a_list_that_broke_off_had_told_is_gone_when_the_next_one_lacks_it() -> None:
    table = Table()
    reflector = Reflector(SERVICES, table)
    pages = [(("a", "b"), "more"), None, (("b",), "")]

    class Server:
        async def fetch(self, *_: object) -> bytes:
            if (page := pages.pop(0)) is None:
                raise ApiError("api", "the page expired", status=410)
            names, token = page
            items = [{"metadata": {"namespace": "shop", "name": name, "resourceVersion": "7"}} for name in names]
            return json.dumps({"metadata": {"resourceVersion": "9", "continue": token}, "items": items}).encode()

    server = cast(ApiClient, Server())
    with pytest.raises(ApiError):
        await reflector._list(server)
    assert set(table.snapshot.services) == {("shop", "a"), ("shop", "b")}
    await reflector._list(server)
    assert set(table.snapshot.services) == {("shop", "b")}


async def test_an_interruption_is_resumed_without_a_list() -> None:
    async with DemoCluster() as cluster, reflecting(cluster) as (reflector, table):
        cluster.create(service("fresh"))
        await eventually(lambda: ("shop", "fresh") in table.snapshot.services)
        version = reflector.version
        cluster.faults.drop_streams()
        await eventually(lambda: cluster.faults.streams == 1 and table.opened > 2)
        assert table.lists == 1
        assert f"resourceVersion={version}" in cluster.asked[-1][1]


async def test_bookmarks_move_the_version_on() -> None:
    async with DemoCluster(traits=Traits(bookmark_interval=0.05)) as cluster, reflecting(cluster) as (reflector, _):
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
        await eventually(lambda: reflector.version == str(cluster.version))


async def test_events_that_come_twice_or_too_late_change_nothing() -> None:
    table = Table()
    reflector = Reflector(SERVICES, table)

    def event(name: str, version: int, port: int, kind: str = "MODIFIED") -> None:
        raw = {"metadata": {"name": name, "namespace": "a", "resourceVersion": str(version)}}
        item = read_item({**raw, "spec": {"ports": [{"port": port}]}}, objects.parse_service)
        assert item
        reflector._take(item, is_gone=kind == "DELETED")

    event("web", 12, 2)
    event("web", 11, 1)
    assert table.snapshot.services["a", "web"].ports[0].port == 2
    assert reflector.version == "12"
    event("web", 14, 2, "DELETED")
    event("web", 13, 3)
    event("web", 14, 2, "DELETED")
    assert not table.snapshot.services
    event("web", 15, 4)
    assert table.snapshot.services["a", "web"].ports[0].port == 4


async def test_a_bookmark_from_the_past_means_another_history() -> None:
    """The API server was restored from a backup: its versions begin anew."""
    reflector = Reflector(SERVICES, Table())
    reflector._mark({"metadata": {"resourceVersion": "50"}})
    with pytest.raises(ApiError) as caught:
        reflector._mark({"metadata": {"resourceVersion": "40"}})
    assert caught.value.status == 410


async def test_a_server_put_back_from_a_backup_is_listed_at_once() -> None:
    """It takes a watch from its future and is silent about it (kubernetes/kubernetes#107457)."""
    async with DemoCluster() as cluster, reflecting(cluster) as (reflector, table):
        await cluster.close()
        async with DemoCluster(port=urlsplit(cluster.server).port or 0, traits=Traits(samples=False)) as older:
            assert older.version < int(reflector.version)
            await eventually(lambda: set(table.snapshot.services.values()) == services(older))
            older.create(service("fresh", "default"))
            await eventually(lambda: ("default", "fresh") in table.snapshot.services)
            assert table.lists == 2


async def test_an_interruption_costs_a_look_and_an_end_that_was_agreed_on_costs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "WATCH_SECONDS", (2, 2))
    monkeypatch.setattr(watch, "ON_TIME", 0.5)

    def asked() -> list[str]:
        return [
            "watch" if "watch=1" in path else "look" if "limit=1&" in f"{path}&" else "list" for path in all_asked()
        ]

    def all_asked() -> list[str]:
        return [path for _, path in cluster.asked]

    async with DemoCluster() as cluster, reflecting(cluster):
        await eventually(lambda: asked() == ["list", "watch", "watch"])
        cluster.faults.drop_streams()
        await eventually(lambda: asked() == ["list", "watch", "watch", "look", "watch"])
        await cluster.refuse()
        cluster.faults.drop_streams()
        await asyncio.sleep(0.3)
        await cluster.listen()
        await eventually(lambda: asked() == ["list", "watch", "watch", "look", "watch", "look", "watch"])


async def test_a_watch_that_says_nothing_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "READ_TIMEOUT", 0.1)
    async with DemoCluster() as cluster, reflecting(cluster) as (_, table):
        cluster.faults.forget_streams()
        cluster.create(service("fresh"))
        await eventually(lambda: ("shop", "fresh") in table.snapshot.services)
        assert any(isinstance(error, UnreachableError) and error.is_silence for error in table.errors)
        cluster.faults.forget_streams()
        # Two in a row without even a bookmark: the version is not trusted.
        await eventually(lambda: table.lists > 1)


async def test_retry_after_is_heeded() -> None:
    async with DemoCluster() as cluster, reflecting(cluster) as (_, table):
        cluster.faults.failing, cluster.faults.retry_after = 429, 7
        asked = len(cluster.asked)
        cluster.faults.drop_streams()
        await eventually(lambda: any(isinstance(error, ApiError) for error in table.errors))
        await asyncio.sleep(0.3)
        (error,) = (error for error in table.errors if isinstance(error, ApiError))
        assert (error.status, error.retry_after) == (429, 7.0)
        assert len(cluster.asked) == asked + 1, "and no sooner"


@pytest.mark.parametrize(
    ("value", "seconds"), [("3", 3.0), ("0", 0.0), ("99999", 60.0), ("soon", 0.0), ("-1", 0.0), ("", 0.0)]
)
def test_retry_after_as_it_may_be_written(value: str, seconds: float) -> None:
    assert client._retry_after(value) == seconds
    assert 0 < client._retry_after("Fri, 31 Dec 2100 23:59:59 GMT") <= client.LONGEST_RETRY_AFTER


def test_pauses_grow_are_jittered_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "PAUSES", (0.2, 4.0))
    refused = UnreachableError("api", "refused")
    pauses = [Backoff() for _ in range(50)]
    first = {each.pause(refused, 0.0) for each in pauses}
    assert len(first) > 1
    assert all(0.1 <= pause <= 0.2 for pause in first)
    for _ in range(20):
        late = {each.pause(refused, 0.0) for each in pauses}
    assert all(2.0 <= pause <= 4.0 for pause in late)
    assert pauses[0].pause(refused, 3.9) <= 0.1, "a connection that timed out has been its own pause"
    assert pauses[0].pause(None, 300.0) == 0.0, "an ordinary end"
    assert Backoff().pause(ApiError("api", "no", status=401), 0.0) >= 30.0
    assert Backoff().pause(ApiError("api", "no", status=503, retry_after=9.0), 0.0) >= 9.0


async def test_a_malformed_object_is_counted_and_what_it_was_is_gone() -> None:
    table = Table()
    reflector = Reflector(SERVICES, table)
    good = {"metadata": {"name": "web", "namespace": "a", "resourceVersion": "1"}, "spec": {}}
    for raw in (good, {**good, "spec": []}, {**good, "spec": {"clusterIPs": [7]}}):
        raw["metadata"] = {**good["metadata"], "resourceVersion": str(int(reflector.version or 0) + 1)}
        item = read_item(raw, objects.parse_service)
        assert item
        reflector._take(item, is_gone=False)
    assert reflector.malformed == {("a", "web")}
    assert not table.snapshot.services
    last = read_item({**good, "metadata": {**good["metadata"], "resourceVersion": "9"}}, objects.parse_service)
    assert last
    reflector._take(last, is_gone=True)
    assert not reflector.malformed


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("9" * 5000),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["metadata", "name", "namespace", "spec", "ports", "port", "targetPort", "endpoints", "addresses",
                 "clusterIPs", "labels", "conditions", "targetRef", "items", "resourceVersion", "strange"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)  # fmt: skip


@given(ANYTHING, st.sampled_from(WATCHED))
def test_whatever_an_object_is_it_breaks_nothing(raw: Any, watched: watch.Watched) -> None:
    for given_raw in (raw, {"metadata": {"name": "x", "namespace": "y"}, "spec": raw, "endpoints": raw, "ports": raw}):
        item = read_item(given_raw, watched.parse)
        assert item is None or item.object is not None or item.why


@given(ANYTHING)
def test_whatever_a_page_is_it_is_a_list_or_an_error(raw: Any) -> None:
    with contextlib.suppress(ValueError):
        read_page(json.dumps(raw).encode(), objects.parse_service)


async def test_lists_come_compressed_and_in_one_set_of_connections() -> None:
    """A real API server compresses what is larger than 128 KiB for those who take it."""
    async with DemoCluster() as cluster:
        load = Load()
        async with ApiClient(Access(cluster.server), load) as api:
            assert api._session.headers["Accept-Encoding"] == "gzip"
            await api.get("/api/v1/namespaces")
        assert (load.requests, load.watches) == (1, 0)


async def test_a_slow_or_truncated_list_does_not_get_lost() -> None:
    async with DemoCluster() as cluster, reflecting(cluster) as (_, table):
        cluster.faults.mischief = Mischief(truncated=0.7, crawling=0.002)
        cluster.create(service("fresh"))
        cluster.expire_history()
        await eventually(lambda: set(table.snapshot.services.values()) == services(cluster))


@pytest.mark.parametrize("seed", [1])
async def test_under_every_fault_the_truth_wins_soon(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``tests/bench/soak_watch.py`` in short. Each divergence is waited for; how long it took is for the bench."""
    monkeypatch.setattr(backoff, "PAUSES", (0.05, 0.5))
    async with soaking(tmp_path, seed) as soak:
        for name in FAULTS:
            await soak._one(name, 0.2)
        assert set(soak.counts) == set(FAULTS)
        assert known(soak.follower.snapshot) == truth(soak.cluster)
