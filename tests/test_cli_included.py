"""Included names, through all there is: resolved, our DNS server, the tunnel, a port-forward, the cluster's DNS pod."""

from __future__ import annotations

from typing import Any

import pytest
from commands import shell
from dns_wire import query
from test_cli_up import Laptop, laptop, lines, traits
from upstream_double import UpstreamDouble, a, always, asked_question, upstream

from resolverd.demo.pod_servers import PodServers

__all__ = ["laptop", "traits"]
pytestmark = pytest.mark.staged

GIT = "git.corp.test"
CONFIG = "dns: {include-suffixes: [.corp.test], allow-collisions: [shop]}\n"


def put_in_pod(monkeypatch: pytest.MonkeyPatch, other: UpstreamDouble) -> None:
    """Let ``other`` be what listens at port 53 of the cluster's DNS pod."""
    usual = PodServers.address

    async def address(self: PodServers, pod: dict[str, Any], port: int) -> tuple[str, int]:
        if (pod["metadata"]["name"], port) == ("coredns-0", 53):
            return str(other.server.address), other.server.port
        return await usual(self, pod, port)

    monkeypatch.setattr(PodServers, "address", address)


async def test_they_are_answered_by_the_clusters_dns_service_and_reached(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    (laptop.folder / "config.yaml").write_text(CONFIG)
    web = laptop.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
    async with upstream(always(a(web, ttl=1))) as other:
        put_in_pod(monkeypatch, other)
        assert (await laptop.up()).code == 0
        assert await lines(f"dig +short {GIT}") == [web]
        assert (await shell(f"curl -s http://{GIT}/ | grep -q 'in namespace shop'")).code == 0
        assert asked_question(query(GIT)) in map(asked_question, other.over_tcp)
        assert other.asked == [], "the tunnel carries it over TCP"


async def test_when_that_service_is_down_they_are_not_denied(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    (laptop.folder / "config.yaml").write_text(CONFIG)
    async with upstream(always(rcode=3)) as other:
        put_in_pod(monkeypatch, other)
        assert (await laptop.up()).code == 0
        laptop.cluster.delete("Pod", "coredns-0", "kube-system")
        for name in (GIT, "other.corp.test"):
            assert "status: SERVFAIL" in (await shell(f"dig {name}")).out
        assert other.over_tcp == []
