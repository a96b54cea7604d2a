"""Reading and writing /etc/resolv.conf, whatever it is: a file, a link to one, or a file mounted over it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resolverd.errors import HostError, NoPermissionError

SCRATCH = ".resolv.conf.resolverd"
"""The new file beside the old one, for the moment before it takes its place."""
_IN_PLACE = (errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS)
"""Nothing may be moved there (EBUSY: another file is mounted over it, as in containers), yet it may be written to."""


@dataclass(frozen=True, slots=True)
class ResolvFile:
    """One path. A link stays a link, and what it leads to is written: whoever made it finds it as it was."""

    path: Path

    @property
    def target(self) -> Path:
        """Where the path leads, also when nothing is there."""
        return Path(os.path.realpath(self.path))

    @property
    def scratch(self) -> Path:
        return self.target.parent / SCRATCH

    def read(self) -> str | None:
        """The text; None when there is no file. HostError when it cannot be read."""
        try:
            return self.path.read_bytes().decode(errors="surrogateescape")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise HostError(str(self.path), str(error.strerror), "look at it with ls -l") from error

    def write(self, text: str) -> None:
        """Make ``text`` its content: at once by renaming, or in place where that cannot be."""
        data = text.encode(errors="surrogateescape")
        with self._explained():
            try:
                self._put_in_place_of(data)
            except OSError as error:
                self._drop_scratch()
                if error.errno not in _IN_PLACE:
                    raise
                self._overwrite(data)

    def remove(self) -> None:
        """Have no file there; a link to it stays."""
        with self._explained(), contextlib.suppress(FileNotFoundError):
            self.target.unlink()

    def _drop_scratch(self) -> None:
        with contextlib.suppress(OSError):
            self.scratch.unlink()

    def tidy(self) -> None:
        """Remove what a writer that was killed left beside it."""
        with self._explained():
            if os.path.lexists(self.scratch):
                self.scratch.unlink()

    def fingerprint(self) -> tuple[object, ...]:
        """Differs when the file has changed, been replaced, or the path leads elsewhere."""
        try:
            seen = self.path.stat()
        except OSError as error:
            return (str(self.target), error.errno)
        return (str(self.target), seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)

    def why_not_writable(self) -> str:
        """Why it cannot be changed, as far as that can be told beforehand; empty when it can."""
        target = self.target
        if target.exists() and os.access(target, os.W_OK):
            return ""
        if os.access(target.parent, os.W_OK):
            return ""
        return f"{self.path} may not be written" + ("" if os.geteuid() == 0 else " by this user")

    def _put_in_place_of(self, data: bytes) -> None:
        target, scratch = self.target, self.scratch
        scratch.unlink(missing_ok=True)
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), 0o644)
            if target.exists():
                before = target.stat()
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
                shutil.copystat(target, scratch)  # mode, and the label that says who may read it (SELinux)
                os.utime(scratch)
            file.flush()
            os.fsync(file.fileno())
        scratch.rename(target)

    def _overwrite(self, data: bytes) -> None:
        """Room first, by empty lines at the end, then one write and a cut.

        Who is killed meanwhile, or finds no room, leaves empty lines at the end, and nothing worse.
        """
        descriptor = os.open(self.target, os.O_RDWR | os.O_CLOEXEC)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            size = os.fstat(descriptor).st_size
            _make_room(descriptor, size, len(data) - size)
            file.write(data.ljust(size, b"\n"))
            file.truncate(len(data))
            os.fsync(descriptor)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise NoPermissionError(str(self.path), "you may not write it", "run as root") from error
        except OSError as error:
            raise HostError(str(self.path), str(error.strerror), "use --backend none") from error


def _make_room(descriptor: int, size: int, more: int) -> None:
    """Put ``more`` line ends behind the ``size`` octets of a file. OSError without room for them, and no change."""
    try:
        made = os.pwrite(descriptor, b"\n" * max(0, more), size)
        if made < more:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(descriptor, size)
        raise
