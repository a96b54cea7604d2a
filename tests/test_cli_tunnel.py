"""What a user's programs see of the tunnel, by the names of services, on a whole host."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import struct
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from commands import resolverd, shell
from test_cli_up import WEB, Laptop, laptop, lines, traits, until
from test_tunnel_routes import GATEWAY, device_to, uplink
from test_tunnel_tls import NAME, Papers, front, papers
from upstream_double import a, reply_to

pytestmark = pytest.mark.staged

__all__ = ["laptop", "papers", "traits"]

METADATA = ip_address("169.254.169.254")
STRANGERS = (ip_address("8.8.8.8"), GATEWAY)


@pytest.fixture
async def vpn() -> AsyncIterator[None]:
    async with uplink():
        yield


def naming(addresses: tuple[object, ...]) -> list[dict[str, Any]]:
    """A headless service whose endpoints are whatever somebody wrote."""
    about = {"name": "far", "namespace": "shop"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": about}
    ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": about | {"labels": {"kubernetes.io/service-name": "far"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [str(address)], "conditions": {"ready": True}} for address in addresses],
        "ports": ports,
    }
    return [service | {"spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}}, slice_]


async def status() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((await resolverd("status", "--output", "json")).out)
    return found


async def test_nothing_is_taken_from_a_vpn_or_a_gateway(vpn: None, laptop: Laptop) -> None:
    laptop.cluster.create_all(naming(STRANGERS))
    before = {address: await device_to(address) for address in (*STRANGERS, METADATA)}
    assert (await laptop.up()).code == 0
    web = ip_address(laptop.cluster.get("Service", "web", "shop")["spec"]["clusterIP"])
    assert await lines("dig +short web.shop") == [str(web)]
    assert await lines("dig +short far.shop | sort") == sorted(map(str, STRANGERS))
    assert {address: await device_to(address) for address in (*STRANGERS, METADATA)} == before
    assert [await device_to(address) for address in (web, web + 1, "10.1.2.3")] == ["resolverd0", "vpn0", "vpn0"]
    reasons = {entry["net"]: entry["reason"] for entry in (await status())["tunnel"]["not-routed"]}
    assert reasons == {"8.8.8.8": "outside-cluster-ranges", str(GATEWAY): "gateway"}
    assert "in namespace shop" in (await shell("curl -sS --max-time 10 http://web.shop/")).out


async def test_what_cannot_be_is_refused_at_once(laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0
    closed = await shell("nc -vz -w 30 web.shop 81")
    assert (closed.code, "refused" in closed.err) == (1, True), closed
    assert (await shell("printf hello | timeout 20 nc -u -w 30 web.shop 80")).code != 124
    said = await shell("bash -c 'exec 3<>/dev/udp/web.shop/80; echo hello >&3; head -c 1 <&3'")
    assert "Connection refused" in said.err


async def answering_pod() -> str:
    """The pod that answers the next connection; empty when it fails. Takes at most ten seconds."""
    words = (await shell("curl -sS --max-time 10 http://web.shop/")).out.split()
    return words[1] if len(words) > 1 else ""


async def test_pods_that_are_killed(laptop: Laptop) -> None:
    each = {"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80}]}
    about = {"name": "each", "namespace": "shop"}
    laptop.cluster.create({"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": each})
    assert (await laptop.up()).code == 0
    for left in range(len(await endpoints()), 1, -1):
        chosen = await answering_pod()
        assert chosen
        laptop.cluster.delete("Pod", chosen, "shop")
        assert await answering_pod() not in (chosen, "")

        async def noticed(fewer: int = left - 1) -> bool:
            return len(await endpoints()) == fewer

        await until(noticed)
    laptop.cluster.delete("Pod", await answering_pod(), "shop")
    gone = await shell("nc -vz -w 30 web.shop 80")
    assert (gone.code, "refused" in gone.err or "No route to host" in gone.err) == (1, True), gone


async def endpoints() -> list[str]:
    """Addresses of the pods that are ready, as the daemon knows them now."""
    return await lines("dig @198.18.53.1 +short each.shop")


async def tunnel_process(laptop: Laptop, *, other_than: str = "") -> str:
    """Its number, once there is one."""
    async with asyncio.timeout(20):
        while True:
            for pid in await laptop.children():
                if pid != other_than and "resolverd_tunnel.worker" in command_of(pid):
                    return pid
            await asyncio.sleep(0.05)


def command_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def test_names_are_answered_while_there_is_no_tunnel_process(laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0
    address = laptop.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
    assert await answering_pod()
    for _ in range(2):
        killed = await tunnel_process(laptop)
        os.kill(int(killed), signal.SIGKILL)
        asked = [shell(f"dig @198.18.53.1 +short +tries=1 {name}") for name in ("web.shop", WEB) * 3]
        assert [done.out for done in await asyncio.gather(*asked)] == [f"{address}\n"] * 6
        assert await answering_pod(), "its route outlives the process, and its SYN is sent again"
        await tunnel_process(laptop, other_than=killed)


async def test_what_is_asked_first_while_there_is_no_tunnel_process_is_routed_by_the_next(laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0
    os.kill(int(await tunnel_process(laptop)), signal.SIGKILL)
    address = laptop.cluster.get("Service", "dual", "payments")["spec"]["clusterIP"]
    assert await lines("dig @198.18.53.1 +short +tries=1 dual.payments") == [address]

    async def routed() -> bool:
        return "dev resolverd0" in (await shell(f"ip route get {address}")).out

    await until(routed)


@pytest.mark.parametrize("named_by", ["kubeconfig", "environment"])
async def test_by_way_of_a_proxy_with_a_certificate_and_another_server_name(
    laptop: Laptop, papers: Papers, named_by: str
) -> None:
    """The API server's name is known to the proxy alone; it is asked for by another in TLS."""
    (ca, _), (cert, key) = papers.text("server"), papers.text("client")
    encoded = [b64encode(text.encode()).decode() for text in (ca, cert, key)]
    async with front(papers, laptop.cluster) as made:
        proxy = f"http://127.0.0.1:{made.proxy}"
        server: dict[str, Any] = {"server": f"https://api.elsewhere:{made.port}", "tls-server-name": NAME}
        server |= {"certificate-authority-data": encoded[0]} | (
            {"proxy-url": proxy} if named_by == "kubeconfig" else {}
        )
        user = {"client-certificate-data": encoded[1], "client-key-data": encoded[2]}
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
            "clusters": [{"name": "c", "cluster": server}],
            "users": [{"name": "u", "user": user}],
        }
        (laptop.folder / "kubeconfig").write_text(json.dumps(kubeconfig))
        started = await laptop.up(environment={"HTTPS_PROXY": proxy} if named_by == "environment" else {})
        assert started.code == 0, started
        assert await answering_pod()
        assert {head.split()[1] for head in made.connects} == {f"api.elsewhere:{made.port}".encode()}
        assert set(made.asked_for) == {NAME}
        await resolverd("down")


async def test_where_the_addresses_are_reachable_anyway_nothing_is_carried(laptop: Laptop) -> None:
    (laptop.folder / "config.yaml").write_text(
        "dns: {allow-collisions: [shop], include-suffixes: [.corp.internal]}\ntunnel: {transport: direct}\n"
        "cluster: {dns-service: 127.0.0.77}\n"
    )
    address = laptop.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
    await lines(f"ip address add {address}/32 dev lo")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nby way of nobody\n")
        await writer.drain()
        writer.close()

    async def resolve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        reply = reply_to(await reader.readexactly(length), a("192.0.2.77"))
        writer.write(struct.pack("!H", len(reply)) + reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, address, 80)
    cluster_dns = await asyncio.start_server(resolve, "127.0.0.77", 53)
    try:
        started = await laptop.up()
        assert started.code == 0, started
        assert (await shell("curl -sS --max-time 10 http://web.shop/")).out == "by way of nobody\n"
        assert await lines("dig +short git.corp.internal") == ["192.0.2.77"], "the cluster's DNS service is asked, too"
        assert (await shell("ip route show dev resolverd0")).out == ""
        shown = await status()
        assert (shown["state"], shown["tunnel"]["transport"], shown["tunnel"]["state"]) == (
            "healthy",
            "direct",
            "direct",
        )
        await resolverd("down")
    finally:
        for each in (server, cluster_dns):
            each.close()
            await each.wait_closed()
        await lines(f"ip address del {address}/32 dev lo")


async def test_while_the_api_server_is_away_names_are_answered_and_status_says_so(laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0
    address = laptop.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
    assert await answering_pod()
    await laptop.cluster.refuse()
    laptop.cluster.faults.drop_streams()
    failed = await shell("nc -vz -w 30 web.shop 80")
    assert (failed.code, "No route to host" in failed.err) == (1, True), failed

    async def degraded() -> bool:
        shown = await status()
        wrong = {check["id"] for check in shown["checks"] if not check["ok"]}
        return shown["state"] == "degraded" and {"cluster", "tunnel"} <= wrong

    await until(degraded)
    assert (await resolverd("status")).code == 1
    assert await lines("dig +short web.shop") == [address]
    await laptop.cluster.listen()

    async def healthy() -> bool:
        return bool((await status())["state"] == "healthy")

    await until(healthy)
    assert await answering_pod()


async def test_up_names_the_firewall_that_stops_readdressing(laptop: Laptop) -> None:
    """Without CAP_SYS_ADMIN there is no private namespace: connections come in, and a host may deny those."""
    files = [str(laptop.folder / name) for name in ("kubeconfig", "config.yaml")]
    up = [sys.executable, "-m", "resolverd", "up", "--kubeconfig", files[0], "--config", files[1]]
    deny = "type filter hook input priority 0; policy drop; iifname lo accept; ct state established,related accept;"
    await shell(f"nft 'table inet stage_deny {{ chain input {{ {deny} }}; }}'")
    try:
        done = await shell(shlex.join(["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", *up]))
    finally:
        await shell("nft delete table inet stage_deny")
    assert done.code != 0, done
    assert "resolverd: no service accepts a connection: " in done.err
    hint = "no connection gets through: a host firewall that denies by default must accept input on resolverd0"
    assert done.err.endswith(f"({hint})\n"), done.err
