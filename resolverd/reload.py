"""The settings of a running daemon: read anew when a file changes, and taken as far as they can be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from resolverd.check import Check
from resolverd.config import Loaded
from resolverd.config.known import KNOWN, replaced
from resolverd.errors import ResolverdError
from resolverd.settings import Settings
from resolverd.watching import Watch

log = logging.getLogger(__name__)

AT_ONCE = frozenset(
    {name for name, known in KNOWN.items() if known.section in ("dns", "host")} - {"dns.suffix-list", "host.backend"}
    | {"tunnel.also-proxy", "tunnel.never-proxy"}
)
"""Settings that a running daemon takes; by the others sockets, devices and processes were made."""


def merge(old: Settings, fresh: Settings) -> tuple[Settings, tuple[str, ...]]:
    """``fresh`` as far as it can be taken, and the names of the settings that wait for a restart."""
    taken = replaced(fresh, {name: known.of(old) for name, known in KNOWN.items() if name not in AT_ONCE})
    return taken, tuple(name for name, known in KNOWN.items() if known.of(taken) != known.of(fresh))


class Reloading:
    """Keeps ``settings`` to what the files say. A file with mistakes changes nothing."""

    def __init__(
        self,
        loaded: Loaded,
        read: Callable[[], Loaded],
        take: Callable[[Settings], None],
        kubeconfig_changed: Callable[[], None],
    ) -> None:
        """``read`` is called in a thread."""
        self.settings = loaded.settings
        self.origins = dict(loaded.origins)
        """Where the settings in force come from, as :class:`resolverd.config.Loaded` has them."""
        self._read = read
        self._take = take
        self._kubeconfig_changed = kubeconfig_changed
        self._kubeconfigs = loaded.kubeconfigs
        """Those that are followed; others only after a restart."""
        self._mistake: ResolverdError | None = None
        self._waiting: tuple[str, ...] = ()
        self._watch = Watch(loaded.files, self._on_change)
        self._reading = asyncio.Lock()

    @property
    def waiting(self) -> tuple[str, ...]:
        """Settings that are in force after a restart only."""
        return self._waiting

    async def run(self) -> None:
        """Watch the files until cancelled."""
        await self._watch.run()

    async def reload(self) -> None:
        """Read the settings and take them. Raises ResolverdError; then the old ones stay in force."""
        async with self._reading:
            try:
                loaded = await asyncio.to_thread(self._read)  # a large kubeconfig takes half a second
            except ResolverdError as error:
                self._mistake = error
                raise
            self._mistake = None
            self._adopt(loaded)

    def _adopt(self, loaded: Loaded) -> None:
        self._watch.follow(dict.fromkeys((*loaded.files, *self._kubeconfigs)))
        taken, waiting = merge(self.settings, loaded.settings)
        old = {name: origin for name, origin in self.origins.items() if name.partition("[")[0] in waiting}
        fresh = {name: origin for name, origin in loaded.origins.items() if name.partition("[")[0] not in waiting}
        self.origins = fresh | old
        if waiting and waiting != self._waiting:
            log.warning("reload: %s: changed, in force after a restart", ", ".join(waiting))
        self._waiting = waiting
        changed = [name for name, known in KNOWN.items() if known.of(taken) != known.of(self.settings)]
        log.info("reload: %s", f"{', '.join(changed)}: changed" if changed else "nothing else than before")
        if changed:
            self.settings = taken
            self._take(taken)

    async def reload_quietly(self) -> None:
        """The same; a mistake is logged."""
        try:
            await self.reload()
        except ResolverdError as error:
            log.error("reload: %s; the old settings stay in force", error)

    def check(self) -> Check:
        """What ``status`` says of the files."""
        if self._mistake:
            detail = f"{self._mistake.why}; the settings from before are in force"
            return Check("config", False, detail, self._mistake.fix)
        waiting = f", but for {', '.join(self._waiting)}: restart for those" if self._waiting else ""
        return Check("config", True, f"in force{waiting}")

    async def _on_change(self, files: frozenset[Path]) -> None:
        log.debug("changed: %s", ", ".join(map(str, sorted(files))))
        await self.reload_quietly()
        if files & set(self._kubeconfigs):
            self._kubeconfig_changed()
