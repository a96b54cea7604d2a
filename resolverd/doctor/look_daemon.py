"""Facts about the daemon: is one there, what does it say, what did a killed one leave. Nothing is changed."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resolverd import __version__, control_client, state
from resolverd.dns import client
from resolverd.errors import NoPermissionError, NotRunningError, ResolverdError, one_line
from resolverd.host_lookup import addresses_of
from resolverd.options import split_endpoint
from resolverd_platform import host_facts, journal
from resolverd_platform.resolv_conf import author_of

from .facts import DaemonFacts, Running

LONGEST_ANSWER = 3.0
"""Seconds for one name."""
USUAL = (state.SYSTEM,)
USERS = Path("/run/user")


def look(
    state_dir: str, resolv_conf: Path = host_facts.RESOLV_CONF, usual: tuple[Path, ...] = USUAL, users: Path = USERS
) -> DaemonFacts:
    """What there is in the state directory, and in those of others; a name is asked for where a daemon runs."""
    try:
        folder = state.of_daemon(state_dir)
    except ResolverdError:  # no $XDG_RUNTIME_DIR: this user has no daemon of its own
        folder = usual[0]
    facts = DaemonFacts(folder=str(folder), version=__version__, others=tuple(_others(folder, usual, users)))
    try:
        document = control_client.request(folder, "GET", "/status")
    except NoPermissionError:
        return replace(facts, running=Running.DENIED)
    except NotRunningError:
        if _is_held(folder):
            return replace(facts, running=Running.SILENT)
        return replace(facts, left=tuple(_left(folder, resolv_conf)))
    except ResolverdError:
        return replace(facts, running=Running.SILENT)
    return replace(_asked(facts, document), running=Running.YES, status=document)


def _asked(facts: DaemonFacts, document: dict[str, Any]) -> DaemonFacts:
    """What the daemon's own server, and the host's resolver, say of a name of the cluster."""
    if not document["probes"] or not document["cluster"]["synced"]:
        return facts
    name = str(document["probes"][0]["name"])
    own = _own(document["dns"]["listen"][0], name)
    facts = replace(facts, probe=name, own_answer=own.text, own_ok=bool(own.addresses))
    try:
        found = addresses_of(name, LONGEST_ANSWER)
    except OSError as error:
        return replace(facts, host_answer=str(error.strerror or error), host_ok=False)
    return replace(facts, host_answer=", ".join(found), host_ok=bool(set(found) & set(own.addresses)))


@dataclass(frozen=True, slots=True)
class _Said:
    """An answer of our own server."""

    text: str
    addresses: tuple[str, ...] = ()


def _own(server: str, name: str) -> _Said:
    host, port = split_endpoint(server, 53)
    said = _Said("nothing")
    for kind in ("A", "AAAA"):
        try:
            answer = client.query(host, port, name, kind, timeout=LONGEST_ANSWER / client.ATTEMPTS)
        except ResolverdError as error:
            return _Said(error.why)
        if found := tuple(answer.short()):
            return _Said(", ".join(found), found)
        said = _Said(answer.rcode)
    return said


def _others(folder: Path, usual: tuple[Path, ...], users: Path) -> Iterator[str]:
    """Other state directories whose daemon runs. Whether it may be asked is no matter."""
    for other in (*usual, *sorted(users.glob("*/resolverd"))):
        if other != folder and _answers(other / state.SOCKET):
            yield str(other)


def _answers(path: Path) -> bool:
    """Whether somebody listens on the Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.settimeout(1)
        try:
            end.connect(str(path))
        except PermissionError:
            # Of a socket that may not be opened it cannot be told; of a folder, not even that there is one.
            return path.exists() if os.access(path.parent, os.X_OK) else False
        except OSError:
            return False
    return True


def _is_held(folder: Path) -> bool:
    """Whether a process holds the state directory's lock."""
    try:
        descriptor = os.open(folder / state.LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _left(folder: Path, resolv_conf: Path) -> Iterator[str]:
    """What only a daemon that was killed leaves. The snapshot and the log may be there for good reasons."""
    for name in (state.LOCK, state.SOCKET, journal.NAME):
        if os.path.lexists(folder / name):
            yield str(folder / name)
    yield from map(str, folder.glob(state.SCRATCH + "*"))
    try:
        author = author_of(resolv_conf.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return
    if author is not None and not _is_held(Path(author.folder)):
        yield one_line(f"its server in {resolv_conf}")
