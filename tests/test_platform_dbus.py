"""The bus adapter with a bus of its own: deadlines, errors, a lost connection and a new one."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import eventually

from resolverd.errors import HostError, UsageError
from resolverd_platform.dbus import BUS, BUS_PATH, Call, DeadlineError, FastBus, Match, NoBusError, RefusedError
from resolverd_platform.dbus_pydbus import CHOICE, PyBus, system_bus
from resolverd_platform.resolved import ResolvedBackend

GET_ID = Call(BUS, BUS_PATH, BUS, "GetId")


class PrivateBus:
    """A dbus-daemon on a socket in a folder of the test's."""

    def __init__(self, folder: Path) -> None:
        self.address = f"unix:path={folder / 'bus'}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [
            "dbus-daemon",
            "--session",
            "--nofork",
            "--nopidfile",
            f"--address={self.address}",
            "--print-address",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline()

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None


@pytest.fixture
def private_bus(tmp_path: Path) -> Iterator[PrivateBus]:
    bus = PrivateBus(tmp_path)
    bus.start()
    yield bus
    bus.stop()


Library = type[FastBus] | type[PyBus]


@pytest.fixture(params=[FastBus, PyBus])
def library(request: pytest.FixtureRequest) -> Library:
    """Every library keeps the same promises."""
    kind: Library = request.param
    if kind is PyBus:
        request.getfixturevalue("pydbus_loaded")
    return kind


async def test_a_call_is_answered_and_an_error_has_a_name(library: Library, private_bus: PrivateBus) -> None:
    bus = library(private_bus.address)
    assert await bus.call(Call(BUS, BUS_PATH, BUS, "NameHasOwner", "s", (BUS,))) == (True,)
    with pytest.raises(RefusedError) as raised:
        await bus.call(Call("org.example.Absent", "/", "org.example", "Anything"))
    assert raised.value.name == "org.freedesktop.DBus.Error.NameHasNoOwner"
    await bus.close()
    await bus.close()


@pytest.mark.parametrize("address", ["unix:path=/nonexistent/bus", "nonsense:", "tcp:host=127.0.0.1,port=1"])
async def test_no_bus_is_one_kind_of_error(library: Library, address: str) -> None:
    bus = library(address)
    with pytest.raises(NoBusError):
        await bus.call(GET_ID)
    with pytest.raises(NoBusError):
        await anext(bus.signals([]))
    await bus.close()


async def test_a_frozen_bus_costs_the_deadline(library: Library, private_bus: PrivateBus) -> None:
    connected, new = library(private_bus.address, deadline=0.2), library(private_bus.address, deadline=0.2)
    await connected.call(GET_ID)
    private_bus.signal(signal.SIGSTOP)
    try:
        with pytest.raises(DeadlineError, match=r"no answer to GetId within 0.2 s"):
            await connected.call(GET_ID)
        with pytest.raises(DeadlineError):
            await new.call(GET_ID)
    finally:
        private_bus.signal(signal.SIGCONT)
    assert await connected.call(GET_ID) == await new.call(GET_ID)
    await connected.close()
    await new.close()


async def test_a_bus_that_comes_back_is_used_again(library: Library, private_bus: PrivateBus) -> None:
    bus = library(private_bus.address)
    (before,) = await bus.call(GET_ID)
    private_bus.stop()
    with pytest.raises(NoBusError):
        await bus.call(GET_ID)
    private_bus.start()
    (after,) = await bus.call(GET_ID)
    assert before != after
    await bus.close()


async def test_signals_come_until_the_connection_is_lost(library: Library, private_bus: PrivateBus) -> None:
    bus, other = library(private_bus.address), library(private_bus.address)
    match = Match(BUS, BUS_PATH, BUS, "NameOwnerChanged", "org.example.Service")
    signals = bus.signals([match])
    first = asyncio.ensure_future(anext(signals))
    while not first.done():  # until the bus has heard of our interest, signals pass us by
        for member in ("RequestName", "ReleaseName"):
            body = ("org.example.Service", 0) if member == "RequestName" else ("org.example.Service",)
            await other.call(Call(BUS, BUS_PATH, BUS, member, "su"[: len(body)], body))
    assert (await first).body[0] == "org.example.Service"
    private_bus.stop()
    with pytest.raises(NoBusError, match="closed"):
        async for _ in signals:
            pass
    await other.close()
    await bus.close()


async def test_signals_that_somebody_sends_to_us_alone_are_not_heard(library: Library, private_bus: PrivateBus) -> None:
    """A match says who is meant, and the bus goes by it only for what is sent to everybody."""
    bus, other = library(private_bus.address), library(private_bus.address)
    signals = bus.signals([Match(BUS, BUS_PATH, BUS, "NameOwnerChanged", "org.example.Service")])
    first = asyncio.ensure_future(anext(signals))
    requests = ("RequestName", "su", ("org.example.Service", 0)), ("ReleaseName", "s", ("org.example.Service",))
    while not first.done():
        (names,) = await other.call(Call(BUS, BUS_PATH, BUS, "ListNames"))
        for name in names:
            spoof = f"--dest={name}", BUS_PATH, f"{BUS}.NameOwnerChanged"
            sending = await asyncio.create_subprocess_exec("dbus-send", f"--bus={private_bus.address}", *spoof)
            assert await sending.wait() == 0
        for member, signature, body in requests:
            await other.call(Call(BUS, BUS_PATH, BUS, member, signature, body))
    assert (await first).body[:2] == ("org.example.Service", "")
    await signals.aclose()
    await other.close()
    await bus.close()


async def test_the_loss_of_the_bus_and_its_return_are_disturbances(
    library: Library, private_bus: PrivateBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resolverd_platform.resolved._RECONNECT_PAUSE", 0.01)
    backend = ResolvedBackend("lo", library(private_bus.address))
    told: list[str] = []

    async def listen() -> None:
        async for reason in backend.disturbances():
            told.append(reason)  # noqa: PERF401 - it never ends

    listening = asyncio.create_task(listen())
    try:
        await asyncio.sleep(0.05)
        private_bus.stop()
        await eventually(lambda: [reason[:22] for reason in told] == ["the system bus is lost"])
        private_bus.start()
        await eventually(lambda: told[1:] == ["the system bus is back"])
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await backend.close()


async def test_a_service_that_was_stopped_is_not_started(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, started = tmp_path / "dbus-1" / "services", tmp_path / "started"
    services.mkdir(parents=True)
    lines = ["[D-BUS Service]", "Name=org.example.Sleeping", f"Exec=/usr/bin/env touch {started}", ""]
    (services / "org.example.Sleeping.service").write_text("\n".join(lines))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    waking = PrivateBus(tmp_path)
    waking.start()
    bus = library(waking.address)
    try:
        with pytest.raises(RefusedError) as raised:
            await bus.call(Call("org.example.Sleeping", "/", "org.example", "Anything"))
        assert raised.value.name == "org.freedesktop.DBus.Error.NameHasNoOwner"
        assert not started.exists()
    finally:
        await bus.close()
        waking.stop()


def test_the_library_is_the_users_choice(pydbus_loaded: None) -> None:
    assert [system_bus({CHOICE: name}).binding for name in ("", "dbus-fast", "pydbus")] == [
        *("dbus-fast", "dbus-fast", "pydbus")
    ]
    with pytest.raises(UsageError, match=r"RESOLVERD_DBUS=qtdbus: there is no such library \(dbus-fast or pydbus\)"):
        system_bus({CHOICE: "qtdbus"})


def test_a_library_that_is_not_there_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gi", None)
    with pytest.raises(HostError, match=r"pydbus: cannot be loaded: .*\(pip install 'resolverd\[pydbus\]', or leave"):
        system_bus({CHOICE: "pydbus"})
