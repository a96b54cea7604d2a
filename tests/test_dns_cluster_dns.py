"""Included names that the watch cannot know: asked of the cluster's DNS service, through the tunnel, over TCP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from dns_cluster import CONFIG, SERIAL, gone, put, service
from dns_wire import opt, query
from fakes import eventually
from upstream_double import (
    Forwarding,
    Says,
    UpstreamDouble,
    a,
    always,
    asked_question,
    extended_error,
    forwarding,
    reply_to,
    silence,
    upstream,
)

from resolverd.cluster.objects import Namespace, Service, parse_service
from resolverd.cluster.snapshot import Snapshot, fold
from resolverd.dns import holds_client
from resolverd.dns.cluster_dns import ClusterDns, cluster_dns_address
from resolverd.dns.failures import FIRST
from resolverd.dns.holds_client import HoldsClient
from resolverd.dns.responder import Responder
from resolverd.dns.upstream import ask_over_tcp
from resolverd.holds import decode_request, encode_reply

INCLUDED = replace(CONFIG, includes=frozenset({("corp", "test"), ("shop",)}))
GIT = "git.corp.test"
KUBE_DNS = service("kube-dns", "kube-system", clusterIPs=["127.0.0.10"])
SHORT = 0.5
"""A lookup timeout for those who shall see it pass, in seconds."""


def labelled(name: str, namespace: str = "kube-system", **spec: object) -> Service:
    metadata = {"name": name, "namespace": namespace, "labels": {"k8s-app": "kube-dns"}}
    return parse_service({"metadata": metadata, "spec": spec})


@dataclass
class Tunnel:
    """The other end of the holds socket: takes a moment for each route, and remembers what it was asked for."""

    end: socket.socket
    asked: list[str]
    routed: int = 0

    def on_request(self) -> None:
        number, addresses = decode_request(self.end.recv(65536))
        self.asked += map(str, addresses)
        asyncio.get_running_loop().call_later(0.01, self._reply, number)

    def _reply(self, number: int) -> None:
        self.routed += 1
        self.end.send(encode_reply(number))


@asynccontextmanager
async def included(says: Says, *services: Service) -> AsyncIterator[tuple[Forwarding, UpstreamDouble, Tunnel]]:
    """Our server with a tunnel, and the DNS service of a cluster that has no other services but ``web``."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    holds, tunnel = HoldsClient(ours, lambda: None), Tunnel(theirs, [])
    asyncio.get_running_loop().add_reader(theirs, tunnel.on_request)
    web = service("web", clusterIPs=["10.96.0.7"])
    made: list[ClusterDns] = []

    def cluster(responder: Responder) -> list[ClusterDns]:
        made.append(ClusterDns(lambda: responder.index.snapshot, holds, cluster_dns.port))
        return made

    async with (
        upstream(says, "127.0.0.10") as cluster_dns,
        forwarding(
            config=INCLUDED,
            within=SHORT,
            cluster=cluster,
            holds=holds,
            objects=(Namespace("shop"), Namespace("kube-system"), web, *services),
        ) as here,
    ):
        yield here, cluster_dns, tunnel
    asyncio.get_running_loop().remove_reader(theirs)
    for each in made:
        each.close()
    holds.close()
    theirs.close()


async def test_it_is_asked_over_tcp_after_a_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds_client, "PATIENCE", 10.0)
    routed = []

    async def says(asked: bytes, tcp: bool) -> list[bytes]:
        routed.append(tunnel.routed)
        return [reply_to(asked, a("10.96.0.99"))]

    async with included(says, KUBE_DNS) as (here, cluster_dns, tunnel):
        reply = await here.ask(query(GIT, edns=opt()))
        assert (reply.rcode, str(reply.answer[0].data)) == (0, "10.96.0.99")
        assert list(map(asked_question, cluster_dns.over_tcp)) == [asked_question(query(GIT))]
        assert cluster_dns.asked == []
        assert routed == [1]
        assert tunnel.asked == ["127.0.0.10", "10.96.0.99"], "its answer is routed before it leaves"


async def test_what_the_watch_knows_is_not_asked_for() -> None:
    async with included(always(a("10.96.0.99")), KUBE_DNS) as (here, cluster_dns, _):
        assert str((await here.ask(query("web.shop"))).answer[0].data) == "10.96.0.7"
        assert (await here.ask(query("nope.shop.svc"))).rcode == 3
        assert cluster_dns.over_tcp == []
        assert str((await here.ask(query("nope.shop"))).answer[0].data) == "10.96.0.99"


async def test_what_it_denies_is_denied() -> None:
    async with included(always(rcode=3), KUBE_DNS) as (here, _, _tunnel):
        assert (await here.ask(query(GIT))).rcode == 3


@pytest.mark.parametrize("how", ["gone", "silent", "refusing", "unknown"])
async def test_when_it_is_down_nothing_is_denied(how: str) -> None:
    says = {"silent": silence, "refusing": always(rcode=2)}.get(how, always(a()))
    services = () if how == "unknown" else (KUBE_DNS,)
    async with included(says, *services) as (here, cluster_dns, _):
        if how == "gone":
            cluster_dns.close()
        for name in (GIT, "nope.shop"):
            reply = await here.ask(query(name, edns=opt()))
            assert reply.rcode == 2
            assert extended_error(reply) in (22, 23)


async def test_without_a_tunnel_nothing_is_denied() -> None:
    async with forwarding(config=INCLUDED) as here:
        reply = await here.ask(query(GIT, edns=opt()))
        assert (reply.rcode, extended_error(reply)) == (2, 22)


@pytest.mark.parametrize("change", [{"excludes": frozenset({tuple(GIT.split("."))})}, {"includes": frozenset()}])
async def test_what_one_said_is_not_what_the_other_says(change: dict[str, Any]) -> None:
    """Settings change whom a name is asked of, while what came of asking is kept."""
    async with (
        upstream(always(a("192.0.2.9"))) as other,
        included(always(a("10.96.0.99")), KUBE_DNS) as (here, _, _tunnel),
    ):
        before = replace(here.responder.config, upstreams=(other.server,))
        for config, expected in ((before, "10.96.0.99"), (replace(before, **change), "192.0.2.9")) * 2:
            here.configure(config)
            assert str((await here.ask(query(GIT))).answer[0].data) == expected
        assert len(other.asked) == 1


async def test_what_another_cluster_said_is_forgotten() -> None:
    """Its DNS service may well have the same address."""
    addresses = iter(("10.96.0.1", "10.96.0.2", "10.96.0.3"))

    async def says(asked: bytes, tcp: bool) -> list[bytes]:
        return [reply_to(asked, a(next(addresses)))]

    async with included(says, KUBE_DNS) as (here, _, _tunnel):
        for cluster in range(3):
            here.configure(replace(here.responder.config, cluster=cluster))
            for _ in range(2):
                assert str((await here.ask(query(GIT))).answer[0].data) == f"10.96.0.{cluster + 1}"


async def test_another_cluster_is_not_asked_over_the_old_one_s_connection() -> None:
    connections = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        with closing(writer), suppress(ConnectionResetError):
            while length := await reader.read(2):
                asked = await reader.readexactly(int.from_bytes(length, "big"))
                reply = reply_to(asked, a(ttl=0))
                writer.write(len(reply).to_bytes(2, "big") + reply)

    snapshot, _ = fold(Snapshot(), (put(Namespace("kube-system")), put(KUBE_DNS)))
    async with await asyncio.start_server(serve, "127.0.0.10", 0) as server:
        dns = ClusterDns(lambda: snapshot, None, server.sockets[0].getsockname()[1])
        async with forwarding(config=INCLUDED, cluster=lambda _: (dns,)) as here:
            for cluster, expected in ((0, 1), (0, 1), (1, 2), (1, 2)):
                here.configure(replace(here.responder.config, cluster=cluster))
                assert (await here.ask(query(GIT))).rcode == 0
                assert len(connections) == expected
        dns.close()
        await eventually(lambda: all(each.is_closing() for each in connections))


async def test_it_is_followed_when_it_moves() -> None:
    async with included(always(a())) as (here, _, _tunnel):
        assert (await here.ask(query(GIT))).rcode == 2
        here.responder.fold((put(KUBE_DNS),), synced=True, serial=SERIAL)
        here.clock.now += FIRST
        assert (await here.ask(query(GIT))).rcode == 0


async def test_a_cluster_that_asks_this_host_in_turn_is_noticed() -> None:
    """CoreDNS forwards to its node's resolver, which on a laptop's cluster is the host's, which asks us."""
    port = 0

    async def says(asked: bytes, tcp: bool) -> list[bytes]:
        reply = await ask_over_tcp("127.0.0.1", port, asked)
        return [asked[:2] + reply[2:]]

    async with included(says, KUBE_DNS) as (here, cluster_dns, _):
        port = here.port
        reply = await here.ask(query(GIT, edns=opt()))
        assert (reply.rcode, extended_error(reply)) == (2, 22)
        assert here.forwarder._loops == {"the cluster's DNS service"}
        await eventually(lambda: not here.forwarder._flights)
        assert len(cluster_dns.over_tcp) < 10


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ((), None),
        ((KUBE_DNS,), "127.0.0.10"),
        ((labelled("coredns", clusterIPs=["10.96.0.11"]), KUBE_DNS), "127.0.0.10"),
        ((labelled("coredns", clusterIPs=["10.96.0.11"]),), "10.96.0.11"),
        ((labelled("b", clusterIPs=["10.96.0.12"]), labelled("a", clusterIPs=["10.96.0.11"])), "10.96.0.11"),
        ((labelled("coredns", "shop", clusterIPs=["10.96.0.11"]),), None),
        ((service("coredns", "kube-system", clusterIPs=["10.96.0.11"]),), None),
        ((labelled("coredns", clusterIP="None"),), None),
        ((labelled("coredns", clusterIPs=["nonsense", "fd00:10:96::a"]),), "fd00:10:96::a"),
    ],
)
def test_where_it_is(services: tuple[Service, ...], expected: str | None) -> None:
    snapshot, _ = fold(Snapshot(), map(put, services))
    address = cluster_dns_address(snapshot)
    assert (str(address) if address else None) == expected
    emptied, _ = fold(snapshot, map(gone, services))
    assert cluster_dns_address(emptied) is None


async def test_questions_are_sent_as_they_came() -> None:
    async def says(asked: bytes, tcp: bool) -> list[bytes]:
        return [reply_to(asked, a())]

    async with included(says, KUBE_DNS) as (here, cluster_dns, _):
        sent = query("Git.CORP.test", edns=opt(4096, flags=0x8000))
        await here.ask(sent)
        assert [asked[2:] for asked in cluster_dns.over_tcp] == [sent[2:]]
