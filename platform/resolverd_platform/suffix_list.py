"""The public suffix list: the newest on this machine, its ICANN section, read by publicsuffix2.

publicsuffix2's own list is of 2019 and lacks TLDs such as ``web``; the distribution's and the ``publicsuffixlist``
package's are usually newer. The one beside this module is what there is at least (:mod:`.suffix_list_refresh`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from resolverd.errors import HostError, UsageError

SYSTEM = Path("/usr/share/publicsuffix/public_suffix_list.dat")
PACKAGES = ("publicsuffixlist", "publicsuffix2")
_FILE = "public_suffix_list.dat"
BUNDLED = Path(__file__).with_name(_FILE)
"""Ours: the ICANN section without its comments."""
BEGIN, END = "// ===BEGIN ICANN DOMAINS===", "// ===END ICANN DOMAINS==="
_HEAD = 2048
"""Characters in which a list says its version."""
_VERSION = re.compile(r"^//\s*VERSION:\s*(\d{4}-\d\d-\d\d)", re.MULTILINE)
_ABOUT = re.compile(r"^version:\s*(\d{4}-\d\d-\d\d)", re.MULTILINE)
_RELEASE = re.compile(r"\.(\d{4})(\d\d)(\d\d)$")
"""How a version of ``publicsuffixlist`` ends: with the day of its list."""


class _Parsed(Protocol):
    def get_tld(self, domain: str, wildcard: bool = ..., strict: bool = ...) -> str | None: ...


@dataclass(frozen=True, slots=True)
class ListFile:
    """A list on this machine; ``dated`` is its day, ``2026-10-22``, and orders lists by age."""

    path: Path
    dated: str

    def age(self, today: date) -> int:
        """Days since then; never negative, whatever the clock says."""
        return max(0, (today - date.fromisoformat(self.dated)).days)

    def to_json(self, today: date) -> dict[str, object]:
        """The value of ``suffix-list`` in the status document's ``host``."""
        return {"path": str(self.path), "dated": self.dated, "days": self.age(today)}


class PublicSuffixes:
    """The ICANN section as a container of names: ``"rs" in suffixes``."""

    def __init__(self, parsed: _Parsed, source: ListFile) -> None:
        self._parsed = parsed
        self.source = source

    def __contains__(self, name: object) -> bool:
        # strict: without it publicsuffix2 takes every unknown last label for a TLD. This also finds a TLD that is
        # listed as a wildcard only, such as ck.
        return isinstance(name, str) and name != "" and self._parsed.get_tld(name, strict=True) == name


def load(choice: str = "auto", candidates: Sequence[Path] | None = None) -> PublicSuffixes:
    """The list to go by: the file ``choice``, or with ``auto`` the newest of ``candidates`` (default: known places).

    One that is no list is passed over. Takes some 50 ms. UsageError when the chosen file is no list, HostError when
    there is none at all.
    """
    if choice != "auto":
        path = Path(choice).expanduser()
        try:
            return _parse(ListFile(path, _day(path)))
        except (OSError, ValueError) as error:
            raise UsageError("dns.suffix-list", f"{path}: {error}", "name a public_suffix_list.dat") from error
    for source in _newest_first(known_files() if candidates is None else candidates):
        with suppress(OSError, ValueError):
            return _parse(source)
    raise HostError("public suffix list", "there is none on this machine", "pip install publicsuffixlist")


def known_files() -> tuple[Path, ...]:
    """Where lists may be: the distribution's, those of Python packages, ours."""
    specs = (find_spec(name) for name in PACKAGES)
    return (SYSTEM, *(Path(spec.origin).parent / _FILE for spec in specs if spec and spec.origin), BUNDLED)


def chosen(choice: str = "auto") -> ListFile | None:
    """The file that :func:`load` goes by, without its parser; None: there is none, or ``choice`` is no list."""
    for source in _newest_first(known_files() if choice == "auto" else [Path(choice).expanduser()]):
        with suppress(OSError, ValueError):
            icann_rules(source.path.read_text(encoding="utf-8"))
            return source
    return None


def newest(candidates: Iterable[Path]) -> ListFile | None:
    """The newest readable list; of equally old ones the first."""
    return max(_dated(candidates), key=lambda each: each.dated, default=None)


def _newest_first(candidates: Iterable[Path]) -> list[ListFile]:
    return sorted(_dated(candidates), key=lambda each: each.dated, reverse=True)


def _dated(candidates: Iterable[Path]) -> Iterator[ListFile]:
    for path in candidates:
        try:
            yield ListFile(path, _day(path))
        except (OSError, UnicodeDecodeError):
            continue


def _day(path: Path) -> str:
    """The day of a list: what it says itself, else what comes with it says, else the file's own time.

    pip gives a file the time of its installation, so that comes last; dpkg keeps the time of its making.
    """
    with path.open(encoding="utf-8") as file:
        said = _said(_VERSION, file.read(_HEAD))
    about = path.with_suffix(".ABOUT")
    if not said and about.is_file():
        said = _said(_ABOUT, about.read_text(encoding="utf-8"))
    return said or _release_day(path) or datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()


def _said(pattern: re.Pattern[str], text: str) -> str:
    """The day that ``text`` says; empty when it says none, or one that there never was."""
    found = pattern.search(text)
    try:
        return date.fromisoformat(found[1]).isoformat() if found else ""
    except ValueError:
        return ""


def _release_day(path: Path) -> str:
    """The day in the version of ``publicsuffixlist`` when the file is its own; else nothing."""
    if path.parent.name != PACKAGES[0]:
        return ""
    try:
        released = _RELEASE.search(version(PACKAGES[0]))
    except PackageNotFoundError:
        return ""
    return "-".join(released.groups()) if released else ""


def _parse(source: ListFile) -> PublicSuffixes:
    """ValueError when the file has no ICANN section."""
    from publicsuffix2 import PublicSuffixList

    text = source.path.read_text(encoding="utf-8")
    return PublicSuffixes(PublicSuffixList(map(_as_ascii, icann_rules(text)), idna=False), source)


def icann_rules(text: str) -> Iterator[str]:
    """The rules of the ICANN section as the list has them. ValueError when there is none."""
    start, end = text.find(BEGIN), text.find(END)
    if not 0 <= start < end:
        raise ValueError("no ICANN section")
    return (line for line in text[start:end].splitlines()[1:] if line and not line.startswith("//"))


def _as_ascii(rule: str) -> str:
    """Namespaces and wire names are ASCII, so IDNs are compared as punycode. Few rules need the slow codec."""
    return rule if rule.isascii() else rule.encode("idna").decode()
