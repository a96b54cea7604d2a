"""What a service manager hears, on a real datagram socket, from the module and from the daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import LONGEST
from ports import free_port

from resolverd.demo.cluster import DemoCluster
from resolverd.notify import MAX_STATUS, ServiceManager, summary, told

HEALTHY: dict[str, Any] = {
    "state": "healthy",
    "cluster": {"context": "dev", "services": 16},
    "checks": [{"id": "config", "ok": True, "detail": "in force"}],
}


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address[0] == "@" else address)
        self._socket.setblocking(False)
        self.heard: list[str] = []

    async def hear(self, line: str) -> list[str]:
        """Everything that has been said, as soon as ``line`` was."""
        async with asyncio.timeout(LONGEST):
            while not any(said.startswith(line) for said in self.heard):
                message = await asyncio.get_running_loop().sock_recv(self._socket, 4096)
                self.heard += message.decode().splitlines()
        return self.heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Manager, str]]:
    address = str(tmp_path / "notify") if request.param == "file" else f"@resolverd-test-{os.getpid()}"
    one = Manager(address)
    yield one, address
    one.close()


def test_the_environment_is_read_and_not_handed_on() -> None:
    environment = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid()), "A": "b"}
    found = ServiceManager.from_environment(environment)
    assert (found, found.interval, environment) == (ServiceManager("/run/x", 4.0), 2.0, {"A": "b"})


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"NOTIFY_SOCKET": "vsock:2:1234"},
        {"WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "soon"},
    ],
)
def test_what_is_not_meant_for_us_is_nothing(environment: dict[str, str]) -> None:
    assert ServiceManager.from_environment(environment) == ServiceManager()


async def test_ready_alive_reloading_and_stopping_are_said_in_order(manager: tuple[Manager, str]) -> None:
    one, address = manager
    stopping = asyncio.Event()

    async def status() -> dict[str, Any]:
        return HEALTHY

    before = time.monotonic_ns() // 1000
    service = ServiceManager(address, watchdog=0.02)
    async with told(service, status, stopping):
        await one.hear("WATCHDOG=1")
        with service.reloading():
            pass
        stopping.set()
        heard = await one.hear("STOPPING=1")
    steps = [line for line in heard if line.split("=")[0] in ("READY", "RELOADING", "STOPPING")]
    assert steps == ["READY=1", "RELOADING=1", "READY=1", "STOPPING=1"]
    assert "STATUS=healthy; 16 services of dev" in heard
    (when,) = [int(line.partition("=")[2]) for line in heard if line.startswith("MONOTONIC_USEC=")]
    assert before <= when <= time.monotonic_ns() // 1000


async def test_a_daemon_that_fails_says_that_it_stops(manager: tuple[Manager, str]) -> None:
    async def status() -> dict[str, Any]:
        return HEALTHY

    with pytest.raises(ZeroDivisionError):
        async with told(ServiceManager(manager[1]), status, asyncio.Event()):
            raise ZeroDivisionError
    assert (await manager[0].hear("STOPPING=1"))[0] == "READY=1"


async def test_nobody_listens() -> None:
    async def status() -> dict[str, Any]:
        raise AssertionError("nobody asked")

    async with told(ServiceManager(), status, asyncio.Event()):
        await asyncio.sleep(0)
    ServiceManager("/nowhere/at/all").ready()


def test_what_the_cluster_says_stays_one_line_of_bounded_length(manager: tuple[Manager, str]) -> None:
    check = {"id": "cluster", "ok": False, "detail": "x\nREADY=1 " + "y" * 1000}
    line = summary({**HEALTHY, "state": "degraded", "checks": [check]})
    assert line.startswith("degraded; cluster: x")
    ServiceManager(manager[1]).alive(line)
    said = manager[0]._socket.recv(4096).decode()
    assert "\n" not in said
    assert len(said) == len("STATUS=") + MAX_STATUS


async def test_the_daemon_tells_its_service_manager(tmp_path: Path) -> None:
    one = Manager(str(tmp_path / "notify"))
    async with DemoCluster() as cluster:
        (tmp_path / "kubeconfig").write_text(cluster.kubeconfig())
        arguments = ["run", "--backend", "none", "--no-tunnel", "--dns-listen", f"127.0.0.1:{free_port()}"]
        arguments += ["--kubeconfig", str(tmp_path / "kubeconfig"), "--state-dir", str(tmp_path / "state")]
        with (tmp_path / "log").open("wb") as log:
            facts = os.fstat(log.fileno())
            environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
            environment |= {"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"}
            command = [sys.executable, "-P", "-m", "resolverd", *arguments]
            process = await asyncio.create_subprocess_exec(*command, stderr=log, env=os.environ | environment)
        heard = await one.hear("STATUS=healthy")
        assert heard[0] == "READY=1"
        assert "WATCHDOG=1" in heard
        process.send_signal(signal.SIGHUP)
        await one.hear("RELOADING=1")
        process.send_signal(signal.SIGTERM)
        await one.hear("STOPPING=1")
        assert await asyncio.wait_for(process.wait(), LONGEST) == 0
    one.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert "<6>resolverd.daemon: stopping" in lines
    assert all(line.startswith(("<3>", "<4>", "<6>", "<7>")) for line in lines), lines
