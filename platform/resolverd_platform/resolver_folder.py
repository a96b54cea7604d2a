"""The folder /etc/resolver: what is in it, whose it is, and bringing it to what we want. Blocks for microseconds.

macOS has no such folder by itself. When we made it our files say so, so that the process that removes the last of
them, maybe not the one that made it, knows that the folder is to go too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from resolverd.errors import HostError, NoPermissionError
from resolverd.names import fold

from . import files, resolver_file
from .resolver_file import DRAFT, ResolverFile

Render = Callable[[bool], Mapping[str, bytes]]
"""The contents by file name, told whether the folder is ours."""


class ResolverFolder:
    """Every method may raise HostError or NoPermissionError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def look(self) -> dict[str, ResolverFile]:
        """Every file by its folded name: the file systems of macOS usually take ``SVC`` and ``svc`` for the same."""
        with self._explained():
            return {fold(name): resolver_file.parse(name, content) for name, content in self._contents()}

    def bring(self, render: Render) -> bool:
        """Make our files those of ``render``, the new ones before the old ones go; whether anything changed."""
        with self._explained():
            made = not self.path.is_dir()
            if made:
                self.path.mkdir(mode=0o755)
            ours = {name: content for name, content in self._contents() if self._is_ours(name, content)}
            made = made or any(resolver_file.parse(name, content).folder_is_ours for name, content in ours.items())
            wanted = render(made)
            changes = [files.write(self.path / name, content, DRAFT) for name, content in wanted.items()]
            stale = [name for name in ours if name not in wanted]
            self._remove(stale)
        return any(changes) or bool(stale)

    def clear(self) -> bool:
        """Remove all of ours, the folder included when it is ours and nobody else uses it; whether there was any."""
        with self._explained():
            ours = [(name, content) for name, content in self._contents() if self._is_ours(name, content)]
            self._remove([name for name, _ in ours])
            (self.path / DRAFT).unlink(missing_ok=True)  # of a process killed while it wrote
            if any(resolver_file.parse(name, content).folder_is_ours for name, content in ours):
                with contextlib.suppress(OSError):  # somebody else's file is in it
                    self.path.rmdir()
        return bool(ours)

    def strays(self, wanted: Mapping[str, bytes]) -> Iterator[str]:
        """What others did to our files since ``wanted`` was written, in words."""
        with self._explained():
            for name, content in wanted.items():
                there = files.read(self.path / name)
                if there is None:
                    yield f"{self.path / name} is gone"
                elif there != content:
                    yield f"{self.path / name} was changed"

    def _contents(self) -> list[tuple[str, bytes]]:
        try:
            paths = sorted(self.path.iterdir())
        except FileNotFoundError:
            return []
        read = ((path.name, files.read(path)) for path in paths if path.name != DRAFT)
        return [(name, content) for name, content in read if content is not None]

    def _is_ours(self, name: str, content: bytes) -> bool:
        return resolver_file.parse(name, content).ours

    def _remove(self, names: list[str]) -> None:
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise NoPermissionError(str(self.path), "only root may change it", "run with sudo") from error
        except OSError as error:
            raise HostError(str(self.path), error.strerror or str(error)) from error
