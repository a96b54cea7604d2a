"""Undoing what the journal names: by the guard, by the next start, by ``resolverd cleanup``. Idempotent."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from resolverd.errors import HostError
from resolverd.state import LOCK

from .journal import Deed, Journal
from .resolv_conf import author_of, original_of
from .resolv_file import ResolvFile

RESOLV_CONF = "resolv.conf"


def undo(journal: Journal, step: Callable[[str], None] = lambda name: None, run: str = "") -> list[str]:
    """Put back what ``journal`` names, if it is of ``run`` (empty: whoever's), and clear it; what was done, in words.

    The caller holds the journal's lock. ``step`` is called between two changes. Raises HostError, and then the
    journal stays.
    """
    deed = journal.read()
    if deed is None:
        journal.tidy()
        return []
    if run and deed.run != run:
        return []
    done = _UNDO.get(deed.what, _unknown)(deed)
    step("restored")
    journal.clear()
    step("cleared")
    return done


def take_back(folder: Path, path: Path) -> list[str]:
    """Undo what a killed daemon of the state directory ``folder`` left, and what is found in the file at ``path``.

    What was done, in words. HostError when a daemon that runs has put itself there.
    """
    done: list[str] = []
    journal = Journal(folder)
    if folder.is_dir():
        with journal.locked():
            done = undo(journal)
    author = author_of(ResolvFile(path).read() or "")
    if author is None:
        return done
    if author.folder != folder and _is_running(Path(author.folder)):
        fix = f"resolverd down --state-dir {author.folder}"
        raise HostError(str(path), f"a resolverd that runs (process {author.pid}) has put itself there", fix)
    return [*done, *restore(path)]


def _is_running(folder: Path) -> bool:
    """Whether a daemon holds the state directory ``folder``."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def restore(path: Path) -> list[str]:
    """Take us out of the file at ``path``; what was done, in words. A file that has nothing of ours is left alone."""
    file = ResolvFile(path)
    text = file.read()
    original = original_of(text) if text is not None else None
    if original is None:
        return []
    if original.text is None:
        file.remove()
        return [f"{path}, which was not there, removed"]
    file.write(original.text)
    return [f"{path} put back"]


def _restore_by_journal(deed: Deed) -> list[str]:
    path, original = Path(str(deed.details.get("path"))), deed.details.get("original")
    target = ResolvFile(Path(str(deed.details.get("target"))))
    target.tidy()
    # The path may lead elsewhere by now, and our text still be where it led.
    done = [*restore(path), *restore(target.path)]
    text = target.read()
    if (
        isinstance(original, str)
        and text is not None
        and text != original
        and text.rstrip("\n") == original.rstrip("\n")
    ):
        target.write(original)  # somebody was killed while putting it back
        done.append(f"{target.path} put back")
    return done


def _unknown(deed: Deed) -> list[str]:
    raise HostError("journal", f"nobody knows how to undo {deed.what}", "another version of resolverd wrote it")


_UNDO: dict[str, Callable[[Deed], list[str]]] = {RESOLV_CONF: _restore_by_journal}
"""Who undoes which kind of deed."""
