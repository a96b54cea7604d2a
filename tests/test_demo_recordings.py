"""The demo cluster answers what a real kube-apiserver 1.36 has answered: bodies, status codes, headers, events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from recorded import applied, differences, exchanges

from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import ADMIN, User

Raw = dict[str, Any]

TOKENS = {"admin": ADMIN, "dev": User("dev")}
BY_RECORDED_USER = {"admin": "admin", "dev-without-rights": "dev", "wrong": "nobody knows it"}


@pytest.fixture
async def cluster() -> AsyncIterator[DemoCluster]:
    """One like the recorded one: IPv4 first, nothing in it but the system and the namespace shop."""
    async with DemoCluster(traits=Traits(samples=False, tokens=TOKENS, linger=0, bookmark_interval=0.1)) as cluster:
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
        yield cluster


@pytest.fixture
async def session(cluster: DemoCluster) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=cluster.server) as session:
        yield session


def headers(request: Raw) -> dict[str, str]:
    """The recorded headers and the token of the recorded user."""
    token = BY_RECORDED_USER.get(request.get("user") or "")
    return {**request.get("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}


async def ask(session: aiohttp.ClientSession, request: Raw) -> tuple[aiohttp.ClientResponse, Any]:
    """Send a recorded request; the response and its JSON or text."""
    response = await session.request(request["method"], request["path"], json=request["body"], headers=headers(request))
    async with response:
        text = await response.text()
        return response, json.loads(text) if response.content_type == "application/json" else text


def replayed(theme: str) -> list[Any]:
    return [pytest.param(item, id=item["request"]["path"]) for item in exchanges(theme)]


FAILURES = [item for item in exchanges("lists") if item["response"]["status"] >= 400]


@pytest.mark.parametrize("exchange", [*replayed("auth"), *(pytest.param(i, id=i["request"]["path"]) for i in FAILURES)])
async def test_refusals_and_reviews(session: aiohttp.ClientSession, exchange: Raw) -> None:
    response, body = await ask(session, exchange["request"])
    recorded = exchange["response"]
    assert response.status == recorded["status"]
    assert response.headers["Cache-Control"] == recorded["headers"]["Cache-Control"]
    assert response.headers["Content-Type"] == recorded["headers"]["Content-Type"]
    found = [line for line in differences(recorded["body"], body) if not is_known(line)]
    assert not found


def is_known(line: str) -> bool:
    """What differs on purpose: our words about a continue token, and fewer paths and rules in a rules review."""
    fewer = (".status.nonResourceRules", ".status.resourceRules: recorded 2 items, ours 1")
    return line.startswith(fewer) or line.count("invalid continue token: continue key is not valid") == 2


@pytest.mark.parametrize("exchange", replayed("discovery"))
async def test_discovery_is_the_part_of_the_real_one_that_is_served(
    session: aiohttp.ClientSession, exchange: Raw
) -> None:
    response, body = await ask(session, exchange["request"])
    recorded = exchange["response"]
    assert (response.status, response.headers["Content-Type"]) == (200, recorded["headers"]["Content-Type"])
    if "body" not in recorded:
        assert body == recorded["body_text"]
        return
    theirs = recorded["body"]
    assert set(body) == set(theirs)
    for rows in ("resources", "groups"):
        known = {row["name"]: row for row in theirs.get(rows, [])}
        served = body.get(rows, [])
        assert not [line for row in served for line in differences(known[row["name"]], row)]
    if "kind" in theirs:
        assert (body["kind"], body.get("groupVersion")) == (theirs["kind"], theirs.get("groupVersion"))
    else:
        assert {key: type(value) for key, value in body.items()} == {key: type(v) for key, v in theirs.items()}


def recorded_list(path: str) -> Raw:
    found: Raw = next(item["response"]["body"] for item in exchanges("lists") if item["request"]["path"] == path)
    return found


async def test_lists_of_the_same_manifests_hold_the_same_objects(
    cluster: DemoCluster, session: aiohttp.ClientSession
) -> None:
    services = recorded_list("/api/v1/services")["items"]
    pods = recorded_list("/api/v1/pods")["items"]
    for raw in [*services, *pods]:
        if "annotations" in raw["metadata"]:
            cluster.create(applied(raw))
    cluster.patch("services", "web", {"spec": {"publishNotReadyAddresses": True}}, "shop")
    paths = ("/api/v1/namespaces", "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices", "/api/v1/pods")
    found: list[str] = []
    for path in paths:
        _, body = await ask(session, {"method": "GET", "path": path, "user": "admin", "body": None})
        body["items"] = [raw for raw in body["items"] if raw["metadata"].get("namespace") != "kube-system"]
        found += differences(recorded_list(path), body, path)
    assert [line for line in found if not line.startswith(KNOWN_OF_PODS)] == []


KNOWN_OF_PODS = tuple(
    f"/api/v1/pods.items[{index}].{field}"
    for index in range(3)
    for field in ("status.conditions", "status.containerStatuses", "status.hostIPs", "status.startTime", "spec.image")
)
"""The recorded status was written by hand, and says less than a kubelet does."""


async def test_a_list_in_chunks(cluster: DemoCluster, session: aiohttp.ClientSession) -> None:
    first, second = (
        item
        for item in exchanges("lists")
        if "limit=2" in item["request"]["path"] and item["response"]["status"] == 200
    )
    _, body = await ask(session, first["request"])
    assert not list(differences(first["response"]["body"], body))
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-later"}})
    token = body["metadata"]["continue"]
    _, rest = await ask(session, {**second["request"], "path": f"/api/v1/namespaces?limit=2&continue={token}"})
    assert not list(differences(second["response"]["body"], rest))
    assert rest["metadata"]["resourceVersion"] == body["metadata"]["resourceVersion"]
    assert rest["metadata"]["remainingItemCount"] == 1
    token = rest["metadata"]["continue"]
    _, last = await ask(session, {**second["request"], "path": f"/api/v1/namespaces?limit=2&continue={token}"})
    assert [raw["metadata"]["name"] for raw in last["items"]] == ["shop"]
    assert set(last["metadata"]) == {"resourceVersion"}


async def watched(session: aiohttp.ClientSession, exchange: Raw, version: int | str, events: int = 0) -> list[Raw]:
    """The events of a recorded watch, started at ``version``: until a bookmark comes after ``events`` others.

    Without ``events``: until the server ends it, after a second.
    """
    path, _, query = exchange["request"]["path"].partition("?")
    asked = [word for word in query.split("&") if not word.startswith(("resourceVersion=", "timeoutSeconds="))]
    if version != "":
        asked.append(f"resourceVersion={version}")
    path = f"{path}?{'&'.join(asked)}&timeoutSeconds={60 if events else 1}"
    recorded, found = exchange["response"], []
    async with session.get(path, headers=headers(exchange["request"])) as response:
        assert response.status == recorded["status"]
        for key in ("Cache-Control", "Content-Type", "Transfer-Encoding"):
            assert response.headers.get(key) == recorded["headers"].get(key)
        async for line in response.content:
            found.append(json.loads(line))
            others = sum(event.get("type") != "BOOKMARK" for event in found)
            if events and others >= events and found[-1].get("type") == "BOOKMARK":
                break
    return found


def told(exchange: Raw) -> list[Raw]:
    """The recorded events, with no more than one of the bookmarks before the end."""
    events = [item["event"] for item in exchange["response"]["stream"]]
    return [event for event in events if event.get("type") != "BOOKMARK"] + [
        event for event in events if event.get("type") == "BOOKMARK"
    ][:1]


async def watch_while(session: aiohttp.ClientSession, cluster: DemoCluster, exchange: Raw, act: Any) -> None:
    """Watch, ``act`` meanwhile, and compare the events."""
    expected = told(exchange)
    watching = asyncio.create_task(watched(session, exchange, cluster.version, len(expected) - 1))
    await act()
    events = await watching
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(versions)
    events = [event for event in events[:-1] if event["type"] != "BOOKMARK"] + events[-1:]
    assert not list(differences(expected, events))


async def test_a_watch_of_namespaces(cluster: DemoCluster, session: aiohttp.ClientSession) -> None:
    (exchange,) = exchanges("watch-namespaces")
    rs, payments = (event["object"] for event in told(exchange)[:2])

    async def act() -> None:
        cluster.create(applied(rs))
        cluster.create(applied(payments))
        cluster.patch("namespaces", "payments", {"metadata": {"labels": {"team": "blue"}}})
        async with session.delete("/api/v1/namespaces/rs", headers={"Authorization": "Bearer admin"}) as response:
            assert (response.status, (await response.json())["status"]) == (200, {"phase": "Terminating"})

    await watch_while(session, cluster, exchange, act)


async def test_a_watch_of_services(cluster: DemoCluster, session: aiohttp.ClientSession) -> None:
    (exchange,) = exchanges("watch-services")
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "payments"}})

    async def act() -> None:
        for event in told(exchange):
            if event["type"] == "ADDED":
                cluster.create(applied(event["object"]))
        cluster.delete("services", "api", "payments")

    await watch_while(session, cluster, exchange, act)


async def test_a_watch_of_endpoint_slices(cluster: DemoCluster, session: aiohttp.ClientSession) -> None:
    (exchange,) = exchanges("watch-endpointslices")
    for raw in recorded_list("/api/v1/services")["items"][1:] + recorded_list("/api/v1/pods")["items"]:
        cluster.create(applied(raw))
    cluster.patch("services", "web", {"spec": {"publishNotReadyAddresses": True}}, "shop")

    async def act() -> None:
        for state in ("unready", "ready"):
            note = {"demo.resolverd.io/state": state}
            cluster.patch("pods", "web-2", {"metadata": {"annotations": note}}, "shop")

    await watch_while(session, cluster, exchange, act)


async def test_a_watch_from_a_version_that_is_gone(cluster: DemoCluster, session: aiohttp.ClientSession) -> None:
    gone, future, nonsense = exchanges("watch-expired")
    cluster.expire_history()
    (event,) = await watched(session, gone, 1)
    event["object"]["message"] = event["object"]["message"].replace(f"({cluster.version})", "(751)")
    assert [event] == told(gone)
    assert await watched(session, future, 99999999) == told(future)
    response, body = await ask(session, nonsense["request"])
    assert response.status == nonsense["response"]["status"]
    assert [body] == told(nonsense)


async def test_streaming_lists_are_refused_as_with_an_old_etcd(session: aiohttp.ClientSession) -> None:
    (exchange,) = exchanges("watch-initial-events")
    assert await watched(session, exchange, "") == told(exchange)
