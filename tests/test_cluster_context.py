"""Another context, another server, another cluster at the same address: what is followed is what is there now."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from fakes import eventually
from test_cluster_follow import following
from watch_soak import known, service, truth

from resolverd.cluster import backoff, follow, kubeconfig, login, servers
from resolverd.cluster.access import Access
from resolverd.cluster.kubeconfig import KubeContext
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.names import Address


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "PAUSES", (0.01, 0.1))
    monkeypatch.setattr(follow, "GATHER", 0.01)
    monkeypatch.setattr(login, "REFRESH_PAUSE", 0.0)


async def test_a_renewal_keeps_to_the_context_and_a_failed_one_to_the_credentials(tmp_path: Path) -> None:
    async with (
        DemoCluster() as cluster,
        DemoCluster(traits=Traits(samples=False)) as other,
        following(cluster, tmp_path) as one,
    ):
        follower = await one.synced()
        elsewhere = other.kubeconfig().replace("resolverd-demo", "other")
        file = tmp_path / "kubeconfig"
        file.write_text(elsewhere)
        follower.renew()
        await eventually(lambda: "credentials" in follower.trouble)
        cluster.create(service("fresh"))
        await eventually(lambda: ("shop", "fresh") in follower.snapshot.services)
        assert follower.context is not None
        assert follower.context.name == "resolverd-demo"
        file.write_text(cluster.kubeconfig())
        follower.renew()
        await eventually(lambda: not follower.trouble)
        assert known(follower.snapshot) == truth(cluster)


async def test_the_same_context_on_another_server_is_another_truth(tmp_path: Path) -> None:
    async with (
        DemoCluster() as cluster,
        DemoCluster(traits=Traits(samples=False)) as other,
        following(cluster, tmp_path) as one,
    ):
        follower = await one.synced()
        assert follower.switches == 0
        (tmp_path / "kubeconfig").write_text(other.kubeconfig())
        follower.renew()
        await eventually(lambda: known(follower.snapshot) == truth(other))
        assert follower.switches == 1


async def test_what_the_old_server_says_while_the_new_one_is_looked_up_is_not_where_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        DemoCluster() as cluster,
        DemoCluster(traits=Traits(samples=False)) as other,
        following(cluster, tmp_path) as one,
    ):
        follower = await one.synced()
        found = asyncio.Event()

        async def addresses(_access: Access) -> tuple[Address, ...]:
            await found.wait()
            return ()

        monkeypatch.setattr(servers, "addresses_of", addresses)
        (tmp_path / "kubeconfig").write_text(other.kubeconfig())
        follower.renew()
        await eventually(lambda: bool(follower.context_note))
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "late"}})
        cluster.create(service("late"))
        await eventually(lambda: known(follower.snapshot) == truth(cluster))
        found.set()
        await eventually(lambda: known(follower.snapshot) == truth(other))


async def test_a_cluster_made_anew_at_the_same_address_is_another_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``kind`` makes them: the same name, address and port, and other authorities."""
    authority = "the first"

    async def load(*_: object) -> KubeContext:
        return KubeContext("kind-dev", "shop", Access(cluster.server, ca_pem=authority))

    monkeypatch.setattr(kubeconfig, "load", load)
    async with DemoCluster() as cluster, following(cluster, tmp_path) as one:
        follower = await one.synced()
        await cluster.close()
        port = urlsplit(cluster.server).port or 0
        async with DemoCluster(port=port, traits=Traits(samples=False)) as other:
            while other.version <= cluster.version:
                other.create(service("fresh", "default"))
                other.delete("Service", "fresh", "default")
            assert not follower.context_note
            authority = "the second"
            follower.kubeconfig_changed()
            await eventually(lambda: follower.is_away and bool(follower.context_note))
            await eventually(lambda: known(follower.snapshot) == truth(other))
            assert not follower.is_away
