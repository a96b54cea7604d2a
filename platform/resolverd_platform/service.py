"""The files that make a service manager run the daemon, made from the templates in ``platform/units``.

Only files with our marker are ever replaced or removed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from resolverd.errors import HostError, NoPermissionError, UsageError

from . import files

MARKER = b"resolverd install-service wrote this file"
"""At the beginning of every file of ours."""
NAME = "resolverd.service"
SYSTEMD_RUNS = Path("run/systemd/system")
"""There while systemd is the service manager (sd_booted(3))."""
LABEL = "io.resolverd.daemon"
_PLIST = f"Library/LaunchDaemons/{LABEL}.plist"
START = f"launchctl bootstrap system /{_PLIST}" if sys.platform == "darwin" else f"systemctl enable --now {NAME}"
"""The command that starts it, now and at every boot."""
_DRAFT = ".resolverd-draft"
_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")


@dataclass(frozen=True, slots=True)
class Service:
    """What is to be run, and for whom."""

    program: tuple[str, ...]
    """The command before its arguments, by absolute paths."""
    options: tuple[str, ...] = ()
    """Of ``resolverd run``."""
    user: str = "root"
    """Whose kubeconfig and credential plugins they are."""
    group: str = ""
    """Who may use the control socket and, by polkit, start and stop the unit; empty: root only."""

    def __post_init__(self) -> None:
        for what, name in (("user", self.user), ("group", self.group or "root")):
            if not _ACCOUNT.fullmatch(name):
                raise UsageError(f"{what} {name}", "is no name of an account", "letters, digits, - and _")


@dataclass(frozen=True, slots=True)
class Step:
    """A file to write (``content``) or to remove."""

    path: Path
    content: bytes | None
    needed: bool
    """Whether it is not so already."""

    def __str__(self) -> str:
        what = "remove" if self.content is None else "write"
        return f"{what} {self.path}" if self.needed else f"{self.path} is as it should be"


def units() -> Path:
    """The folder of the templates: beside this module in a wheel, beside this package in a checkout."""
    packaged = Path(__file__).parent / "units"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "units"


def install_plan(service: Service, root: Path, system: str = sys.platform) -> tuple[Step, ...]:
    """What is to be written below ``root``. HostError when a file there is not ours; nothing is changed yet."""
    wanted = dict(_contents(service, root, system))
    unwanted = [path for path in install_places(root, system) if path not in wanted]
    return (
        *(Step(path, content, _ours(path) != content) for path, content in wanted.items()),
        *(Step(path, None, True) for path in unwanted if _is_ours(path)),
    )


def removal_plan(root: Path, system: str = sys.platform) -> tuple[Step, ...]:
    """What of ours is to be removed below ``root``; files of others are left out."""
    return tuple(Step(path, None, True) for path in install_places(root, system) if _is_ours(path))


def commands_after(root: Path, *, changed: bool, start: bool = False) -> list[list[str]]:
    """What has the service manager read the files below ``root``, if it does, and ``start`` the service."""
    if not _manages(root):
        return []
    reload = [["systemctl", "daemon-reload"]] if changed and sys.platform != "darwin" else []
    return [*reload, *([START.split()] if start else [])]


def commands_before_removal(root: Path) -> list[list[str]]:
    """What stops the service and forgets it."""
    if not _manages(root):
        return []
    mac = ["launchctl", "bootout", f"system/{LABEL}"]
    return [mac if sys.platform == "darwin" else ["systemctl", "disable", "--now", NAME]]


def _manages(root: Path) -> bool:
    """Whether there is a service manager that reads the files below ``root``."""
    return root == Path("/") and (sys.platform == "darwin" or (root / SYSTEMD_RUNS).is_dir())


def carry_out(step: Step) -> None:
    """Write or remove the file. NoPermissionError, HostError."""
    if not step.needed:
        return
    try:
        if step.content is None:
            step.path.unlink(missing_ok=True)
        else:
            step.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            files.write(step.path, step.content, _DRAFT)
    except PermissionError as error:
        raise NoPermissionError(str(step.path), "you may not write there", "run it with sudo") from error
    except OSError as error:
        raise HostError(str(step.path), str(error.strerror), "is /etc read-only on this system?") from error


def install_places(root: Path, system: str = sys.platform) -> tuple[Path, ...]:
    """Where the files are, below ``root``: the unit first."""
    if system == "darwin":
        return (root / _PLIST,)
    return root / f"etc/systemd/system/{NAME}", root / "etc/polkit-1/rules.d/50-resolverd.rules"


def _contents(service: Service, root: Path, system: str) -> Iterator[tuple[Path, bytes]]:
    places = install_places(root, system)
    if system == "darwin":
        words = (*service.program, "run", *service.options)
        arguments = "\n        ".join(f"<string>{escape(word)}</string>" for word in words)
        yield places[0], _filled("io.resolverd.daemon.plist", ARGUMENTS=arguments, USER=service.user)
        return
    yield (
        places[0],
        _filled(
            "resolverd.service",
            PROGRAM=" ".join(map(_quoted, service.program)),
            OPTIONS=" ".join(map(_quoted, service.options)),
            USER=service.user,
            GROUP=service.group or "root",
        ),
    )
    if service.group:
        yield places[1], _filled("resolverd.rules", GROUP=service.group)


def _filled(template: str, **values: str) -> bytes:
    text = (units() / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return "\n".join(line.rstrip() for line in text.splitlines()).encode() + b"\n"


def _quoted(word: str) -> str:
    """A word of a command line as systemd.service(5) reads it: specifiers, variables and quotes are taken literally."""
    if any(not character.isprintable() for character in word):
        raise UsageError("install-service", f"{word!r} cannot stand in a unit", "use another path")
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else f'"{word}"'


def _ours(path: Path) -> bytes | None:
    """The content of our file; None when there is none. HostError when it is somebody else's."""
    try:
        content = files.read(path)
    except OSError as error:
        raise HostError(str(path), str(error.strerror), "run it with sudo") from error
    if content is not None and MARKER not in content[:400]:
        raise HostError(str(path), "is there, and not of resolverd's making", "move it away")
    return content


def _is_ours(path: Path) -> bool:
    try:
        return _ours(path) is not None
    except HostError:
        return False
