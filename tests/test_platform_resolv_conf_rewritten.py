"""/etc/resolv.conf rewritten by others while we override it, in each way they have: followed, given back, no fight."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from fakes import eventually
from lan_double import RESOLV_CONF, SERVERS, WANT, as_it_was, check_private, lan, nft, rewrite_as_it_was, run

from resolverd.reconcile import Reconciler
from resolverd_platform.override import OverrideBackend
from resolverd_platform.resolv_conf import author_of, original_of

__all__ = ["as_it_was", "lan"]
pytestmark = pytest.mark.staged

THEIRS = "# a new lease\nsearch office.example\nnameserver 192.0.2.54\noptions ndots:2\n"
QUIET = 1.5
"""Seconds in which nothing may be written once all is well: three looks at the file."""


def in_place(folder: Path) -> None:
    """As an editor or a shell does; Docker too, in the file it has mounted."""
    RESOLV_CONF.write_text(THEIRS)


def by_dhclient(folder: Path) -> None:
    """``make_resolv_conf`` of dhclient-script(8)."""
    fresh = RESOLV_CONF.with_name("resolv.conf.dhclient-new.4711")
    run("sh", "-c", f": > {fresh}")
    fresh.write_text(THEIRS)
    run("chown", f"--reference={RESOLV_CONF}", str(fresh))
    run("chmod", f"--reference={RESOLV_CONF}", str(fresh))
    run("mv", "-f", str(fresh), str(RESOLV_CONF))


def removed_and_made(folder: Path) -> None:
    RESOLV_CONF.unlink()
    time.sleep(0.01)
    RESOLV_CONF.write_text(THEIRS)


def by_link(folder: Path) -> None:
    """As resolvconf and NetworkManager do: their own file, and a link that is renamed over ours."""
    own = folder / "their.conf"
    own.write_text(THEIRS)
    fresh = RESOLV_CONF.with_name("resolv.conf.link")
    fresh.symlink_to(own)
    fresh.rename(RESOLV_CONF)


def by_mount(folder: Path) -> None:
    """As a container engine or a VPN client in namespaces does."""
    check_private()
    own = folder / "mounted.conf"
    own.write_text(THEIRS)
    run("mount", "--bind", str(own), str(RESOLV_CONF))


STYLES = (in_place, by_dhclient, removed_and_made, by_link, by_mount)


@asynccontextmanager
async def overriding(folder: Path, way: str) -> AsyncIterator[tuple[Reconciler, OverrideBackend, list[str]]]:
    """What a daemon has of it, kept as wanted; and each thing done to the file."""
    state, done = folder / "state", list[str]()
    state.mkdir()

    async def why_not(mark: int) -> str:
        return "" if way == "nftables" else "nft is not installed"

    backend = OverrideBackend("", state, why_not_nft=why_not)
    backend._replacement.step = done.append
    reconciler = Reconciler(backend, lambda _: None)
    task = asyncio.create_task(reconciler.run())
    try:
        reconciler.want(WANT)
        await asyncio.wait_for(reconciler.in_force.wait(), 10)
        yield reconciler, backend, done
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await backend.revert()


def follows(way: str) -> bool:
    """Whether it is done to what they have written."""
    if way == "nftables":
        listing = nft("list", "ruleset")
        return "192.0.2.54" in listing and "192.0.2.53" not in listing
    with suppress(FileNotFoundError):
        original = original_of(RESOLV_CONF.read_text())
        return original is not None and original.text == THEIRS
    return False


@pytest.mark.parametrize("way", ["nftables", "resolv.conf"])
@pytest.mark.parametrize("rewrite", STYLES)
async def test_it_is_followed_left_alone_then_and_given_back(
    tmp_path: Path, way: str, rewrite: Callable[[Path], None]
) -> None:
    try:
        async with overriding(tmp_path, way) as (reconciler, backend, done):
            await asyncio.to_thread(rewrite, tmp_path)
            await eventually(lambda: follows(way))
            assert [str(each) for each in (await reconciler.look()).nameservers] == ["192.0.2.54"]
            seen, before = len(done), (RESOLV_CONF.stat().st_mtime_ns, nft("--handle", "list", "ruleset"))
            await asyncio.sleep(QUIET)
            assert (RESOLV_CONF.stat().st_mtime_ns, nft("--handle", "list", "ruleset")) == before
            assert (len(done), reconciler.error) == (seen, None)
            assert (await backend.read()).servers == (SERVERS if way == "nftables" else SERVERS[:1])[:1]
        assert RESOLV_CONF.read_text() == THEIRS
        assert RESOLV_CONF.is_symlink() == (rewrite is by_link)
    finally:
        if rewrite is by_mount:
            run("umount", str(RESOLV_CONF))
        rewrite_as_it_was()


async def test_one_that_never_stops_rewriting_is_told_of_and_has_the_file(tmp_path: Path) -> None:
    over = threading.Event()

    def insist() -> None:
        while not over.wait(0.02):
            if RESOLV_CONF.read_text() != THEIRS:
                fresh = RESOLV_CONF.with_name("theirs.new")
                fresh.write_text(THEIRS)
                fresh.rename(RESOLV_CONF)

    async with overriding(tmp_path, "resolv.conf") as (reconciler, _, done):
        insisting = asyncio.create_task(asyncio.to_thread(insist))
        try:
            await eventually(lambda: "rewritten it again within 5 s (stop that program: fuser" in str(reconciler.error))
            began = done.count("written")
            await asyncio.sleep(6)
            assert done.count("written") - began <= 2, "once in 5 s"
            assert author_of(RESOLV_CONF.read_text()) is None
        finally:
            over.set()
            await insisting
    assert RESOLV_CONF.read_text() == THEIRS
    rewrite_as_it_was()
    assert not list((tmp_path / "state").iterdir()), "the journal is not clear"
