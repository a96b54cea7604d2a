"""Where a systemd-resolved to run comes from: the installed one, else a copy unpacked into a cache folder.

Installing the package on a host that does not run it would replace /etc/resolv.conf (its postinst does). So the
packages are downloaded and unpacked, and nothing of theirs runs except inside a stage.

``python -m resolverd.demo.resolved --fetch`` makes sure there is one; ``--check`` only looks.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from resolverd.errors import ExitCode, HostError, ResolverdError

from .programs import output_of

INSTALLED = (Path("/usr/lib/systemd/systemd-resolved"), Path("/lib/systemd/systemd-resolved"))
_LIBRARY_FOLDERS = ("usr/lib/*/systemd", "usr/lib/systemd", "usr/lib/*-linux-gnu*", "lib/*-linux-gnu*")
_FIX = "python -m resolverd.demo.resolved --fetch"


@dataclass(frozen=True, slots=True)
class Resolved:
    """The programs of one systemd-resolved, and the folders their private libraries are in."""

    daemon: Path
    resolvectl: Path
    libraries: tuple[Path, ...] = ()
    """Empty: the dynamic linker finds them by itself."""

    def environment(self) -> dict[str, str]:
        """What these programs, and no others, need in their environment."""
        return {"LD_LIBRARY_PATH": ":".join(map(str, self.libraries))} if self.libraries else {}

    def missing_libraries(self) -> tuple[str, ...]:
        """Shared libraries that this machine lacks, by file name."""
        command = ["ldd", str(self.daemon), str(self.resolvectl)]
        settings = os.environ | self.environment()
        listing = subprocess.run(command, env=settings, capture_output=True, text=True, check=False)
        return tuple(sorted(set(re.findall(r"^\s*(\S+) => not found", listing.stdout, re.MULTILINE))))


def cache_folder() -> Path:
    """Where an unpacked copy is kept: ``$RESOLVERD_DEMO_RESOLVED``, the checkout's cache, or the user's."""
    if chosen := os.environ.get("RESOLVERD_DEMO_RESOLVED"):
        return Path(chosen)
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "requirements.lock").exists():
        return checkout / ".cache" / "resolved"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "resolverd" / "resolved"


def installed() -> Resolved | None:
    """The one the system has, if any."""
    daemon = next((path for path in INSTALLED if path.exists()), None)
    resolvectl = shutil.which("resolvectl")
    return Resolved(daemon, Path(resolvectl)) if daemon and resolvectl else None


def unpacked(root: Path) -> Resolved | None:
    """The copy under ``root``, if there is one. Debian 12 has the daemon in /lib, later ones in /usr/lib."""
    daemons = [root / folder / "systemd" / "systemd-resolved" for folder in ("usr/lib", "lib")]
    daemon = next((path for path in daemons if path.exists()), None)
    resolvectl = root / "usr/bin/resolvectl"
    if daemon is None or not resolvectl.exists():
        return None
    shared = [folder for pattern in _LIBRARY_FOLDERS for folder in sorted(root.glob(pattern))]
    return Resolved(daemon, resolvectl, tuple(path for path in shared if list(path.glob("*.so*"))))


def find() -> Resolved:
    """The systemd-resolved to use. HostError when there is none, or when it cannot be loaded here."""
    found = installed() or unpacked(cache_folder())
    if found is None:
        raise HostError("systemd-resolved", f"neither installed nor unpacked in {cache_folder()}", _FIX)
    if missing := found.missing_libraries():
        raise HostError(
            "systemd-resolved", f"cannot be loaded without {', '.join(missing)}", f"{_FIX} after removing it"
        )
    return found


def fetch(root: Path) -> Resolved:
    """Download the packages of this distribution's systemd-resolved and unpack them into ``root``, all or nothing.

    Libraries of theirs that the machine lacks are unpacked beside them. Needs apt, its sources and ``dpkg-deb``;
    no rights. HostError when that fails.
    """
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise HostError(
            "systemd-resolved", "not installed, and it can be fetched with apt only", "install systemd-resolved"
        )
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".fetch-") as scratch:
        tree = Path(scratch, "root")
        tree.mkdir(mode=0o755)
        split = bool(_apt("apt-cache", "search", "--names-only", "^systemd-resolved$"))
        packages = ["systemd-resolved", "libsystemd-shared"] if split else ["systemd"]
        archives = _unpack(packages, Path(scratch), tree)
        while missing := _unpacked_now(tree, packages).missing_libraries():
            absent = _absent_libraries(archives)
            if not absent:
                why = f"needs {', '.join(missing)}"
                raise HostError("systemd-resolved", why, "install the packages that hold them")
            archives = _unpack(absent, Path(scratch), tree)  # these may need others in turn
        shutil.rmtree(root, ignore_errors=True)
        tree.rename(root)
    return find()


def _unpacked_now(tree: Path, packages: list[str]) -> Resolved:
    found = unpacked(tree)
    if found is None:
        raise HostError("systemd-resolved", f"is not in the packages {' '.join(packages)}", "install systemd-resolved")
    return found


def _unpack(packages: list[str], scratch: Path, tree: Path) -> list[Path]:
    """Download ``packages`` and unpack them into ``tree``; their archives."""
    before = set(scratch.glob("*.deb"))
    _apt("apt-get", "-o", "APT::Sandbox::User=root", "--quiet", "download", *packages, folder=scratch)
    archives = sorted(set(scratch.glob("*.deb")) - before)
    for archive in archives:
        _apt("dpkg-deb", "--extract", str(archive), str(tree))
    return archives


def _absent_libraries(archives: list[Path]) -> list[str]:
    """Library packages that ``archives`` depend on and that are not installed here."""
    depends = [_apt("dpkg-deb", "--field", str(archive), "Depends") for archive in archives]
    names = sorted(set(re.findall(r"\blib[a-z0-9.+-]+", " ".join(depends))) - {"libsystemd-shared"})
    if not names:
        return []
    command = ["dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Package}\n", *names]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    present = {line.partition(" ")[2] for line in listing.splitlines() if line.startswith("installed ")}
    return [name for name in names if name not in present]


def _apt(*command: str, folder: Path | None = None) -> str:
    return output_of(command, folder=folder, fix="apt-get update, and try again")


def main(arguments: list[str]) -> int:
    if arguments not in (["--check"], ["--fetch"]):
        print("usage: python -m resolverd.demo.resolved --check|--fetch", file=sys.stderr)
        return ExitCode.USAGE
    try:
        try:
            found = find()
        except HostError:
            if arguments == ["--check"]:
                raise
            found = fetch(cache_folder())
    except ResolverdError as error:
        print(f"resolverd: {error}", file=sys.stderr)
        return error.code
    print(found.daemon)
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
