"""Watching files: however they are changed, it is told; by inotify, and by polling where there is none."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import eventually
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from resolverd import watching
from resolverd.watching import Watch, entries

OLD, NEW = "dns: {ttl: 1}\n", "dns: {ttl: 22}\n"


@pytest.fixture(autouse=True)
def only_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking anyway would find everything, too."""
    monkeypatch.setattr(watching, "LOOK", 1000.0)


class Told:
    """What was told: each time which files, and what was in them then."""

    def __init__(self, *files: Path, observer: Callable[[], BaseObserver] = Observer) -> None:
        self.files = files
        self.times: list[tuple[frozenset[Path], list[str | None]]] = []
        self.watch = Watch(files, self._changed, observer)

    async def _changed(self, changed: frozenset[Path]) -> None:
        self.times.append((changed, [file.read_text() if file.exists() else None for file in self.files]))

    @property
    def last(self) -> str | None:
        return self.times[-1][1][0] if self.times else OLD

    async def until(self, text: str | None) -> None:
        await eventually(lambda: self.last == text)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Told]:
        task = asyncio.create_task(self.watch.run())
        try:
            await asyncio.sleep(0.05)
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def rename_over(file: Path) -> None:
    file.with_suffix(".new").write_text(NEW)
    file.with_suffix(".new").rename(file)


def move_away_and_write(file: Path) -> None:
    file.rename(file.with_suffix(".bak"))
    file.write_text(NEW)


def remove_and_make(file: Path) -> None:
    file.unlink()
    file.write_text(NEW)


def replace_the_folder(file: Path) -> None:
    shutil.rmtree(file.parent)
    file.parent.mkdir()
    file.write_text(NEW)


def truncate_and_append(file: Path) -> None:
    file.write_text("")
    with file.open("a") as more:
        more.write(NEW)


EDITS = [rename_over, move_away_and_write, remove_and_make, replace_the_folder, truncate_and_append]


@pytest.mark.parametrize("edit", EDITS)
async def test_every_way_of_writing_a_file_is_seen_again_and_again(
    tmp_path: Path, edit: Callable[[Path], None]
) -> None:
    file = tmp_path / "folder" / "config.yaml"
    file.parent.mkdir()
    file.write_text(OLD)
    async with Told(file).running() as told:
        for _ in range(3):
            edit(file)
            await told.until(NEW)
            file.write_text(OLD)
            await told.until(OLD)
        file.unlink()
        await told.until(None)


async def test_a_file_in_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    file = tmp_path / "not" / "there" / "config.yaml"
    async with Told(file).running() as told:
        for _ in range(3):
            file.parent.mkdir(parents=True)
            file.write_text(NEW)
            await told.until(NEW)
            shutil.rmtree(tmp_path / "not")
            await told.until(None)
        file.parent.mkdir(parents=True)
        await asyncio.sleep(0.3)
        file.write_text(NEW)
        await told.until(NEW)


async def test_a_mounted_configmap_is_swapped(tmp_path: Path) -> None:
    def version(name: str, text: str) -> None:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(text)
        (tmp_path / "..data_tmp").symlink_to(name)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    version("..1", OLD)
    file = tmp_path / "config.yaml"
    file.symlink_to("..data/config.yaml")
    async with Told(file).running() as told:
        for number in range(2, 5):
            text = f"{NEW}# {number}\n"
            version(f"..{number}", text)
            shutil.rmtree(tmp_path / f"..{number - 1}")
            await told.until(text)


async def test_a_link_to_elsewhere_is_followed_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "home").mkdir()
    target, file = tmp_path / "dotfiles" / "mine.yaml", tmp_path / "home" / "config.yaml"
    target.write_text(OLD)
    file.symlink_to("../dotfiles/mine.yaml")
    async with Told(file).running() as told:
        rename_over(target)
        await told.until(NEW)
        file.unlink()
        file.write_text("third")
        await told.until("third")


async def test_half_a_file_is_not_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(OLD)
    async with Told(file).running() as told:
        with file.open("w") as slow:
            slow.write("dns:\n")
            slow.flush()
            await asyncio.sleep(3 * watching.QUIET)
            slow.write("  ttl: 22\n")
        await eventually(lambda: bool(told.times))
        assert told.times == [(frozenset([file]), ["dns:\n  ttl: 22\n"])]


async def test_a_burst_is_told_once_and_reading_or_the_neighbours_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(OLD)
    async with Told(file).running() as told:
        for number in range(10):
            file.read_text()
            (tmp_path / f"other-{number}").write_text(NEW)
        await asyncio.sleep(3 * watching.QUIET)
        assert not told.times
        for number in range(20):
            file.write_text(f"{NEW}# {number}\n")
        await told.until(f"{NEW}# 19\n")
        await asyncio.sleep(3 * watching.QUIET)
        assert len(told.times) < 5


async def test_which_of_several_files_has_changed(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    async with Told(one, two).running() as told:
        two.write_text(NEW)
        await eventually(lambda: bool(told.times))
        assert told.times[0][0] == {two}
        three = tmp_path / "deep" / "three"
        told.watch.follow([one, three])
        await asyncio.sleep(0.2)
        three.parent.mkdir()
        three.write_text(NEW)
        await eventually(lambda: told.times[-1][0] == {three})


def no_instance() -> BaseObserver:
    raise OSError(errno.EMFILE, "inotify instance limit reached")


class NoWatch(type(Observer())):  # type: ignore[misc]  # which class it is depends on the system
    """inotify as it is when all watches are in use."""

    def schedule(self, *_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")


@pytest.mark.parametrize("broken", [no_instance, NoWatch])
async def test_without_inotify_files_are_polled_and_it_is_said(
    tmp_path: Path, broken: Callable[[], BaseObserver], caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "not-there" / "config.yaml"
    with caplog.at_level(logging.WARNING):
        async with Told(file, tmp_path / "two", observer=broken).running() as told:
            file.parent.mkdir()
            file.write_text(NEW)
            await told.until(NEW)
            rename_over(file)
            file.write_text("third")
            await told.until("third")
    (said,) = caplog.messages
    assert "limit reached; files are looked at every 0.5 s instead" in said


async def test_a_lost_event_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "LOOK", 0.2)
    monkeypatch.setattr(Watch, "_take", lambda *_: None)
    file = tmp_path / "config.yaml"
    async with Told(file).running() as told:
        file.write_text(NEW)
        await told.until(NEW)


def test_on_which_entries_a_file_depends(tmp_path: Path) -> None:
    here = Path(os.path.realpath(tmp_path))
    (here / "real").mkdir()
    (here / "real" / "file").touch()
    (here / "link").symlink_to("real")
    (here / "ring").symlink_to("ring")
    (here / "gone").symlink_to("absent/file")
    assert list(entries(here / "real" / "file")) == [here / "real" / "file"]
    assert list(entries(here / "link" / "file")) == [here / "link", here / "real" / "file"]
    assert list(entries(here / "link" / ".." / "real" / "x" / "y")) == [here / "link", here / "real" / "x"]
    assert list(entries(here / "gone")) == [here / "gone", here / "absent"]
    assert set(entries(here / "ring")) == {here / "ring"}
