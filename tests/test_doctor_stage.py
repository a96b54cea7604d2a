"""``doctor`` on a whole host: nothing to say of a healthy one, and of each real fault that one and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import resolverd
from conftest import ResolvedService
from test_cli_up import Laptop, laptop, until
from tls_front import Authority, TlsFront
from tuns import ip, open_tun, resolvectl

from resolverd import control_client
from resolverd.demo.cluster import Traits
from resolverd.demo.rights import Rule, User
from resolverd.doctor.gather import gather
from resolverd.doctor.table import judge
from resolverd.doctor.verdict import State

__all__ = ["laptop"]
pytestmark = pytest.mark.staged

ALL = Rule(frozenset({"*"}), frozenset({"*"}))
READER = Rule(frozenset({"list", "watch", "get"}), frozenset({"namespaces", "services", "endpointslices"}))


@pytest.fixture
def traits() -> Traits:
    return Traits(tokens={"t": User("ada", (ALL,)), "reader": User("bob", (READER,))})


class Patient:
    """A host to look at, and the files it is configured by."""

    def __init__(self, laptop: Laptop) -> None:
        self.laptop = laptop
        self.kubeconfig = laptop.folder / "kubeconfig"
        self.kubeconfig.chmod(0o600)
        self.config = laptop.folder / "config.yaml"

    async def faults(self, **flags: Any) -> list[str]:
        """Ids of the checks that fail."""
        named = {"cluster.kubeconfig": str(self.kubeconfig), **{key.replace("_", "."): flags[key] for key in flags}}
        facts = await gather(str(self.config), named, lambda _: None)
        assert not facts.unknown
        return [finding.id for finding in judge(facts) if finding.verdict.state is State.FAILED]

    @contextmanager
    def changed(self, path: Path, text: str) -> Iterator[None]:
        before = path.read_text()
        try:
            path.write_text(text)
            yield
        finally:
            path.write_text(before)

    def kubeconfig_with(self, **user: Any) -> str:
        document = yaml.safe_load(self.kubeconfig.read_text())
        document["users"][0]["user"] = user
        return yaml.safe_dump(document)


@pytest.fixture
def patient(laptop: Laptop) -> Patient:
    return Patient(laptop)


async def test_a_healthy_host_is_ok_in_every_line(patient: Patient) -> None:
    assert (await patient.laptop.up()).code == 0
    arguments = ("--kubeconfig", str(patient.kubeconfig), "--config", str(patient.config))
    examined = await resolverd("doctor", *arguments)
    lines = examined.out.splitlines()
    checks = [line for line in lines[:-2] if not line.startswith(" ")]
    assert len(checks) >= 30
    assert [line for line in checks if not line.startswith("ok  ")] == []
    assert lines[-1] == f"{len(checks)} checks: {len(checks)} ok"
    assert (examined.code, examined.err) == (0, "")
    document = json.loads((await resolverd("doctor", "-o", "json", *arguments)).out)
    assert document["ok"] is True
    assert [check["state"] for check in document["checks"]] == ["ok"] * len(checks)


@asynccontextmanager
async def vpn() -> AsyncIterator[str]:
    descriptor = open_tun("rd-vpn0", "198.18.60.1/24")
    try:
        yield "rd-vpn0"
    finally:
        os.close(descriptor)


async def test_faults_while_the_daemon_runs(patient: Patient) -> None:
    assert (await patient.laptop.up()).code == 0
    assert await patient.faults() == []
    patient.kubeconfig.chmod(0o644)
    assert await patient.faults() == ["kubeconfig-permissions"]
    patient.kubeconfig.chmod(0o600)
    resolv_conf, nsswitch, hosts = Path("/etc/resolv.conf"), Path("/etc/nsswitch.conf"), Path("/etc/hosts")
    with patient.changed(resolv_conf, resolv_conf.read_text() + "options ndots:5\n"):
        assert await patient.faults() == ["resolv-conf-ndots"]
    with patient.changed(nsswitch, re.sub("(?m)^hosts:.*", "hosts: dns files", nsswitch.read_text())):
        assert await patient.faults() == ["nsswitch-files"]
    probe = "echo.shop.svc.cluster.local"
    with patient.changed(hosts, hosts.read_text() + f"192.0.2.99 {probe}\n"):
        assert await patient.faults() == ["host-answers"]
    async with vpn() as link:
        ip("route", "add", "10.96.64.0/18", "dev", link)
        assert await patient.faults() == ["overlapping-routes"]
    with patient.changed(patient.config, "dns: {allow-collisions: [shop]}\ntunnel: {device: other0}\n"):

        async def waits() -> bool:
            return "restart-pending" in await patient.faults()

        await until(waits)
        assert await patient.faults() == ["restart-pending"]
    worker = int((await patient.laptop.children())[1])
    os.kill(worker, signal.SIGSTOP)
    try:
        assert await patient.faults() == ["daemon-healthy"]
    finally:
        os.kill(worker, signal.SIGCONT)


async def test_faults_while_no_daemon_runs(patient: Patient, resolved_service: ResolvedService) -> None:
    assert await patient.faults() == []
    assert await patient.faults(cluster_kubeconfig=str(patient.kubeconfig) + ".not") == ["kubeconfig"]
    assert await patient.faults(cluster_context="prod") == ["kubeconfig-context"]
    with patient.changed(patient.kubeconfig, "clusters: ["):
        assert await patient.faults() == ["kubeconfig"]
    with patient.changed(patient.kubeconfig, patient.kubeconfig_with(exec={"command": "no-such-plugin"})):
        assert await patient.faults() == ["exec-plugin"]
    with patient.changed(patient.kubeconfig, patient.kubeconfig_with(token="reader")):
        assert await patient.faults() == ["rights-portforward"]
    with patient.changed(patient.kubeconfig, patient.kubeconfig_with(token="stranger")):
        assert await patient.faults() == ["api-login"]
    with patient.changed(patient.config, "dns: {tll: 5}\n"):
        assert await patient.faults() == ["config"]
    async with vpn() as link:
        resolvectl("dns", link, "198.18.60.53")
        resolvectl("domain", link, "~cluster.local")
        assert await patient.faults() == ["other-link-domains"]
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", 53))
        assert await patient.faults() == ["port-53"]
    await asyncio.to_thread(resolved_service.stop)
    try:
        assert await patient.faults() == ["resolved-running"]
    finally:
        await asyncio.to_thread(resolved_service.start)


async def test_an_api_server_that_is_gone_or_has_another_certificate(patient: Patient, tmp_path: Path) -> None:
    document = yaml.safe_load(patient.kubeconfig.read_text())
    cluster = document["clusters"][0]["cluster"]
    port = int(cluster["server"].rpartition(":")[2])
    cluster["server"] = "http://127.0.0.1:1"
    with patient.changed(patient.kubeconfig, yaml.safe_dump(document)):
        assert await patient.faults() == ["api-server"]
    authority = Authority.make(tmp_path / "authority")
    async with TlsFront(port, authority) as front:
        cluster["server"] = front.url
        with patient.changed(patient.kubeconfig, yaml.safe_dump(document)):
            assert await patient.faults() == ["api-tls"]
        cluster["certificate-authority"] = str(authority.folder / "ca.pem")
        with patient.changed(patient.kubeconfig, yaml.safe_dump(document)):
            assert await patient.faults() == []


async def test_what_a_killed_daemon_leaves_and_a_daemon_that_hangs(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_client, "TIMEOUT", 0.3)
    assert (await patient.laptop.up()).code == 0
    daemon = await patient.laptop.daemon()
    os.kill(daemon, signal.SIGSTOP)
    try:
        assert await patient.faults() == ["daemon"]
    finally:
        os.kill(daemon, signal.SIGKILL)

    async def alone() -> bool:
        """The kernel closes what it had one after the other: the device before the socket that does not answer."""
        try:
            has_ended = Path(f"/proc/{daemon}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            has_ended = True
        return has_ended and not Path("/sys/class/net/resolverd0").exists()

    await until(alone)
    assert await patient.faults() == ["leftovers"]
    assert (await resolverd("cleanup")).code == 0
    assert await patient.faults() == []
