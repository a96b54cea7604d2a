"""The last Snapshot on disk: what a daemon that was killed knew, for the one that starts while the API is away.

One file per cluster (server and authorities), of lines of JSON, compressed, mode 0600, put in place whole. It is read
with the parsers of the API's own answers and trusted no more than those.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from resolverd.state import SNAPSHOT

from .access import Access
from .pages import mapping, read_item
from .scoping import Covered
from .snapshot import Change, Snapshot, everything
from .watch import WATCHED
from .written import written

log = logging.getLogger(__name__)

FORMAT = 1
LONGEST = 24 * 3600.0
"""Seconds after which a Snapshot is too old to be served."""
TURN = 50
"""Lines written in one go: half a millisecond, for which nobody else in this interpreter can do anything."""
REST = 0.0005
"""Seconds for the others after that: a change in the cluster is not to wait until all of it is written."""
MAX_LINE = 4 * 1024 * 1024
"""Octets of one object's line."""
_DAMAGED = (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, OverflowError, RecursionError)
"""What reading a file that is not as we wrote it may end with."""


class Found(NamedTuple):
    """What was kept."""

    changes: tuple[Change, ...]
    """Those that make the Snapshot."""
    moment: float
    """When it was known, in Unix seconds."""
    covered: Covered
    """Of which namespaces it was everything."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The file of one cluster."""

    folder: Path
    identity: str

    @classmethod
    def of(cls, folder: Path, access: Access) -> Kept:
        """The file for the cluster behind ``access``: another server or other authorities are another cluster."""
        digest = hashlib.sha256(f"{access.server}\0{access.ca_pem}".encode()).hexdigest()
        return cls(folder, digest[:16])

    @property
    def path(self) -> Path:
        return self.folder / f"{SNAPSHOT}{self.identity}.json.gz"

    def write(self, snapshot: Snapshot, now: float, covered: Covered = None) -> None:
        """Put ``snapshot``, known at ``now`` (Unix seconds), in the place of the last one. OSError.

        It is everything of the namespaces ``covered``.
        """
        descriptor, name = tempfile.mkstemp(prefix=SNAPSHOT, suffix=".new", dir=self.folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed:
                    for number, line in enumerate(self._lines(snapshot, now, covered)):
                        if number % TURN == TURN - 1:
                            time.sleep(REST)
                        packed.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        for other in self.folder.glob(f"{SNAPSHOT}*"):
            if other != self.path:
                other.unlink(missing_ok=True)

    def _lines(self, snapshot: Snapshot, now: float, covered: Covered) -> Iterator[Any]:
        names = None if covered is None else sorted(covered)
        yield {"format": FORMAT, "identity": self.identity, "time": now, "covered": names}
        count = 0
        for change in everything(snapshot):
            raw = written(change.object) if change.object is not None else None
            if raw is not None:
                count += 1
                yield [str(change.kind), raw]
        yield {"end": count}

    def read(self, now: float) -> Found | None:
        """What was kept; None when there is nothing that may be served at ``now`` (Unix seconds)."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                _check_owner(os.fstat(descriptor))
                with gzip.GzipFile(fileobj=file) as packed:
                    return self._parse(packed, now)
        except FileNotFoundError:
            return None
        except _DAMAGED as error:
            log.warning("%s is not used: %s", self.path, str(error) or type(error).__name__)
            return None

    def _parse(self, packed: gzip.GzipFile, now: float) -> Found:
        head = json.loads(packed.readline(MAX_LINE))
        if head["format"] != FORMAT or head["identity"] != self.identity:
            raise ValueError("it is of another version or another cluster")
        moment = float(head["time"])
        if not -60 < now - moment < LONGEST:
            raise ValueError(f"it is of another time ({(now - moment) / 3600:.0f} h ago)")
        names = head.get("covered")
        if not isinstance(names, list | None) or not all(isinstance(name, str) for name in names or ()):
            raise ValueError("it does not say what it covers")
        parsers = {str(watched.kind): watched for watched in WATCHED}
        changes: list[Change] = []
        while True:
            line = json.loads(packed.readline(MAX_LINE))
            if isinstance(line, dict):
                # Reading on to the end of the file is what has its checksum looked at.
                if line["end"] != len(changes) or packed.read(1):
                    raise ValueError("it is not whole")
                return Found(tuple(changes), moment, None if names is None else frozenset(names))
            kind, raw = line
            item = read_item(mapping(raw), parsers[kind].parse)
            if item is None or item.object is None:
                raise ValueError("it holds what is no object")
            changes.append(Change(parsers[kind].kind, item.key, item.object))


def _check_owner(found: os.stat_result) -> None:
    """Nobody else may have written it. ValueError."""
    if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError("somebody else may have written it")
