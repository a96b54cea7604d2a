"""From an address to a stream: another pod when one fails, patience while nothing is known, newest credentials."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any, cast

import pytest
from dns_side import DnsSide

from resolverd.cluster.access import Access
from resolverd.cluster.endpoints import Endpoint, Endpoints
from resolverd.cluster.objects import EndpointPort, EndpointSlice, Service, ServicePort
from resolverd.cluster.snapshot import Change, Kind
from resolverd.cluster.target import Target
from resolverd_tunnel import finding, known, refusals
from resolverd_tunnel.finding import TRIES, StreamFinder
from resolverd_tunnel.gate import NotYetError
from resolverd_tunnel.known import Known
from resolverd_tunnel.packet import Opening
from resolverd_tunnel.transport import NoWayError, Stream, Transport, TransportError

WEB = Service("shop", "web", "ClusterIP", ("10.96.0.7",), False, "", (ServicePort("", "TCP", 80, 8080),))
PODS = tuple(Endpoint((f"10.244.0.{n}",), "", True, False, f"web-{n}") for n in range(1, 6))
SLICE = EndpointSlice("shop", "web-a", "web", Endpoints(PODS), (EndpointPort("", "TCP", 8080),))
CLUSTER = (Change(Kind.SERVICE, WEB.key, WEB), Change(Kind.SLICE, SLICE.key, SLICE))
CLIENT = ip_address("198.18.53.1")
TO_WEB = Opening(CLIENT, 40000, ip_address("10.96.0.7"), 80)
FIRST, SECOND = Access("https://one"), Access("https://two")


@dataclass(eq=False)
class FakeTransport:
    """Opens what is not broken; keeps what it was asked for."""

    access: Access
    broken: dict[str, Exception] = field(default_factory=dict)
    asked: list[Target] = field(default_factory=list)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False
    name: str = "fake"
    trouble: str = ""
    hurried: int = 0

    async def open(self, target: Target) -> Stream:
        self.asked.append(target)
        if target.pod in self.broken:
            raise self.broken[target.pod]
        return cast(Stream, (self.access, target))

    def hurry(self) -> None:
        self.hurried += 1

    async def retire(self) -> None:
        await self.idle.wait()
        self.closed = True

    async def close(self) -> None:
        self.idle.set()
        self.closed = True


@dataclass
class Scene:
    made: list[FakeTransport] = field(default_factory=list)
    known: Known = field(init=False)
    dns: DnsSide = field(init=False)

    def __post_init__(self) -> None:
        ours, self.dns = DnsSide.made()
        self.known = Known(ours)

    def finder(self, changes: tuple[Change, ...] = CLUSTER) -> StreamFinder:
        if changes:
            self.dns.learn(changes)
        return StreamFinder(self.known, self.make, lambda: None)

    def close(self) -> None:
        self.known.close()
        self.dns.close()

    def make(self, access: Access, on_unauthorized: Callable[[], None]) -> Transport:
        if access.ca_pem:
            raise ssl.SSLError("no certificate")
        self.made.append(FakeTransport(access))
        return self.made[-1]


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    made = Scene()
    yield made
    made.close()


async def opened(finder: StreamFinder, ends: Opening = TO_WEB) -> Any:
    return await finder.open(ends)


async def test_connections_go_around_the_pods(scene: Scene) -> None:
    finder = scene.finder()
    finder.reach(FIRST)
    assert {(await opened(finder))[1].pod for _ in range(5)} == {pod.pod for pod in PODS}
    await finder.close()


async def test_another_pod_is_tried_when_one_fails(scene: Scene) -> None:
    finder = scene.finder()
    finder.reach(FIRST)
    transport = scene.made[0]
    transport.broken = {"web-1": ConnectionRefusedError("no"), "web-2": TransportError("web-2", "gone")}
    assert (await opened(finder))[1].pod == "web-3"
    assert [target.pod for target in transport.asked] == ["web-1", "web-2", "web-3"]
    transport.broken = {pod.pod: ConnectionRefusedError("no") for pod in PODS}
    transport.asked.clear()
    with pytest.raises(ConnectionRefusedError):
        await opened(finder)
    assert len(transport.asked) == TRIES
    transport.broken = {pod.pod: NoWayError("port-forward", "the API server is gone") for pod in PODS}
    transport.asked.clear()
    with pytest.raises(NoWayError):
        await opened(finder)
    assert len(transport.asked) == 1, "there is no way to any of them"
    await finder.close()


async def test_no_further_pod_is_tried_when_the_time_is_over(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "TRY_LIMIT", -1.0)
    finder = scene.finder()
    finder.reach(FIRST)
    scene.made[0].broken = {"web-1": TransportError("web-1", "no answer within 10 s")}
    with pytest.raises(TransportError, match="no answer"):
        await opened(finder)
    assert len(scene.made[0].asked) == 1
    await finder.close()


def test_refusals_of_many_destinations_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MOST", 2)
    kept = refusals.Refusals()
    for destination in ("a:1", "b:1", "a:1", "c:1"):
        kept.note(destination, "no")
    assert kept.values() == [{"to": "c:1", "why": "no", "times": 1}, {"to": "a:1", "why": "no", "times": 2}]


async def test_patience_while_nothing_is_known(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "PATIENCE", 0.05)
    finder = scene.finder(())
    assert finder.state == "starting"
    with pytest.raises(NotYetError):
        await opened(finder)
    scene.dns.learn(CLUSTER)
    with pytest.raises(NotYetError):
        await opened(finder)
    finder.reach(None)
    assert finder.state == "no access to the API server"
    with pytest.raises(TransportError, match="no access"):
        await opened(finder)


async def test_what_the_cluster_does_not_have(scene: Scene) -> None:
    finder = scene.finder()
    finder.reach(FIRST)
    with pytest.raises(ConnectionRefusedError, match="no TCP port 81"):
        await opened(finder, Opening(CLIENT, 40000, ip_address("10.96.0.7"), 81))
    with pytest.raises(TransportError, match="no address of the cluster"):
        await opened(finder, Opening(CLIENT, 40000, ip_address("10.96.0.8"), 80))
    await finder.close()


async def test_a_client_keeps_its_pod_until_its_time_is_over(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
    sticky = replace(WEB, session_affinity="ClientIP", affinity_seconds=60)
    finder = scene.finder((Change(Kind.SERVICE, WEB.key, sticky), CLUSTER[1]))
    finder.reach(FIRST)
    first = (await opened(finder))[1].pod
    assert {(await opened(finder))[1].pod for _ in range(9)} == {first}
    scene.made[0].broken = {first: ConnectionRefusedError("it restarts")}
    second = (await opened(finder))[1].pod
    scene.made[0].broken.clear()
    for _ in range(3):
        now[0] += 59
        assert (await opened(finder))[1].pod == second != first
    now[0] += 61
    assert (await opened(finder))[1].pod == first
    other = replace(TO_WEB, client=ip_address("198.18.53.2"))
    others = {(await opened(finder, replace(other, client=other.client + n)))[1].pod for n in range(20)}
    assert len(others) == len(PODS)
    await finder.close()


async def test_a_refusal_is_told_once_until_a_connection_is_made(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    finder = scene.finder()
    finder.reach(FIRST)
    broken: dict[str, Exception] = {pod.pod: ConnectionRefusedError("nobody\nlistens") for pod in PODS}
    for failing in (broken, {}, broken):
        scene.made[0].broken = failing
        for _ in range(3):
            with contextlib.suppress(ConnectionRefusedError):
                await opened(finder)
    assert [record.getMessage() for record in caplog.records] == ["10.96.0.7:80: nobody listens"] * 2
    assert finder.refusals.values() == [{"to": "10.96.0.7:80", "why": "nobody listens", "times": 3}]
    for port in range(300, 600):
        with pytest.raises(ConnectionRefusedError):
            await opened(finder, replace(TO_WEB, port=port))
    shown = finder.refusals.values()
    assert len(shown) == 10
    assert shown[0]["to"] == "10.96.0.7:599"
    await finder.close()


async def test_new_credentials_are_for_new_connections(scene: Scene) -> None:
    finder = scene.finder()
    finder.reach(FIRST)
    assert (await opened(finder))[0] == FIRST
    finder.reach(Access("https://one"))  # the same again
    assert len(scene.made) == 1
    finder.reach(SECOND)
    assert (await opened(finder))[0] == SECOND
    assert not scene.made[0].closed
    await finder.close()
    assert all(transport.closed for transport in scene.made)


async def test_every_transport_is_told_to_hurry(scene: Scene) -> None:
    finder = scene.finder()
    finder.hurry()
    finder.reach(FIRST)
    finder.reach(SECOND)
    finder.hurry()
    assert [transport.hurried for transport in scene.made] == [1, 1]
    await finder.close()


async def test_credentials_that_cannot_be_used_are_no_end(scene: Scene) -> None:
    finder = scene.finder()
    finder.reach(Access("https://one", ca_pem="nonsense"))
    assert finder.state.startswith("the credentials cannot be used: ")
    with pytest.raises(TransportError, match="no access"):
        await opened(finder)
    finder.reach(FIRST)
    assert finder.state == "ready"
    assert (await opened(finder))[0] == FIRST
    await finder.close()
