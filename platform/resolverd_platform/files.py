"""Small files that others read at any moment: whole or not at all, and untouched when they are right already."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

LARGEST = 1 << 16
"""Octets read of a file; what is longer was not written by us."""


def read(path: Path) -> bytes | None:
    """The first octets of a regular file; None when there is nothing of that name. OSError.

    Empty for a link, a folder, a pipe: something is there, and it is nothing of ours.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError:
        if path.is_symlink() or not path.is_file():
            return b""
        raise
    try:
        return os.read(descriptor, LARGEST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


def write(path: Path, content: bytes, draft: str) -> bool:
    """Make ``path`` a file of mode 0644 with ``content``; whether anything had to be done. OSError.

    ``draft`` is the name, in the same folder, under which it is written first: renaming replaces a file at once.
    """
    if read(path) == content:
        return False
    temporary = path.with_name(draft)
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)  # whatever the umask
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return True
