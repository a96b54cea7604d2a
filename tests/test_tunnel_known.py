"""The part of the cluster that the tunnel process knows: for every address in use it is what the whole would say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address

import pytest
from dns_side import DnsSide
from fakes import eventually
from hypothesis import given
from hypothesis import strategies as st

from resolverd.cluster.endpoints import Endpoint, Endpoints
from resolverd.cluster.objects import EndpointPort, EndpointSlice, Service, ServicePort
from resolverd.cluster.snapshot import Change, Kind, Snapshot, fold
from resolverd.cluster.target import Refusal, TargetIndex
from resolverd.names import Address
from resolverd.sockets import message_pair
from resolverd_tunnel import known as module
from resolverd_tunnel.gate import NotYetError
from resolverd_tunnel.known import KEEP, Known

TEXTS = ["10.96.0.1", "10.96.0.2", "10.244.0.1", "10.244.0.2", "10.244.0.3", "fd00::1", "192.0.2.7"]
ADDRESSES = [ip_address(text) for text in TEXTS]
PORTS = (ServicePort("", "TCP", 80, 8080),)
NAMES = st.sampled_from(["a", "b", "c"])
IPS = st.lists(st.sampled_from(TEXTS), max_size=2).map(tuple)
SERVICES = st.builds(
    lambda name, ips, outer: Service("shop", name, "ClusterIP", ips, False, "", PORTS, external_addresses=outer),
    NAMES,
    IPS,
    IPS,
)
ROWS = st.builds(
    lambda text, ready, pod: Endpoint((text,), "", ready, not ready, pod), st.sampled_from(TEXTS), st.booleans(), NAMES
)
SLICES = st.builds(
    lambda name, service, rows: EndpointSlice("shop", name, service, Endpoints(rows), (EndpointPort("", "TCP", 8080),)),
    NAMES,
    st.sampled_from(["a", "b", ""]),
    st.lists(ROWS, max_size=3),
)
CHANGES = st.one_of(
    SERVICES.map(lambda item: Change(Kind.SERVICE, item.key, item)),
    SLICES.map(lambda item: Change(Kind.SLICE, item.key, item)),
    st.builds(
        lambda kind, name: Change(kind, ("shop", name), None), st.sampled_from([Kind.SERVICE, Kind.SLICE]), NAMES
    ),
)
STEPS = st.one_of(
    st.lists(CHANGES, min_size=1, max_size=4),
    st.sampled_from(ADDRESSES),
    st.sampled_from(["the DNS process ends", "the tunnel process ends", "nothing is used", "time goes by"]),
)


@dataclass(eq=False)
class Scene:
    """Both processes, and what is true."""

    known: Known
    dns: DnsSide
    now: float = 0.0

    async def settle(self) -> None:
        """Until everything that was said has been heard: each turn of the loop reads a message."""
        for _ in range(20):
            await asyncio.sleep(0)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    ours, theirs = message_pair()
    with ours, theirs:
        made = Scene(Known(ours.dup(), lambda: made.now), DnsSide(theirs.dup()))
        try:
            yield made
        finally:
            made.known.close()
            made.dns.close()


@given(st.lists(STEPS, max_size=10))
def test_what_is_used_is_known_as_the_whole_cluster_knows_it(steps: list[list[Change] | Address | str]) -> None:
    asyncio.run(_follow(steps))


async def _follow(steps: list[list[Change] | Address | str]) -> None:
    snapshot, whole, used = Snapshot(), TargetIndex(), set[Address]()
    ours, theirs = message_pair()
    with ours, theirs:
        made = Scene(Known(ours.dup(), lambda: made.now), DnsSide(theirs.dup()))
        made.dns.learn()
        for step in steps:
            if isinstance(step, list):
                snapshot, touched = fold(snapshot, step, synced=True, serial=1)
                whole.fold(snapshot, touched)
                made.dns.learn(step)
            elif step == "the DNS process ends":
                made.dns.close()
                made.dns = DnsSide(theirs.dup())
                made.dns.index.update(*fold(Snapshot(), _all(snapshot), synced=True, serial=1))
            elif step == "the tunnel process ends":
                made.known.close()
                made.known, used = Known(ours.dup(), lambda: made.now), set()
            elif step == "nothing is used":
                made.now += KEEP + 1
                made.known.tidy(lambda _: False)
                used = set()
            elif isinstance(step, str):
                made.now += KEEP - 1
                made.known.tidy(used.__contains__)
            else:
                made.known.use([step])
                used.add(step)
            await made.settle()
            for address in used:
                assert made.known.is_alive(address) == whole.is_alive(address)
                here = made.known.find(address, 80, turn=0, first=None)
                assert here == whole.find(address, 80, turn=0)
            assert made.dns.server._followed.keys() == used, "nothing else is followed"
            held = made.known._now.snapshot
            wanted = {key for address in used for key in made.dns.index.owners(address)}
            assert set(held.services) | set(held.by_service) <= wanted, "nothing else is held"
        made.known.close()
        made.dns.close()


def _all(snapshot: Snapshot) -> list[Change]:
    return [
        *(Change(Kind.SERVICE, key, item) for key, item in snapshot.services.items()),
        *(Change(Kind.SLICE, key, item) for key, item in snapshot.slices.items()),
    ]


WEB = Service("shop", "web", "ClusterIP", ("10.96.0.1",), False, "", PORTS)
POD = EndpointSlice(
    "shop",
    "web-x",
    "web",
    Endpoints([Endpoint(("10.244.0.1",), "", True, False, "web-1")]),
    (EndpointPort("", "TCP", 8080),),
)
CLUSTER = [Change(Kind.SERVICE, WEB.key, WEB), Change(Kind.SLICE, POD.key, POD)]


async def test_a_connection_waits_until_the_dns_process_is_in_step(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as made:
        waiting = asyncio.create_task(made.known.wait_for(ADDRESSES[0]))
        made.dns.learn(CLUSTER[:1], synced=False)
        await made.settle()
        assert not waiting.done()
        assert made.known.is_alive(ADDRESSES[0]) is None
        assert made.known.is_dns(ADDRESSES[0]), "it may be: connecting will tell"
        monkeypatch.setattr(module, "PATIENCE", 0.01)
        with pytest.raises(NotYetError):
            await made.known.wait_for(ADDRESSES[1])
        made.dns.learn(CLUSTER[1:])
        await waiting
        assert not isinstance(made.known.find(ADDRESSES[0], 80, turn=0, first=None), Refusal)
        assert not made.known.is_dns(ADDRESSES[0])


async def test_what_was_known_is_used_until_a_new_dns_process_is_in_step() -> None:
    ours, theirs = message_pair()
    with ours, theirs:
        known, dns = Known(ours.dup()), DnsSide(theirs.dup())
        dns.learn(CLUSTER)
        await known.wait_for(ADDRESSES[0])
        dns.close()
        assert known.is_alive(ADDRESSES[0])
        dns = DnsSide(theirs.dup())
        await eventually(lambda: known._next is not None)
        assert known.is_alive(ADDRESSES[0])
        dns.learn([CLUSTER[0]])
        await eventually(lambda: known.is_alive(ADDRESSES[0]) is False)
        known.close()
        dns.close()


async def test_a_tunnel_process_that_does_not_read_is_told_the_newest_of_each_object() -> None:
    async with scene() as made:
        made.dns.learn(CLUSTER)
        await made.known.wait_for(ADDRESSES[0])
        loop, end = asyncio.get_running_loop(), made.known._parcels._end
        loop.remove_reader(end)
        for number in range(2000):
            row = Endpoint(("10.244.0.1",), "h" * 2000, True, False, f"web-{number}")
            made.dns.learn(
                [Change(Kind.SLICE, POD.key, EndpointSlice("shop", "web-x", "web", Endpoints([row]), POD.ports))]
            )
        assert made.dns.server._parcels.is_busy
        assert len(made.dns.server._changes) == 1
        loop.add_reader(end, made.known._parcels._drain)

        def pod() -> str:
            found = made.known.find(ADDRESSES[0], 80, turn=0, first=None)
            return "" if isinstance(found, Refusal) else found[0].pod

        await eventually(lambda: pod() == "web-1999")


async def test_a_slice_that_goes_to_a_service_nobody_uses_is_forgotten() -> None:
    async with scene() as made:
        made.dns.learn(CLUSTER)
        await made.known.wait_for(ADDRESSES[0])
        moved = EndpointSlice("shop", "web-x", "other", POD.endpoints, POD.ports)
        made.dns.learn([Change(Kind.SLICE, POD.key, moved)])
        await made.settle()
        assert made.known.is_alive(ADDRESSES[0]) is False
        assert not made.known._now.snapshot.slices


async def test_what_is_said_of_an_address_that_is_not_followed_any_more_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would go on being used, and nobody would say when it changes."""
    monkeypatch.setattr(module, "MOST", 1)
    async with scene() as made:
        made.dns.learn()
        await made.settle()
        made.known.use(ADDRESSES[:1])
        await asyncio.sleep(0)
        made.known.use(ADDRESSES[1:2])
        await made.settle()
        assert made.known._now.known == {ADDRESSES[1]}


async def test_a_slice_that_goes_over_to_a_service_that_is_forgotten_is_gone() -> None:
    """What is known of it belongs to the service that it has left, and that one is still followed."""
    address = ip_address("10.96.0.1")
    other = replace(
        POD, name="other", service="other", endpoints=Endpoints([Endpoint((str(address),), "", True, False, "x")])
    )
    async with scene() as made:
        made.dns.learn([*CLUSTER, Change(Kind.SLICE, other.key, other)])
        made.known.use([address])
        await made.settle()
        assert made.known.is_alive(address)
        moved = replace(POD, service="other")
        made.dns.learn([Change(Kind.SLICE, POD.key, moved), Change(Kind.SLICE, other.key, None)])
        await made.settle()
        assert made.known.is_alive(address) is False
        assert not made.known._now.snapshot.slices
