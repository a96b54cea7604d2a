"""A PostgreSQL for tests: the installed one, else a copy unpacked into the checkout's cache, where nothing starts it.

Installing the package would create a database cluster on this machine and start it. ``python tests/postgresql.py``
makes sure that there is one; with ``--check`` it only looks.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from resolverd.demo import unpacking
from resolverd.demo.unpacking import Wanted, apt, missing_libraries, require_apt
from resolverd.errors import ExitCode, HostError, ResolverdError

CACHE = Path(__file__).resolve().parents[1] / ".cache" / "postgresql"
_NAME = "postgresql"
_FOLDERS = "usr/lib/postgresql/*/bin"


@dataclass(frozen=True, slots=True)
class Postgresql:
    """Its programs, and what they need in their environment."""

    programs: Path
    environment: dict[str, str]

    def missing_libraries(self) -> tuple[str, ...]:
        programs = [self.programs / name for name in ("postgres", "initdb", "pgbench")]
        return missing_libraries(programs, self.environment)


def under(root: Path) -> Postgresql | None:
    """The newest one under ``root``, if there is any."""
    found = [path for path in root.glob(_FOLDERS) if (path / "postgres").exists() and (path / "pgbench").exists()]
    if not found:
        return None
    libraries = [] if root == Path("/") else sorted(root.glob("usr/lib/*-linux-gnu*"))
    environment = {"LD_LIBRARY_PATH": ":".join(map(str, libraries))} if libraries else {}
    return Postgresql(max(found, key=lambda path: float(path.parent.name)), environment)


def find(cache: Path = CACHE) -> Postgresql | None:
    """The one to use."""
    return under(Path("/")) or under(cache)


def fetch(root: Path) -> None:
    """Unpack this distribution's newest into ``root``. HostError."""
    require_apt(_NAME)
    (package,) = sorted(set(re.findall(r"\bpostgresql-\d+\b", apt("apt-cache", "depends", _NAME))))[-1:] or (_NAME,)

    def missing(tree: Path) -> tuple[str, ...]:
        found = under(tree)
        if found is None:
            raise HostError(_NAME, f"its server or pgbench is not in the package {package}", f"install {_NAME}")
        return found.missing_libraries()

    # Compiling queries is all that LLVM is for, and it is larger than everything else together.
    without = frozenset(re.findall(r"\blibllvm\S+", apt("apt-cache", "depends", package)))
    unpacking.fetch(Wanted(_NAME, (package,), missing, without), root)


def main(arguments: list[str]) -> int:
    try:
        if find() is None:
            if arguments == ["--check"]:
                return ExitCode.DEGRADED
            fetch(CACHE)
    except ResolverdError as error:
        print(f"resolverd: {error}", file=sys.stderr)
        return error.code
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
