"""A cluster that changes under every fault there is, and how long each divergence outlives its fault."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from tls_front import Authority, TlsFront

from resolverd.cluster import objects
from resolverd.cluster.access import Access
from resolverd.cluster.follow import Follower
from resolverd.cluster.kubeconfig import Invoker, KubeContext
from resolverd.cluster.snapshot import Snapshot
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.faults import Mischief
from resolverd.settings import ClusterSettings

LONGEST = 5.0
"""Seconds a divergence may outlive its fault."""


def truth(cluster: DemoCluster) -> dict[str, set[Any]]:
    return {
        "namespaces": {objects.parse_namespace(raw) for raw in cluster.objects("Namespace")},
        "services": {objects.parse_service(raw) for raw in cluster.objects("Service")},
        "slices": {objects.parse_endpoint_slice(raw) for raw in cluster.objects("EndpointSlice")},
    }


def known(snapshot: Snapshot) -> dict[str, set[Any]]:
    return {
        "namespaces": set(snapshot.namespaces.values()),
        "services": set(snapshot.services.values()),
        "slices": set(snapshot.slices.values()),
    }


async def read_here(setting: str, context: str, scratch: Path, who: Invoker | None = None) -> KubeContext:
    """``kubeconfig.load`` for a plain file with tokens, without the process that loads credentials."""
    document = yaml.safe_load(await asyncio.to_thread(Path(setting).read_text))
    found = document["contexts"][0]
    token = document["users"][0]["user"].get("token", "")
    access = Access(document["clusters"][0]["cluster"]["server"], f"Bearer {token}" if token else "")
    return KubeContext(found["name"], found["context"]["namespace"], access)


@dataclass
class Soak:
    """One run; ``seed`` decides what happens, not when."""

    cluster: DemoCluster
    front: TlsFront
    authorities: list[Authority]
    folder: Path
    seed: int
    skew: float = 0.0
    """Seconds by which the follower's clock is wrong."""
    counts: dict[str, int] = field(default_factory=dict)
    worst: dict[str, float] = field(default_factory=dict)
    """The longest a divergence outlived each fault, in seconds."""
    _made: list[str] = field(default_factory=list)
    _number: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.cluster.faults.chance = random.Random(self.seed + 1)
        self.write_kubeconfig()
        settings = ClusterSettings(kubeconfig=str(self.folder / "kubeconfig"))
        self.follower = Follower(
            settings, None, self.folder, lambda *_: None, lambda _: None, lambda: time.time() + self.skew
        )

    def write_kubeconfig(self) -> None:
        document = yaml.safe_load(self.cluster.kubeconfig())
        cluster = document["clusters"][0]["cluster"]
        cluster |= {"server": self.front.url, "certificate-authority": str(self.front.authority.folder / "ca.pem")}
        (self.folder / "kubeconfig").write_text(yaml.safe_dump(document))

    async def run(self, seconds: float, each: float) -> None:
        """Faults of about ``each`` seconds, for ``seconds``; AssertionError when a divergence stays."""
        end = time.monotonic() + seconds
        names = list(FAULTS)
        while time.monotonic() < end:
            self.chance.shuffle(names)
            for name in names:
                if time.monotonic() < end:
                    await self._one(name, each * self.chance.uniform(0.5, 1.5))

    async def _one(self, name: str, seconds: float) -> None:
        finish = await FAULTS[name](self)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._change()
            await asyncio.sleep(self.chance.uniform(0.0, 0.05))
        await finish()
        self.counts[name] = self.counts.get(name, 0) + 1
        began = time.monotonic()
        while known(self.follower.snapshot) != truth(self.cluster):
            lasted = time.monotonic() - began
            assert lasted < 2 * LONGEST, f"seed {self.seed}: after {name} still not the truth: {self.follower.trouble}"
            await asyncio.sleep(0.01)
        self.worst[name] = max(self.worst.get(name, 0.0), time.monotonic() - began)

    def _change(self) -> None:
        """One change of the cluster."""
        self._number += 1
        cluster, what = self.cluster, self.chance.choice(["create", "create", "delete", "patch", "pod", "namespace"])
        if what == "delete" and self._made:
            cluster.delete("Service", self._made.pop(self.chance.randrange(len(self._made))), "shop")
        elif what == "patch" and self._made:
            port = {"name": "http", "port": self.chance.randrange(1, 65536), "targetPort": 8080}
            cluster.patch("Service", self.chance.choice(self._made), {"spec": {"ports": [port]}}, "shop")
        elif what == "pod":
            ready = self.chance.choice(["True", "False"])
            name = self.chance.choice(cluster.objects("Pod", "shop"))["metadata"]["name"]
            cluster.patch("Pod", name, {"status": {"conditions": [{"type": "Ready", "status": ready}]}}, "shop")
        elif what == "namespace" and self._number % 5 == 0:
            metadata = {"name": f"n{self._number}"}
            cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        else:
            self._made.append(f"s{self._number}")
            cluster.create(service(self._made[-1]))
        if len(self._made) > 60:
            cluster.delete("Service", self._made.pop(0), "shop")


def service(name: str, namespace: str = "shop") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }


Finish = Callable[[], Awaitable[None]]


def mischief(**what: float) -> Callable[[Soak], Awaitable[Finish]]:
    """Streams are broken first, so that lists are befallen, too."""

    async def begin(soak: Soak) -> Finish:
        soak.cluster.faults.mischief = Mischief(**what)
        soak.cluster.expire_history()
        return lambda: end(soak)

    async def end(soak: Soak) -> None:
        soak.cluster.faults.mischief = Mischief()

    return begin


def failing(status: int, retry_after: int = 0) -> Callable[[Soak], Awaitable[Finish]]:
    async def begin(soak: Soak) -> Finish:
        soak.cluster.faults.failing, soak.cluster.faults.retry_after = status, retry_after
        soak.cluster.faults.drop_streams()
        return lambda: end(soak)

    async def end(soak: Soak) -> None:
        soak.cluster.faults.failing = soak.cluster.faults.retry_after = 0

    return begin


def at_once(act: Callable[[Soak], None]) -> Callable[[Soak], Awaitable[Finish]]:
    """A fault of a moment."""

    async def begin(soak: Soak) -> Finish:
        act(soak)
        return lambda: asyncio.sleep(0)

    return begin


async def refused(soak: Soak) -> Finish:
    await soak.cluster.refuse()
    return soak.cluster.listen


async def frozen(soak: Soak) -> Finish:
    async def thaw() -> None:
        soak.cluster.faults.thaw()

    soak.cluster.faults.freeze()
    return thaw


async def half_open(soak: Soak) -> Finish:
    async def reset() -> None:
        soak.cluster.faults.drop_streams()

    soak.cluster.faults.forget_streams()
    return reset


async def certificate(soak: Soak) -> Finish:
    """Another authority: nobody is believed until the kubeconfig says so, too, which is not told to us."""
    other = next(each for each in soak.authorities if each is not soak.front.authority)
    await soak.front.change(other)

    async def say_so() -> None:
        soak.write_kubeconfig()
        soak.follower.kubeconfig_changed()

    return say_so


def expired_pages(soak: Soak) -> None:
    soak.cluster.faults.expired_pages = 3
    soak.cluster.expire_history()


def clock(soak: Soak) -> None:
    soak.skew = soak.chance.choice([-86400.0, 86400.0, 0.0])


FAULTS: dict[str, Callable[[Soak], Awaitable[Finish]]] = {
    "nothing": at_once(lambda _: None),
    "dropped": at_once(lambda soak: soak.cluster.faults.drop_streams()),
    "refused": refused,
    "frozen": frozen,
    "half-open": half_open,
    "410 on resuming": at_once(lambda soak: soak.cluster.expire_history()),
    "410 in the watch": at_once(lambda soak: soak.cluster.faults.expire_streams()),
    "410 on a page": at_once(expired_pages),
    "429": failing(429, 1),
    "500": failing(500),
    "503": failing(503),
    "truncated": mischief(truncated=0.3),
    "twice and in disorder": mischief(duplicated=0.5, reordered=0.5),
    "slow": mischief(crawling=0.01),
    "clock": at_once(clock),
    "certificate": certificate,
}


@asynccontextmanager
async def soaking(folder: Path, seed: int) -> AsyncIterator[Soak]:
    authorities = [Authority.make(folder / "ca1"), Authority.make(folder / "ca2")]
    traits = Traits(bookmark_interval=1.0)
    async with (
        DemoCluster(traits=traits) as cluster,
        TlsFront(int(cluster.server.rpartition(":")[2]), authorities[0]) as front,
    ):
        soak = Soak(cluster, front, authorities, folder, seed)
        task = asyncio.create_task(soak.follower.run())
        try:
            async with asyncio.timeout(20):
                while not soak.follower.synced.is_set() and not task.done():
                    await asyncio.sleep(0.01)
            yield soak
        finally:
            cluster.faults.thaw()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
