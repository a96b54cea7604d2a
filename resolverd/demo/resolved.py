"""Where a systemd-resolved to run comes from: the installed one, else a copy unpacked into a cache folder.

Installing the package on a host that does not run it would replace /etc/resolv.conf (its postinst does). So the
packages are downloaded and unpacked, and nothing of theirs runs except inside a stage.

``python -m resolverd.demo.resolved --fetch`` makes sure there is one; ``--check`` only looks.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from resolverd.errors import ExitCode, HostError, ResolverdError

from . import unpacking
from .unpacking import Wanted, apt, missing_libraries, require_apt

INSTALLED = (Path("/usr/lib/systemd/systemd-resolved"), Path("/lib/systemd/systemd-resolved"))
_LIBRARY_FOLDERS = ("usr/lib/*/systemd", "usr/lib/systemd", "usr/lib/*-linux-gnu*", "lib/*-linux-gnu*")
_LINKERS = ("lib*/ld-linux*.so.*", "usr/lib*/ld-linux*.so.*")
_FIX = "python -m resolverd.demo.resolved --fetch"


@dataclass(frozen=True, slots=True)
class Resolved:
    """The programs of one systemd-resolved, and the folders their private libraries are in."""

    daemon: Path
    resolvectl: Path
    libraries: tuple[Path, ...] = ()
    """Empty: the dynamic linker finds them by itself."""
    linker: Path | None = None
    """The dynamic linker of a release that brings its own C library; None: this machine's does."""

    def command(self, program: Path) -> tuple[str, ...]:
        """How ``program``, one of these, is started."""
        return (*self._loader(), str(program))

    def environment(self) -> dict[str, str]:
        """What these programs, and no others, need in their environment."""
        return {"LD_LIBRARY_PATH": self._library_path()} if self.libraries and self.linker is None else {}

    def missing_libraries(self) -> tuple[str, ...]:
        """Shared libraries that this machine lacks, by file name."""
        lister = (*self._loader(), "--list") if self.linker else ("ldd",)
        return missing_libraries((self.daemon, self.resolvectl), self.environment(), lister)

    def _loader(self) -> tuple[str, ...]:
        return (str(self.linker), "--library-path", self._library_path()) if self.linker else ()

    def _library_path(self) -> str:
        return ":".join(map(str, self.libraries))


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
    """The copy under ``root``, if there is one. Debian 12 has the daemon in /lib, later ones in /usr/lib.

    With a C library beside it, as in a whole release or where its package was unpacked too, it is started with that:
    so a release runs whose C library is newer than this machine's.
    """
    daemons = [root / folder / "systemd" / "systemd-resolved" for folder in ("usr/lib", "lib")]
    daemon = next((path for path in daemons if path.exists()), None)
    resolvectl = root / "usr/bin/resolvectl"
    if daemon is None or not resolvectl.exists():
        return None
    shared = [folder for pattern in _LIBRARY_FOLDERS for folder in sorted(root.glob(pattern))]
    linker = next((path for pattern in _LINKERS for path in sorted(root.glob(pattern))), None)
    return Resolved(daemon, resolvectl, tuple(path for path in shared if list(path.glob("*.so*"))), linker)


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
    """Unpack this distribution's systemd-resolved into ``root`` (:mod:`.unpacking`). HostError when that fails."""
    require_apt("systemd-resolved")
    split = bool(apt("apt-cache", "search", "--names-only", "^systemd-resolved$"))
    packages = ("systemd-resolved", "libsystemd-shared") if split else ("systemd",)

    def missing(tree: Path) -> tuple[str, ...]:
        found = unpacked(tree)
        if found is None:
            why = f"is not in the packages {' '.join(packages)}"
            raise HostError("systemd-resolved", why, "install systemd-resolved")
        return found.missing_libraries()

    unpacking.fetch(Wanted("systemd-resolved", packages, missing, frozenset({"libsystemd-shared"})), root)
    return find()


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
