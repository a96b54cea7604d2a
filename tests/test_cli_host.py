"""A whole host whose systemd-resolved has settings, links and troubles of its own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dnslib
import pytest
from commands import resolverd, shell
from conftest import ResolvedService
from public_dns import public_dns
from test_cli_up import WEB, Laptop, laptop, lines, traits, until
from tuns import open_tun, resolvectl

__all__ = ["laptop", "traits"]
pytestmark = pytest.mark.staged

PUBLIC = "getent ahostsv4 example.com | grep -q 203.0.113"


async def status() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((await resolverd("status", "-o", "json")).out)
    return document


async def told() -> list[str]:
    return (await lines("resolvectl domain resolverd0"))[3:]


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[Path]:
    with public_dns(tmp_path) as queries:
        yield queries


async def test_a_plan_that_breaks_public_names_is_taken_back(internet: Path, laptop: Laptop) -> None:
    assert (await shell(PUBLIC)).code == 0
    config = laptop.folder / "config.yaml"
    config.write_text("dns: {include-suffixes: [.com]}\n")
    assert (await laptop.up()).code == 0
    assert "~com" in await told()
    worker = int((await laptop.children())[0])
    os.kill(worker, signal.SIGSTOP)

    async def withdrawn() -> bool:
        return not await told()

    await until(withdrawn)
    assert (await shell(PUBLIC)).code == 0
    document = await status()
    os.kill(worker, signal.SIGCONT)
    assert document["state"] == "degraded"
    assert document["host"]["withdrawn"]["domains"] == ["com"]
    (check,) = [check for check in document["checks"] if check["id"] == "withdrawal"]
    assert not check["ok"]
    assert "our link has ~com" in check["detail"]
    assert "include-suffixes" in check["fix"]
    assert (await resolverd("status")).code == 1
    config.write_text("dns: {allow-collisions: [shop]}\n")
    os.kill(await laptop.daemon(), signal.SIGHUP)

    async def healthy() -> bool:
        return (await resolverd("status")).code == 0 and "~shop" in await told()

    await until(healthy)
    assert (await shell(PUBLIC)).code == 0


async def test_the_other_library_does_it_all_too(laptop: Laptop, pydbus_path: str) -> None:
    environment = {"RESOLVERD_DBUS": "pydbus", "PYTHONPATH": pydbus_path}
    assert (await laptop.up(environment=environment)).code == 0
    host = (await status())["host"]
    assert (host["backend"], host["bus"]) == ("systemd-resolved", "pydbus")
    assert sorted(await told()) == sorted([*host["domains"], *host["search"]])
    await asyncio.to_thread(resolvectl, "revert", "resolverd0")

    async def set_again() -> bool:
        return "~svc" in await told()

    await until(set_again)


async def test_settings_for_the_whole_host_do_not_break_the_clusters_names(tmp_path: Path, laptop: Laptop) -> None:
    with public_dns(tmp_path, ["DNSSEC=yes", "DNSOverTLS=yes"]):
        assert (await laptop.up()).code == 0
        address = laptop.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
        for name in (WEB, "web.shop.svc", "web.shop"):
            assert await lines(f"dig +short {name}") == [address]
            assert (await lines(f"getent ahostsv4 {name}"))[0] == address
        assert await lines(f"dig +short -x {address}") == [f"{WEB}."]
        shown = (await shell("resolvectl status resolverd0")).out
        assert "-DNSOverTLS DNSSEC=no" in shown


async def test_what_a_vpn_routes_stays_the_vpns(internet: Path, laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0
    assert "~shop" in await told()
    vpn = open_tun("rd-vpn0", "198.18.60.1/24")
    try:
        resolvectl("dns", "rd-vpn0", "198.18.60.53")
        resolvectl("domain", "rd-vpn0", "~billing", "~.")
        billing = {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "billing"}}
        laptop.cluster.create(billing)

        async def withheld() -> bool:
            found = [item for item in (await status())["host"]["withheld"] if item["name"] == "billing"]
            return [item["reason"] for item in found] == ["other-link-domain"] and "rd-vpn0" in found[0]["detail"]

        await until(withheld)
        assert "~billing" not in await told()
        assert "~shop" in await told()
        address = laptop.cluster.get("Service", "web", "shop")["spec"]["clusterIP"]
        assert await lines("dig +short web.shop") == [address]
    finally:
        os.close(vpn)

    async def given_back() -> bool:
        return "~billing" in await told()

    await until(given_back)


async def test_a_vpn_that_routes_the_cluster_domain_is_named(laptop: Laptop) -> None:
    vpn = open_tun("rd-vpn0", "198.18.60.1/24")
    try:
        resolvectl("dns", "rd-vpn0", "198.18.60.53")
        resolvectl("domain", "rd-vpn0", "~cluster.local")
        failed = await laptop.up()
        assert failed.code == 1
        assert failed.complaint.startswith("resolverd: cluster domain cluster.local: withheld, ")
        assert "rd-vpn0" in failed.complaint
        assert "include-suffixes: [.cluster.local]" in failed.complaint
    finally:
        os.close(vpn)


async def test_the_most_important_domains_are_in_force_when_there_are_too_many(laptop: Laptop) -> None:
    made = [{"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": f"team-{n:03}"}} for n in range(1100)]
    laptop.cluster.create_all(made)
    assert (await laptop.up()).code == 0
    in_force = await told()
    assert len(in_force) in (256, 1024)
    assert {"~cluster.local", "~svc", "shop.svc.cluster.local", "~default", "~team-000"} <= set(in_force)
    host = (await status())["host"]
    reasons = {item["name"]: item["reason"] for item in host["withheld"]}
    assert reasons["team-999"] == "domain-limit"
    assert len(host["domains"]) + len(host["search"]) == len(in_force)
    assert await lines("dig +short kubernetes.default.svc.cluster.local")


async def test_troubles_of_resolved_heal_and_delay_no_answer_of_ours(
    laptop: Laptop, resolved_service: ResolvedService
) -> None:
    assert (await laptop.up()).code == 0
    before = set(await told())
    (listen,) = (await status())["dns"]["listen"]
    over = threading.Event()
    asking = asyncio.create_task(asyncio.to_thread(ask_until, over, listen.rpartition(":")[0]))

    async def healed() -> bool:
        return set(await told()) == before and (await resolverd("status")).code == 0

    try:
        await asyncio.to_thread(resolved_service.restart)
        await until(healed)
        os.kill(resolved_service.pid, signal.SIGKILL)
        for saved in Path("/run/systemd/resolve/netif").glob("*"):
            saved.unlink()
        await asyncio.to_thread(resolved_service.restart)
        await until(healed)
        os.kill(resolved_service.pid, signal.SIGSTOP)
        laptop.cluster.create({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "meanwhile"}})
        before.add("~meanwhile")
        await asyncio.sleep(1)
        os.kill(resolved_service.pid, signal.SIGCONT)
        await until(healed)
    finally:
        over.set()
    sent, answered = await asking
    assert sent > 200
    assert answered == sent


def ask_until(over: threading.Event, server: str) -> tuple[int, int]:
    """Ask ``server`` 200 times a second: how often, and how many answers came."""
    query = dnslib.DNSRecord.question(WEB).pack()
    sent = answered = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.connect((server, 53))
        end.settimeout(5)
        while not over.wait(0.005):
            end.send(query)
            sent += 1
            try:
                end.recv(4096)
            except TimeoutError:
                continue
            answered += 1
    return sent, answered


def service(name: str, port: int = 80) -> dict[str, Any]:
    about = {"namespace": "shop", "name": name}
    return {"kind": "Service", "apiVersion": "v1", "metadata": about, "spec": {"ports": [{"port": port}]}}


async def test_services_that_come_and_go_unasked_are_no_matter_for_the_bus(laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0
    heard = laptop.folder / "calls"
    rule = "type='method_call',destination='org.freedesktop.resolve1'"
    with heard.open("wb") as output:
        monitor = await asyncio.create_subprocess_exec("dbus-monitor", "--system", rule, stdout=output)
        try:
            await asyncio.sleep(0.3)
            for number in range(50):
                laptop.cluster.create(service(f"s{number}"))
                await asyncio.sleep(0.02)
            for number in range(50):
                laptop.cluster.delete("Service", f"s{number}", "shop")
            await asyncio.sleep(1.2)
            calls = set(re.findall(r"path=/org/freedesktop/resolve1.* member=(\w+)", heard.read_text()))
            assert calls <= {"GetLink", "GetAll"}, "every 15 s there is a look at the host, and nothing else"
            await lines("dig +short web.shop")
            laptop.cluster.delete("Service", "web", "shop")

            async def flushed() -> bool:
                return "FlushCaches" in heard.read_text()

            await until(flushed)
            assert await lines("dig +short web.shop") == []
            made = laptop.cluster.create(service("web"))

            async def resolves() -> bool:
                return await lines("dig +short web.shop") == [made["spec"]["clusterIP"]]

            await until(resolves)
        finally:
            monitor.terminate()
            await monitor.wait()


async def test_an_answer_of_another_is_no_proof(laptop: Laptop) -> None:
    hosts = Path("/etc/hosts")
    before = hosts.read_text()
    names = [item["metadata"]["name"] for item in laptop.cluster.objects("Service")]
    spaces = {item["metadata"]["namespace"] for item in laptop.cluster.objects("Service")}
    full = [f"{name}.{space}.svc.cluster.local" for name in names for space in spaces]
    try:
        hosts.write_text(before + "".join(f"192.0.2.99 {name}\n" for name in full))
        failed = await laptop.up()
    finally:
        hosts.write_text(before)
    assert failed.code == 1, failed
    assert "the host's resolver says 192.0.2.99, the cluster 10.96." in failed.complaint
    assert not Path("/run/resolverd").exists()


async def test_a_second_daemon_on_this_host_is_refused_whatever_it_is_given(laptop: Laptop) -> None:
    assert (await laptop.up()).code == 0
    before, other = await told(), laptop.folder / "other"
    config = laptop.folder / "other.yaml"
    config.write_text("tunnel: {device: other0}\n")
    arguments = ["--kubeconfig", str(laptop.folder / "kubeconfig"), "--config", str(config), "--state-dir", str(other)]
    refused = await resolverd("run", *arguments, "--dns-listen", "127.0.0.5:53")
    assert refused.code == 6
    assert f"process {await laptop.daemon()} programs this host's resolver already" in refused.complaint
    assert (await told(), other.exists()) == (before, False)
