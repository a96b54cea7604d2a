"""Files watched, through watchdog: somebody is told when one of them is another than it was, and nobody writes to it.

What inotify tells is a hint to look, never the truth: files are compared by what stat says of them. So it does not
matter how a file is changed (written, replaced, removed and made anew, behind a symlink, in a folder that was not
there), and an event that is lost costs :data:`LOOK` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path

from watchdog import events
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, ObservedWatch
from watchdog.observers.polling import PollingObserver

log = logging.getLogger(__name__)

QUIET = 0.1
"""Seconds without a further event after which the files are looked at."""
HOLD = 0.7
"""Longest time, in seconds, that somebody who does not stop writing puts the look off."""
LOOK = 5.0
"""Seconds after which the files are looked at anyway: a network file system does not tell what others change."""
POLL = 0.5
"""Seconds between two looks where there is no inotify."""
MOST_STEPS = 200
"""Path components followed; symlinks may form a ring."""

_EVENTS: list[type[events.FileSystemEvent]] = [
    *(events.FileCreatedEvent, events.FileModifiedEvent, events.FileClosedEvent, events.FileAttribEvent),
    *(events.FileMovedEvent, events.FileDeletedEvent),
    *(events.DirCreatedEvent, events.DirMovedEvent, events.DirDeletedEvent, events.DirAttribEvent),
]
"""All but opening and reading, which we do ourselves."""
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM)
"""Errors that are a folder's, not inotify's."""

Stamp = tuple[int, ...] | None


class Watch:
    """Tells ``changed`` which of the files have changed, for as long as ``run`` runs; again only when it is done."""

    def __init__(
        self,
        files: Iterable[Path],
        changed: Callable[[frozenset[Path]], Awaitable[None]],
        make_observer: Callable[[], BaseObserver] = Observer,
    ) -> None:
        self._files = tuple(files)
        self._seen = _stamps(self._files)
        self._changed = changed
        self._make_observer = make_observer
        self._observer: BaseObserver | None = None
        self._watched: dict[Path, ObservedWatch | None] = {}
        """Folders that are watched; None: it cannot be."""
        self._entries: frozenset[Path] = frozenset()
        self._writing: set[Path] = set()
        """Entries that somebody has written to and not closed yet."""
        self._hint = asyncio.Event()

    def follow(self, files: Iterable[Path]) -> None:
        """Watch these instead; those that are new count as unchanged."""
        self._files = tuple(files)
        self._seen = {**_stamps(self._files), **{path: self._seen[path] for path in self._files if path in self._seen}}
        self._hint.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                self._hint.clear()
                self._arrange()
                before, self._seen = self._seen, _stamps(self._files)
                different = frozenset(path for path in self._files if self._seen[path] != before.get(path))
                if different:
                    await self._changed(different)
                else:
                    await self._pause()
        finally:
            await self._end_observer()

    async def _pause(self) -> None:
        """Until there is a reason to look, and no more is written."""
        if not await self._hinted(LOOK):
            return
        began = time.monotonic()
        while time.monotonic() - began < HOLD:
            self._hint.clear()
            if not await self._hinted(QUIET) and not self._writing:
                return

    async def _hinted(self, longest: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest):
                return await self._hint.wait()
        return False

    # In which folders something would have to change, and having them watched.

    def _arrange(self) -> None:
        """Watch those folders; what appears while we do so is found, too."""
        for _ in range(MOST_STEPS):
            self._entries = frozenset(entry for path in self._files for entry in entries(path))
            wanted = {entry.parent for entry in self._entries}
            if wanted == set(self._watched):
                return
            for folder in set(self._watched) - wanted:
                self._forget(folder)
            for folder in wanted - set(self._watched):
                self._watched[folder] = self._watch(folder)

    def _watch(self, folder: Path) -> ObservedWatch | None:
        try:
            return self._schedule(folder)
        except OSError as error:
            if error.errno in _NOT_THERE or self._make_observer is _polling:
                log.debug("%s cannot be watched: %s", folder, error)
                return None
            log.warning("inotify: %s; files are looked at every %s s instead", error.strerror or error, POLL)
        self._make_observer, observer, self._observer = _polling, self._observer, None
        if observer:
            observer.stop()
        self._watched = {known: self._watch(known) for known in self._watched}
        return self._watch(folder)

    def _schedule(self, folder: Path) -> ObservedWatch:
        if self._observer is None:
            observer = self._make_observer()
            observer.start()
            self._observer = observer
            self._handler = _Handler(asyncio.get_running_loop(), self._take)
        return self._observer.schedule(self._handler, str(folder), event_filter=_EVENTS)

    def _forget(self, folder: Path) -> None:
        watch = self._watched.pop(folder)
        if watch and self._observer:
            self._observer.unschedule(watch)

    def _take(self, event: events.FileSystemEvent) -> None:
        paths = {Path(os.fsdecode(path)) for path in (event.src_path, event.dest_path) if path}
        if event.event_type == events.EVENT_TYPE_MODIFIED and not isinstance(self._observer, PollingObserver):
            self._writing |= paths & self._entries
        else:
            self._writing -= paths
        for folder in paths & set(self._watched):
            self._forget(folder)  # it is gone, and its watch with it; the next one of that name needs its own
            self._hint.set()
        if paths & self._entries:
            self._hint.set()

    async def _end_observer(self) -> None:
        if self._observer:
            self._observer.stop()
            await asyncio.to_thread(self._observer.join)


class _Handler(events.FileSystemEventHandler):
    """From the observer's thread into the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[events.FileSystemEvent], None]) -> None:
        self._loop = loop
        self._take = take

    def on_any_event(self, event: events.FileSystemEvent) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody needs to know any more
            self._loop.call_soon_threadsafe(self._take, event)


def _polling() -> BaseObserver:
    return PollingObserver(timeout=POLL)


def _stamps(files: Iterable[Path]) -> Mapping[Path, Stamp]:
    return {path: _stamp(path) for path in files}


def _stamp(path: Path) -> Stamp:
    """What makes a file another one than it was; None when there is none, or we may not look."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def entries(file: Path) -> Iterator[Path]:
    """The entries of folders on which it depends what ``file`` is: every symlink on the way, and the last one.

    The folders are real paths. Where the way ends early, the last one is what is missing.
    """
    at, rest = Path("/"), list(reversed(file.absolute().parts[1:]))
    for _ in range(MOST_STEPS):
        if not rest:
            return
        name = rest.pop()
        entry = at.parent if name == ".." else at / name
        try:
            target = entry.readlink()
        except OSError:  # no symlink, or nothing at all
            if not rest or not entry.is_dir():
                yield entry
                return
            at = entry
            continue
        yield entry
        at = Path("/") if target.is_absolute() else at
        rest += reversed(target.parts[1:] if target.is_absolute() else target.parts)
