"""Packages of this distribution, downloaded and unpacked into a folder instead of installed.

Nothing of theirs runs by itself then: no maintainer script, no service. Needs apt, its sources and ``dpkg-deb``; no
rights.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resolverd.errors import HostError

from .programs import output_of


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be unpacked, and whether all of it is there."""

    name: str
    """What errors call it."""
    packages: tuple[str, ...]
    missing: Callable[[Path], Sequence[str]]
    """Shared libraries that what is under a folder lacks, by file name; HostError when the programs are not there."""
    without: frozenset[str] = frozenset()
    """Library packages that are not needed, although the packages depend on them."""


def missing_libraries(
    programs: Sequence[Path], environment: dict[str, str], lister: Sequence[str] = ("ldd",)
) -> tuple[str, ...]:
    """Shared libraries that this machine lacks for ``programs``, by file name; ``lister`` tells those of one."""
    settings = os.environ | environment
    looks = [
        subprocess.run([*lister, str(program)], env=settings, capture_output=True, text=True, check=False)
        for program in programs
    ]
    listing = "".join(look.stdout for look in looks)
    return tuple(sorted(set(re.findall(r"^\s*(\S+) => not found", listing, re.MULTILINE))))


def require_apt(name: str) -> None:
    """HostError, which says that ``name`` cannot be fetched, where this is no system of apt's."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise HostError(name, "not installed, and it can be fetched with apt only", f"install {name}")


def fetch(wanted: Wanted, root: Path) -> None:
    """Download and unpack into ``root``, all or nothing, with libraries that the machine lacks. HostError."""
    require_apt(wanted.name)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".fetch-") as scratch:
        tree = Path(scratch, "root")
        tree.mkdir(mode=0o755)
        archives = _unpack(wanted.packages, Path(scratch), tree)
        while missing := wanted.missing(tree):
            absent = _absent_libraries(archives, wanted.without)
            if not absent:
                raise HostError(wanted.name, f"needs {', '.join(missing)}", "install the packages that hold them")
            archives = _unpack(absent, Path(scratch), tree)  # these may need others in turn
        shutil.rmtree(root, ignore_errors=True)
        tree.rename(root)


def apt(*command: str, folder: Path | None = None) -> str:
    """What one of apt's programs prints. HostError."""
    return output_of(command, folder=folder, fix="apt-get update, and try again")


def _unpack(packages: Sequence[str], scratch: Path, tree: Path) -> list[Path]:
    """Download ``packages`` and unpack them into ``tree``; their archives."""
    before = set(scratch.glob("*.deb"))
    apt("apt-get", "-o", "APT::Sandbox::User=root", "--quiet", "download", *packages, folder=scratch)
    archives = sorted(set(scratch.glob("*.deb")) - before)
    for archive in archives:
        apt("dpkg-deb", "--extract", str(archive), str(tree))
    return archives


def _absent_libraries(archives: Sequence[Path], without: frozenset[str]) -> list[str]:
    """Library packages that ``archives`` depend on and that are not installed here."""
    depends = [apt("dpkg-deb", "--field", str(archive), "Depends") for archive in archives]
    names = sorted(set(re.findall(r"\blib[a-z0-9.+-]+", " ".join(depends))) - without)
    if not names:
        return []
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\n", *names]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    present = {line.partition(" ")[2] for line in listing.splitlines() if line.startswith("installed ")}
    return [name for name in names if name not in present]
