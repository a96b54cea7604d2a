"""The state directory: one daemon at a time, its control socket, and nothing left when it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from resolverd.errors import HostError, NoPermissionError

SOCKET = "resolverd.sock"
LOCK = "lock"
"""Holds the daemon's process id, and its lock."""
LOG = "daemon.log"
STARTING = "starting"
"""Locked by the command that starts a daemon, until that one is up."""
PYTHON = (sys.executable, "-P", "-m")
"""How our own modules are started: never from the folder somebody happens to be in (``-P``)."""
SCRATCH = "scratch-"
"""How the names of temporary folders in it begin."""
SNAPSHOT = "snapshot-"
"""How the names of the files begin in which the cluster's last state outlives a daemon that was killed."""
MAX_SOCKET_PATH = 107
"""Octets of a Unix socket's path (sun_path less its final NUL, unix(7))."""
ENDING = 10.0
"""Seconds that the processes of a killed daemon have to end; those that were just being started take the longest."""
_POLL = 0.02


SYSTEM = Path("/run/resolverd")
"""Root's state directory, and the service's."""


def folder(setting: str, environment: Mapping[str, str] = os.environ) -> Path:
    """The state directory: the setting, ``/run/resolverd`` for root, ``$XDG_RUNTIME_DIR/resolverd`` for others."""
    if setting:
        return Path(setting).absolute()
    if os.geteuid() == 0:
        return SYSTEM
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    if not runtime:
        raise HostError("no state directory", "$XDG_RUNTIME_DIR is not set", "name one with --state-dir DIR")
    return Path(runtime) / "resolverd"


def of_daemon(setting: str, environment: Mapping[str, str] = os.environ, system: Path = SYSTEM) -> Path:
    """Where the daemon to talk to is: :func:`folder`, and for users without one of their own the service's."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    own = Path(runtime) / "resolverd" / SOCKET if runtime else None
    if not setting and os.geteuid() != 0 and not (own and own.exists()) and (system / SOCKET).exists():
        return system
    return folder(setting, environment)


@dataclass(slots=True)
class StateDirectory:
    """A state directory that is ours alone while this object is entered."""

    path: Path
    keeps_snapshot: bool = False
    """Whether what was known of the cluster outlives us: the next daemon may find the cluster away."""
    lock: int = -1
    """The descriptor that holds it: a process it is handed to holds it, too, for as long as it lives."""
    _made: bool = False

    @property
    def socket(self) -> Path:
        return self.path / SOCKET

    def __enter__(self) -> Self:
        if len(os.fsencode(self.socket)) > MAX_SOCKET_PATH:
            raise HostError(f"state directory {self.path}", "its path is too long for a socket", "use a shorter one")
        with _explained(self.path):
            self._made = not self.path.exists()
            self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.lock = self._claim()
        os.truncate(self.lock, 0)
        os.write(self.lock, f"{os.getpid()}\n".encode())
        # Whoever held the lock is gone: its socket answers nobody, its scratch folders are nobody's.
        self._clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()
        if not self.keeps_snapshot and error is None:
            for file in self.path.glob(SNAPSHOT + "*"):
                file.unlink(missing_ok=True)
        (self.path / LOCK).unlink(missing_ok=True)
        os.close(self.lock)
        if self._made:
            with contextlib.suppress(OSError):  # somebody else's file, or the log of the command that started us
                self.path.rmdir()

    def _claim(self) -> int:
        """The locked lock file, its own inode: the one who let go of it may have removed the file we had opened."""
        deadline = time.monotonic() + ENDING
        while True:
            lock = _open(self.path / LOCK)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), (self.path / LOCK).stat()):
                    return lock
            except FileNotFoundError:
                os.close(lock)
                continue
            except BlockingIOError:
                self._check_holder(lock, deadline)
            os.close(lock)

    def _check_holder(self, lock: int, deadline: float) -> None:
        """Return a moment later when the one who holds it was killed, and what it has started is about to end."""
        holder = os.read(lock, 20).decode(errors="replace").strip()
        is_there = not holder.isdecimal() or _is_alive(int(holder))
        if not is_there and time.monotonic() < deadline:
            time.sleep(_POLL)
            return
        os.close(lock)
        if is_there:
            raise HostError("running already", f"process {holder} holds {self.path}", "stop it with resolverd down")
        why = f"process {holder} was killed, and what it has started still runs"
        raise HostError("not over yet", why, f"look for it with fuser -v {self.path / LOCK}, and end it")

    def _clear(self) -> None:
        self.socket.unlink(missing_ok=True)
        for folder in self.path.glob(SCRATCH + "*"):
            shutil.rmtree(folder)
        for file in self.path.glob(SNAPSHOT + "*.new"):  # half written by a daemon that was killed
            file.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def starting(path: Path) -> Iterator[None]:
    """Say that a daemon is being started in ``path``, which is made if need be, until the block ends.

    HostError when somebody else says so.
    """
    with _explained(path):
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
    held = _open(path / STARTING)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(held)
        raise HostError("starting already", f"somebody else starts a daemon in {path}", "wait for it") from None
    try:
        yield
    finally:
        (path / STARTING).unlink(missing_ok=True)
        os.close(held)


def open_log(path: Path) -> int:
    """A descriptor of the log in the state directory ``path``, empty now: ask only while ``starting``."""
    with _explained(path):
        return os.open(path / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _open(file: Path) -> int:
    with _explained(file.parent):
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise NoPermissionError(
            f"state directory {path}", "you may not write there", "run as root, or name one with --state-dir"
        ) from error
    except OSError as error:
        raise HostError(f"state directory {path}", str(error.strerror), "name another with --state-dir") from error


def forget(path: Path, *, with_folder: bool = True) -> list[str]:
    """Remove what a killed daemon left in its state directory, itself too if empty; the names of what was removed.

    Raises HostError when a daemon is running or being started there.
    """
    if not path.is_dir():
        return []
    kept = (file.name for file in path.glob(SNAPSHOT + "*"))
    removed = [name for name in (SOCKET, LOG, *kept) if (path / name).exists()]
    with starting(path), StateDirectory(path):
        (path / LOG).unlink(missing_ok=True)
    if with_folder:
        with contextlib.suppress(OSError):  # somebody else's files
            path.rmdir()
    return removed
