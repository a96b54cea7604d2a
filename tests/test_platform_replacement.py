"""Way B of the back end ``override`` on a real LAN host: /etc/resolv.conf, and whatever others do to it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from lan_double import (
    RESOLV_CONF,
    SERVERS,
    TEXT,
    WANT,
    as_it_was,
    check_private,
    lan,
    no_nft,
    refused,
    run,
    state,
)

from resolverd.errors import HostError
from resolverd.host import HostDns, Server
from resolverd_platform.guard import Guard
from resolverd_platform.override import OverrideBackend
from resolverd_platform.resolv_conf import author_of
from resolverd_platform.resolv_file import ResolvFile

__all__ = ["as_it_was", "lan", "state"]
pytestmark = pytest.mark.staged


@pytest.fixture
async def replacing(state: Path) -> AsyncIterator[OverrideBackend]:
    one = OverrideBackend("", state, why_not_nft=no_nft)
    yield one
    await one.revert()
    assert not list(state.iterdir()), "the journal is not clear"


async def test_without_nft_our_server_stands_in_the_file(replacing: OverrideBackend) -> None:
    applied = await replacing.apply(WANT)
    assert applied.dns == replace(WANT, servers=SERVERS[:1])
    assert await replacing.read() == HostDns(servers=SERVERS[:1], search=("default.svc.cluster.local",))
    inode = RESOLV_CONF.stat().st_ino
    assert (await replacing.apply(WANT)).dns == applied.dns
    assert RESOLV_CONF.stat().st_ino == inode, "written although nothing has changed"
    facts = await replacing.capabilities()
    assert (len(facts.nameservers), facts.host_search, facts.mark) == (3, (), 0), "the original's, not ours"
    assert (await replacing.apply(replace(WANT, search=()))).dns.search == ()
    assert "svc.cluster.local" not in RESOLV_CONF.read_text()
    await replacing.apply(HostDns())
    assert RESOLV_CONF.read_text() == TEXT


async def test_a_host_without_a_search_list_has_its_own_domain(replacing: OverrideBackend) -> None:
    check_private()
    before = socket.gethostname()
    socket.sethostname("box.corp.test")
    try:
        assert (await replacing.capabilities()).host_search == ("corp.test",)
        await replacing.apply(WANT)
        assert (await replacing.read()).search == ("default.svc.cluster.local", "corp.test")
    finally:
        socket.sethostname(before)


async def test_the_file_knows_port_53_only(replacing: OverrideBackend) -> None:
    with pytest.raises(HostError, match=r"it can name servers on port 53 only \(.*--dns-listen"):
        await replacing.apply(replace(WANT, servers=(Server(ip_address("127.0.0.1"), 5300),)))


def by_rename(text: str) -> None:
    fresh = RESOLV_CONF.with_name("resolv.conf.new")
    fresh.write_text(text)
    fresh.rename(RESOLV_CONF)


@pytest.mark.parametrize("rewrite", [by_rename, RESOLV_CONF.write_text], ids=["by rename", "in place"])
async def test_a_file_that_another_program_rewrote_is_taken_again_and_theirs_comes_back(
    replacing: OverrideBackend, rewrite: Callable[[str], Any]
) -> None:
    theirs = "# a new lease\nnameserver 192.0.2.54\n"
    now = 100.0
    replacing._replacement.clock = lambda: now
    await replacing.apply(WANT)
    rewrite(theirs)
    reason = await asyncio.wait_for(anext(replacing.disturbances()), 10)
    assert reason == "/etc/resolv.conf was rewritten by another program"
    assert list(map(str, (await replacing.capabilities()).nameservers)) == ["192.0.2.54"]
    await replacing.apply(WANT)
    rewrite(theirs)
    for _ in range(2):
        now += 2
        with pytest.raises(HostError, match=r"rewritten it again within 5 s \(stop that program: fuser -v /etc/"):
            await replacing.apply(WANT)
        assert RESOLV_CONF.read_text() == theirs, "a fight is not fought"
    now += 2
    await replacing.apply(WANT)
    assert author_of(RESOLV_CONF.read_text()) is not None
    await replacing.revert()
    assert RESOLV_CONF.read_text() == theirs
    RESOLV_CONF.write_text(TEXT)


async def test_what_another_program_writes_while_the_guard_starts_is_what_comes_back(
    replacing: OverrideBackend,
) -> None:
    theirs = "# a new lease\nnameserver 192.0.2.54\n"
    replacing._replacement.step = lambda name: by_rename(theirs) if name == "guarded" else None
    await replacing.apply(WANT)
    assert author_of(RESOLV_CONF.read_text()) is not None
    assert list(map(str, (await replacing.capabilities()).nameservers)) == ["192.0.2.54"]
    await replacing.revert()
    assert RESOLV_CONF.read_text() == theirs
    RESOLV_CONF.write_text(TEXT)


async def test_who_is_stopped_while_it_writes_puts_back_what_it_has_written(replacing: OverrideBackend) -> None:
    going, on, written = threading.Event(), threading.Event(), threading.Event()

    def step(name: str) -> None:
        if name == "guarded":
            going.set()
            on.wait(10)
        if name == "written":
            written.set()

    replacing._replacement.step = step
    applying = asyncio.create_task(replacing.apply(WANT))
    await asyncio.to_thread(going.wait, 10)
    applying.cancel()
    asyncio.get_running_loop().call_later(0.2, on.set)
    await asyncio.gather(applying, return_exceptions=True)
    await replacing.revert()
    await asyncio.to_thread(written.wait, 10)
    assert RESOLV_CONF.read_text() == TEXT


async def test_a_link_stays_a_link(replacing: OverrideBackend, tmp_path: Path) -> None:
    target = tmp_path / "managed.conf"
    target.write_text(TEXT)
    target.chmod(0o640)
    os.chown(target, 12, 34)
    RESOLV_CONF.unlink()
    RESOLV_CONF.symlink_to(target)
    try:
        await replacing.apply(WANT)
        assert (RESOLV_CONF.readlink(), target.read_text()) == (target, RESOLV_CONF.read_text())
        assert author_of(target.read_text()) is not None
        await replacing.revert()
        seen = target.stat()
        assert (target.read_text(), seen.st_mode & 0o777, seen.st_uid, seen.st_gid) == (TEXT, 0o640, 12, 34)
        target.unlink()
        await replacing.apply(WANT)
        await replacing.revert()
        assert (RESOLV_CONF.readlink(), target.exists()) == (target, False)
    finally:
        RESOLV_CONF.unlink()
        RESOLV_CONF.write_text(TEXT)


async def test_a_file_mounted_over_it_is_written_in_place(replacing: OverrideBackend, tmp_path: Path) -> None:
    check_private()
    outside = tmp_path / "outside"
    outside.write_text(TEXT)
    run("mount", "--bind", str(outside), str(RESOLV_CONF))
    try:
        inode = outside.stat().st_ino
        await replacing.apply(WANT)
        assert author_of(outside.read_text()) is not None
        assert (await replacing.read()).servers == SERVERS[:1]
        await replacing.revert()
        assert (outside.read_text(), outside.stat().st_ino) == (TEXT, inode)
        assert sorted(path.name for path in RESOLV_CONF.parent.glob(".resolv*")) == []
    finally:
        run("umount", str(RESOLV_CONF))


class Seen:
    """A file, and what others see of it after each thing done to it."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor, self.path = descriptor, path
        self.seen: list[str] = []

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def write(self, data: bytes) -> None:
        os.write(self.descriptor, data)
        self.seen.append(self.path.read_text())

    def truncate(self, size: int) -> None:
        os.ftruncate(self.descriptor, size)
        self.seen.append(self.path.read_text())


@pytest.mark.parametrize("text", ["nameserver 192.0.2.1\n", "nameserver 192.0.2.1\n" + TEXT * 9], ids=["short", "long"])
def test_who_writes_in_place_is_never_seen_with_less_than_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path, made = tmp_path / "resolv.conf", list[Seen]()
    path.write_text(TEXT * 3)

    def opened(descriptor: int, *_: object, **__: object) -> Seen:
        made.append(Seen(descriptor, path))
        return made[-1]

    monkeypatch.setattr(os, "fdopen", opened)
    ResolvFile(path)._overwrite(text.encode())
    (file,) = made
    assert path.read_text() == text
    assert [seen.rstrip("\n") for seen in file.seen] == [text.rstrip("\n")] * 2


def test_who_writes_in_place_leaves_what_is_there_where_there_is_no_room(tmp_path: Path) -> None:
    """As in a container whose disk is full: the file is mounted over the real one."""
    check_private()
    run("mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(tmp_path))
    try:
        file = ResolvFile(tmp_path / "resolv.conf")
        text = TEXT + "# \n" * 1000
        file.path.write_text(text)
        for longer in (4097, 5000, 9000):
            with pytest.raises(OSError, match="No space left"):
                file._overwrite(b"nameserver 192.0.2.1\n" + b"#" * longer)
            assert file.read() == text
        file._overwrite(TEXT.encode())
        assert file.read() == TEXT
    finally:
        run("umount", str(tmp_path))


async def test_what_another_resolverd_has_put_there_is_not_taken_over(
    replacing: OverrideBackend, tmp_path: Path
) -> None:
    await replacing.apply(WANT)
    other = OverrideBackend("", tmp_path, why_not_nft=no_nft)
    with pytest.raises(HostError, match=rf"another resolverd has put itself there .* --state-dir {tmp_path}/state"):
        await other.apply(WANT)
    await other.revert()
    assert (await replacing.read()).servers == SERVERS[:1]


async def test_a_file_that_may_not_be_written_changes_nothing(state: Path) -> None:
    check_private()
    run("mount", "-o", "remount,ro,bind", "/etc")
    try:
        backend = OverrideBackend("", state, why_not_nft=no_nft)
        with pytest.raises(HostError, match=r"/etc/resolv.conf: Read-only"):
            await backend.apply(WANT)
        await backend.revert()
    finally:
        run("mount", "-o", "remount,rw,bind", "/etc")


async def test_a_guard_that_dies_is_told_and_replaced(replacing: OverrideBackend) -> None:
    await replacing.apply(WANT)
    guard = replacing._replacement._guard
    assert guard is not None
    guard.process.kill()
    assert "guard" in await asyncio.wait_for(anext(replacing.disturbances()), 10)
    await replacing.apply(WANT)
    assert replacing._replacement._guard is not guard


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
async def test_what_ends_everything_on_a_terminal_or_at_shutdown_does_not_end_the_guard_first(
    replacing: OverrideBackend, number: int
) -> None:
    await replacing.apply(WANT)
    guard = replacing._replacement._guard
    assert guard is not None
    assert os.getsid(guard.process.pid) == guard.process.pid, "Ctrl-C is for the daemon"
    os.kill(guard.process.pid, number)
    await asyncio.sleep(0.1)
    assert guard.is_alive


async def test_no_guard_no_deed(replacing: OverrideBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(folder: Path, run: str) -> Any:
        raise HostError("guard process", "it does not start")

    monkeypatch.setattr(Guard, "start", none)
    with pytest.raises(HostError, match="guard process"):
        await replacing.apply(WANT)
    assert RESOLV_CONF.read_text() == TEXT


async def test_what_is_lacking_for_the_guard_or_the_journal_is_told_and_nothing_done(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = OverrideBackend("", state, why_not_nft=no_nft)
    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refused)
        with pytest.raises(HostError, match="guard process: Resource temporarily unavailable"):
            await backend.apply(WANT)
    state.rmdir()
    with pytest.raises(HostError, match=rf"state directory {state}: it is gone"):
        await backend.apply(WANT)
    await backend.revert()
    assert RESOLV_CONF.read_text() == TEXT
