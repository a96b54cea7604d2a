"""Which domain, ranges and DNS service a cluster has, and who says so."""

from __future__ import annotations

import asyncio
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dnslib
import pytest
from dns_cluster import index_of, service
from fakes import eventually
from watch_soak import read_here

from resolverd import followed
from resolverd.cluster import corefile, kubeconfig, ranges
from resolverd.cluster.access import Access
from resolverd.cluster.client import ApiClient, ApiError
from resolverd.cluster.facts import Facts
from resolverd.cluster.follow import Follower
from resolverd.cluster.rights import Scope
from resolverd.cluster.snapshot import Snapshot
from resolverd.config import load
from resolverd.demo.cluster import DemoCluster, Traits
from resolverd.demo.rights import User
from resolverd.dns import domain
from resolverd.dns.cluster_dns import ClusterDns
from resolverd.settings import ClusterSettings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".:53 {\n  kubernetes cluster.local in-addr.arpa ip6.arpa {\n  }\n}", "cluster.local"),
        ("kubernetes in-addr.arpa K8s.Example.\n", "k8s.example"),
        ("  # kubernetes wrong.example\n  kubernetes right.example # comment", "right.example"),
        ("forward . 1.1.1.1", ""),
        ("kubernetes", ""),
        ("kubernetes {\n}", ""),
        ("kubernetes *.bad -bad. .", ""),
        ("", ""),
    ],
)
def test_the_domain_in_coredns_s_configuration(text: str, expected: str) -> None:
    assert corefile.read_domain(text) == expected


async def test_it_is_read_where_it_may_be_and_no_failure_elsewhere() -> None:
    async with DemoCluster() as cluster, ApiClient(Access(cluster.server)) as client:
        patch = {"data": {"Corefile": "kubernetes k8s.example"}}
        cluster.patch("ConfigMap", "coredns", patch, "kube-system")
        assert await corefile.domain_of(client) == "k8s.example"
        cluster.delete("ConfigMap", "coredns", "kube-system")
        assert await corefile.domain_of(client) == ""
        cluster.faults.failing = 503
        for ask in (corefile.domain_of, ranges.discover):
            with pytest.raises(ApiError):  # which says nothing: it is asked again
                await ask(client)
        facts = Facts(ClusterSettings())
        assert (await facts.ask(client), await facts.ask_forwards(client, Scope())) == (False, False)
        cluster.faults.failing = 0
        assert (await facts.ask(client), await facts.ask_forwards(client, Scope())) == (True, True)
    tokens = {"t": User("ada")}
    async with (
        DemoCluster(traits=Traits(tokens=tokens)) as cluster,
        ApiClient(Access(cluster.server, token="Bearer t")) as client,
    ):
        assert await corefile.domain_of(client) is None


DNS_SERVICE = ip_address("10.96.0.10")
QUERY = domain.ask_for(DNS_SERVICE)


def reply(name: str, kind: str = "PTR", query: bytes = QUERY) -> bytes:
    record = dnslib.DNSRecord.parse(query).reply()
    data = dnslib.PTR(name) if kind == "PTR" else dnslib.A("10.0.0.1")
    record.add_answer(dnslib.RR("10.0.96.10.in-addr.arpa", getattr(dnslib.QTYPE, kind), rdata=data))
    packed: bytes = bytes(record.pack())
    return packed


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (reply("kube-dns.kube-system.svc.cluster.local"), "cluster.local"),
        (reply("kube-dns.kube-system.svc.K8s.Example"), "k8s.example"),
        (reply("somebody.example"), ""),
        (reply("a.svc."), ""),
        (reply("x.svc.-bad"), ""),
        (reply("x.svc.a\\.b.c"), ""),
        (reply("svc.cluster.local"), ""),
        (reply("svc.a.svc.cluster.local"), "cluster.local"),
        (reply("", "A"), ""),
    ],
)
def test_the_domain_in_the_name_of_the_dns_service(wire: bytes, expected: str) -> None:
    assert domain.read_domain(wire, QUERY) == expected


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\xff" * 40,
        reply("kube-dns.kube-system.svc.cluster.local", query=domain.ask_for(ip_address("10.96.0.11"))),
        reply("kube-dns.kube-system.svc.cluster.local")[:-1],
        reply("kube-dns.kube-system.svc.cluster.local")[:-1] + b"\1",
    ],
)
def test_what_is_no_answer_is_an_error_that_is_expected(wire: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        domain.read_domain(wire, QUERY)


@pytest.mark.parametrize("address", ["10.96.0.10", "fd00:10:96::a"])
def test_the_question_is_one_for_the_name_of_the_address(address: str) -> None:
    asked = dnslib.DNSRecord.parse(domain.ask_for(ip_address(address)))
    assert str(asked.q.qname) == f"{ip_address(address).reverse_pointer}."
    assert (asked.q.qtype, asked.q.qclass, asked.header.rd) == (dnslib.QTYPE.PTR, dnslib.CLASS.IN, 1)


async def test_the_dns_service_is_asked_until_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain, "PAUSES", (0.0, 0.01))
    asked: list[str] = []

    class Stub:
        async def ask(self, query: bytes, *, tcp: bool) -> bytes:
            asked.append(str(dnslib.DNSRecord.parse(query).q.qname))
            if len(asked) < 3:
                raise ConnectionRefusedError("not yet")
            return b"id" + reply("kube-dns.kube-system.svc.k8s.example", query=query)[2:]

    snapshot = index_of([service("kube-dns", "kube-system", clusterIPs=["10.96.0.10"])]).snapshot
    found = await domain.find_domain(Stub(), lambda: snapshot, lambda: None)  # type: ignore[arg-type]
    assert found == "k8s.example"
    assert asked == ["10.0.96.10.in-addr.arpa."] * 3


async def test_the_dns_service_is_asked_over_its_own_line() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            asked = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            says = reply("kube-dns.kube-system.svc.k8s.example", query=asked)
            writer.write(len(says).to_bytes(2, "big") + says)

    address = ip_address("127.0.0.10")
    async with await asyncio.start_server(serve, str(address), 0) as server:
        dns = ClusterDns(Snapshot, None, server.sockets[0].getsockname()[1], configured=lambda: address)
        async with asyncio.timeout(20):
            assert await domain.find_domain(dns, Snapshot, lambda: address) == "k8s.example"
        dns.close()


@pytest.mark.parametrize(
    ("settings", "dns_service", "range_source"),
    [
        ({}, {"address": "10.96.0.10", "source": "service in kube-system"}, "service-cidr"),
        (
            {"dns_service": "10.96.0.53", "ranges": ("10.96.0.0/12",)},
            {"address": "10.96.0.53", "source": "cluster.dns-service"},
            "cluster.ranges",
        ),
    ],
)
async def test_each_fact_has_its_source_and_a_setting(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    dns_service: dict[str, str],
    range_source: str,
) -> None:
    monkeypatch.setattr(kubeconfig, "load", read_here)
    async with DemoCluster() as cluster:
        (tmp_path / "kubeconfig").write_text(cluster.kubeconfig())
        one = Follower(
            ClusterSettings(kubeconfig=str(tmp_path / "kubeconfig"), **settings),
            None,
            tmp_path,
            lambda *_: None,
            lambda _: None,
        )
        task = asyncio.create_task(one.run())
        await eventually(lambda: one.synced.is_set() and bool(one.facts.ranges) and one.facts.knows_domain)
        shown = followed.part(one, one.settings, "somebody")
        assert shown["dns-service"] == dns_service
        assert range_source in {entry["source"] for entry in shown["ranges"]}
        if "ranges" in settings:
            assert [entry["net"] for entry in shown["ranges"]] == ["10.96.0.0/12"]
        assert one.facts.domain == "cluster.local"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_the_settings_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("cluster: {dns-service: 10.96.0.10, ranges: [10.96.0.0/12]}")
    assert load(str(file), {}).settings.cluster.ranges == ("10.96.0.0/12",)
    file.write_text("cluster: {dns-service: kube-dns}")
    with pytest.raises(Exception, match="no IP address"):
        load(str(file), {})
