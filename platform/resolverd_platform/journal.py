"""What was done to this host that nobody undoes by himself: written before it is done, kept until it is undone.

One file in the state directory. It names the run that wrote it, so that a guard of an earlier run leaves it alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resolverd.errors import HostError, NoPermissionError

NAME = "journal.json"
VERSION = 1
_FIX = "see what is in it, put back by hand what it names, then remove it"


@dataclass(frozen=True, slots=True)
class Deed:
    """Something done to the host, with all that is needed to undo it."""

    what: str
    """Which kind: who undoes it is looked up by this."""
    details: Mapping[str, Any]
    run: str
    """The run of the daemon that did it: random, so that nobody has the same."""


@dataclass(frozen=True, slots=True)
class Journal:
    """The journal of a state directory. One deed at a time is enough for the back ends there are."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / NAME

    def write(self, deed: Deed) -> None:
        """Have ``deed`` on disk when this returns. HostError when that cannot be: then the deed must not be done."""
        content = {"version": VERSION, "run": deed.run, "pid": os.getpid(), "what": deed.what, **deed.details}
        try:
            descriptor = os.open(
                self._draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump(content, file)
                file.flush()
                os.fsync(file.fileno())
            self._draft.rename(self.path)
            self._sync_folder()
        except OSError as error:
            raise HostError(f"journal {self.path}", str(error.strerror), "make room, or use --state-dir") from error

    def read(self) -> Deed | None:
        """What is still to be undone. HostError when it makes no sense, NoPermissionError when it is another user's."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._check_owner(self.path.lstat().st_uid)
            raise HostError(f"journal {self.path}", str(error.strerror), _FIX) from error
        with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
            # A stranger's journal would have us write what and where he likes.
            self._check_owner(os.fstat(descriptor).st_uid)
            text = file.read()
        try:
            content = json.loads(text)
            if content.pop("version") != VERSION:
                raise HostError(f"journal {self.path}", "another version of resolverd wrote it", "clean up with that")
            return Deed(str(content.pop("what")), run=str(content.pop("run")), details=content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise HostError(f"journal {self.path}", "it is damaged", _FIX) from error

    def clear(self) -> None:
        """Everything is undone."""
        self.path.unlink(missing_ok=True)
        self.tidy()

    def tidy(self) -> None:
        """Remove what a writer left that was killed before there was anything to undo."""
        self._draft.unlink(missing_ok=True)

    @property
    def _draft(self) -> Path:
        return self.path.with_suffix(".new")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Alone with the journal: the guard of a killed daemon and the next daemon may come at the same moment."""
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _check_owner(self, owner: int) -> None:
        if owner == os.geteuid():
            return
        try:
            name = pwd.getpwuid(owner).pw_name
        except KeyError:
            name = str(owner)
        raise NoPermissionError(f"journal {self.path}", f"user {name} left it", "run resolverd cleanup as that user")

    def _sync_folder(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
