"""Taking everything back: what is evidence, what is none, and what happens afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

import pytest
from fakes import FakeBackend, eventually
from test_reconcile import WANT

from resolverd.errors import HostError
from resolverd.host import Capabilities, HostDns, Server
from resolverd.lookout import Lookout, Pauses
from resolverd.reconcile import Reconciler
from resolverd.withdrawal import NAMES, Evidence, Said, Suspicion, covering

GOOD, BAD = Said("resolver", "192.0.2.1"), Said("resolver", why="SERVFAIL")
DIRECT, OFFLINE = Said("server", "192.0.2.1"), Said("server", why="no answer")


@pytest.mark.parametrize(
    ("looks", "verdict"),
    [
        ([(BAD, DIRECT), (BAD, DIRECT)], True),
        ([(BAD, DIRECT)], False),
        ([(BAD, DIRECT), (GOOD, None), (BAD, DIRECT)], False),
        ([(BAD, OFFLINE), (BAD, OFFLINE), (BAD, OFFLINE)], False),
        ([(BAD, DIRECT), (BAD, OFFLINE), (BAD, DIRECT)], False),
        ([(BAD, None), (BAD, None)], False),
        ([(GOOD, DIRECT), (GOOD, DIRECT)], False),
    ],
)
def test_what_is_evidence(looks: list[tuple[Said, Said | None]], verdict: bool) -> None:
    suspicion = Suspicion()
    said = [suspicion.judge(through, direct) for through, direct in looks]
    assert said == [False] * (len(looks) - 1) + [verdict]


def test_a_name_that_failed_is_asked_for_again_and_else_another() -> None:
    suspicion = Suspicion()
    asked = [suspicion.name]
    for through in (GOOD, BAD, GOOD):
        suspicion.judge(through, DIRECT)
        asked.append(suspicion.name)
    assert asked == [NAMES[0], NAMES[1], NAMES[1], NAMES[2]]


def test_the_evidence_names_the_culprit() -> None:
    ours = HostDns(routing=("cluster.local", "com", "example.net"), search=("ample.com",))
    assert covering(ours, "example.com") == ("com",)
    evidence = Evidence(0.0, "example.com", BAD, DIRECT, ("com",), 60.0)
    assert str(evidence) == (
        "example.com did not resolve 2 times in a row: resolver says SERVFAIL, server says 192.0.2.1; our link has ~com"
    )
    assert "1970-01-01T00:01:00Z" in evidence.fix
    assert evidence.to_json()["since"] == "1970-01-01T00:00:00Z"


def test_a_search_domain_takes_names_too() -> None:
    dns = HostDns("resolverd0", (), ("svc",), ("com", "default.svc.cluster.local"))
    assert covering(dns, "example.com") == ("com",)


@dataclass
class World:
    """A host, its network, and a plan of ours that may break it."""

    backend: FakeBackend = field(default_factory=FakeBackend)
    broken_by_us: bool = True
    broken: bool = False
    online: bool = True
    asked: list[str] = field(default_factory=list)
    directly: int = 0
    marks: set[int] = field(default_factory=set)
    """With which the name servers were asked."""

    async def through(self, name: str) -> Said:
        self.asked.append(name)
        return BAD if self.broken or (self.broken_by_us and self.backend.now) or not self.online else GOOD

    async def direct(self, name: str, servers: Iterable[Server], mark: int) -> Said:
        self.directly += 1
        self.marks.add(mark)
        return DIRECT if self.online and list(servers) else OFFLINE


PAUSES = Pauses(every=0.2, changed=0.1, soon=0.01, acquitted=(0.2, 30.0), again=(0.15, 30.0))


@asynccontextmanager
async def watched(world: World, pauses: Pauses = PAUSES) -> AsyncIterator[Lookout]:
    reconciler = Reconciler(world.backend, lambda _: None)

    def plan() -> None:
        reconciler.want(HostDns() if lookout.evidence else WANT)

    def servers() -> list[Server]:
        return [Server(address) for address in reconciler.capabilities.nameservers]

    world.backend.facts = Capabilities("fake", mark=0x3264, nameservers=(ip_address("192.0.2.53"),))
    lookout = Lookout(reconciler, servers, plan, asking=world, pauses=pauses)
    await reconciler.look()
    plan()
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(reconciler.run()), tasks.create_task(lookout.run())]
        yield lookout
        for task in running:
            task.cancel()


async def test_it_is_taken_back_tried_again_and_taken_back_for_longer() -> None:
    world = World()
    async with watched(world) as lookout:
        await eventually(lambda: lookout.evidence is not None and not world.backend.now)
        await eventually(lambda: bool(world.backend.now))
        await eventually(lambda: lookout.evidence is not None and not world.backend.now)
        assert world.asked.count(NAMES[0]) == len(world.asked)
        assert world.marks == {0x3264}, "a question without our mark comes back to us"
        await asyncio.sleep(0.4)
        assert not world.backend.now, "the second pause is longer"


async def test_the_user_may_have_mended_it() -> None:
    world = World()
    pauses = Pauses(every=0.2, soon=0.01, again=(600.0,))
    async with watched(world, pauses) as lookout:
        await eventually(lambda: lookout.evidence is not None and not world.backend.now)
        world.broken_by_us = False
        await asyncio.sleep(0.05)
        lookout.forgive()
        lookout._on_verdict()
        await eventually(lambda: world.backend.now == WANT)
        await eventually(lambda: len(world.asked) > 4)
        assert lookout.evidence is None


async def test_who_was_not_the_cause_is_acquitted() -> None:
    world = World(broken=True)
    async with watched(world) as lookout:
        await eventually(lambda: not world.backend.now and bool(world.backend.applied))
        await eventually(lambda: world.backend.now == WANT)
        assert lookout.evidence is None
        asked = len(world.asked)
        await asyncio.sleep(0.1)
        assert len(world.asked) == asked
        await eventually(lambda: not world.backend.now)
        await eventually(lambda: world.backend.now == WANT)
        asked = len(world.asked)
        await asyncio.sleep(0.4)
        assert len(world.asked) == asked, "the second acquittal lasts longer"


async def test_what_it_was_acquitted_of_does_not_count_when_it_is_the_cause() -> None:
    world = World(broken=True)
    async with watched(world) as lookout:
        await eventually(lambda: not world.backend.now and bool(world.backend.applied))
        await eventually(lambda: world.backend.now == WANT)
        world.broken = False
        await eventually(lambda: lookout.evidence is not None)
        assert lookout.evidence is not None
        assert lookout.evidence.again - lookout.evidence.since < PAUSES.again[1], "it is the first withdrawal in a row"


@pytest.mark.parametrize("innocent", ["works", "offline", "no name server", "resolver away"])
async def test_without_evidence_nothing_happens(innocent: str) -> None:
    world = World(broken_by_us=innocent != "works", online=innocent != "offline")
    pauses = Pauses(every=0.02, soon=0.01)
    async with watched(world, pauses) as lookout:
        await eventually(lambda: world.backend.now == WANT)
        if innocent == "no name server":
            world.backend.facts = Capabilities("fake")
        if innocent == "resolver away":

            async def away() -> Capabilities:
                raise HostError("resolver", "frozen")

            world.backend.capabilities = away  # type: ignore[method-assign]
        asked = len(world.asked)
        await eventually(lambda: len(world.asked) > asked + 6)
        assert lookout.evidence is None
        assert world.backend.now == WANT
        assert (world.directly == 0) == (innocent == "works"), "what works is asked of nobody else"


async def test_what_worked_in_between_makes_it_the_first_withdrawal_again() -> None:
    world = World()
    async with watched(world) as lookout:
        await eventually(lambda: lookout.evidence is not None and not world.backend.now)
        world.broken_by_us = False
        await eventually(lambda: world.backend.now == WANT)
        asked = len(world.asked)
        await eventually(lambda: len(world.asked) > asked + 1)
        world.broken_by_us = True
        await eventually(lambda: lookout.evidence is not None)
        assert lookout.evidence is not None
        assert lookout.evidence.again - lookout.evidence.since < PAUSES.again[1]


async def test_settings_that_keep_changing_do_not_keep_it_asking() -> None:
    world = World(broken_by_us=False)
    async with watched(world, Pauses(every=30.0, changed=30.0, soon=0.01)) as lookout:
        await eventually(lambda: len(world.asked) == 1)
        for number in range(20):
            lookout._reconciler.want(replace(WANT, routing=(f"ns-{number}",)))
            await asyncio.sleep(0.02)
        assert len(world.asked) == 1


@pytest.mark.parametrize("wish", [None, HostDns()], ids=["nothing set yet", "nothing wanted"])
async def test_nobody_is_asked_while_nothing_of_ours_is_in_force(wish: HostDns | None) -> None:
    world = World()
    reconciler = Reconciler(world.backend, lambda _: None)
    reconciler._want = wish
    reconciler._set_now()
    keeping = asyncio.create_task(reconciler.run())
    lookout = Lookout(reconciler, list, lambda: None, asking=world, pauses=Pauses(soon=0.01))
    running = asyncio.create_task(lookout.run())
    await asyncio.sleep(0.1)
    for task in (running, keeping):
        task.cancel()
    await asyncio.gather(running, keeping, return_exceptions=True)
    assert reconciler.in_force.is_set() == (wish is not None)
    assert world.asked == []
