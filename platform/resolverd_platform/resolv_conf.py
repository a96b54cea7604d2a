"""The text of a resolv.conf with our server in it, and back again: what was taken out stays inside, as comments. Pure.

So the original can be had from the file alone, also when the machine lost its power and /run with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import PurePath

from resolverd.errors import one_line
from resolverd.names import Address

from .host_facts import parse_resolv_conf, searched

MAX_SEARCH, MAX_SEARCH_LENGTH = 6, 256
"""Domains and characters that glibc before 2.26, and other libraries, read of a search list (resolv.conf(5))."""
_TAKEN_OUT = "#resolverd# "
_BEGIN = re.compile(r'# resolverd, process (\d+), in "(.+)": (a file|no file) was here; resolverd cleanup puts it back')
_END = "# resolverd: end of what it put in"
_NONE_LISTED = ip_address("127.0.0.1")
_REPLACED = ("nameserver", "search", "domain")


@dataclass(frozen=True, slots=True)
class Author:
    """Who put something in."""

    pid: int
    folder: PurePath
    """Its state directory."""


@dataclass(frozen=True, slots=True)
class Original:
    """The file without us; None: there was none."""

    text: str | None


@dataclass(frozen=True, slots=True)
class Ours:
    """What we want in the file."""

    server: Address
    """On port 53: the file knows no other."""
    search: tuple[str, ...]
    """Searched before the host's own domains."""


def put_in(original: Original, ours: Ours, author: Author) -> str:
    """The file with ``ours`` instead of its name servers and search lists; options and comments are kept."""
    state = "no file" if original.text is None else "a file"
    by = f'# resolverd, process {author.pid}, in "{one_line(str(author.folder))}"'
    lines = [
        f"{by}: {state} was here; resolverd cleanup puts it back",
        f"nameserver {ours.server}",
        *([f"search {' '.join(ours.search)}"] if ours.search else []),
        _END,
    ]
    return "\n".join([*lines, *map(_commented, (original.text or "").split("\n"))])


def original_of(text: str) -> Original | None:
    """What was there before us; None when nothing of ours is in it. Lines that others added since are kept."""
    lines = text.split("\n")
    begin = next((number for number, line in enumerate(lines) if _BEGIN.fullmatch(line)), None)
    if begin is None:
        return None
    kept = [*lines[:begin], *(_uncommented(line) for line in _after_ours(lines[begin + 1 :]))]
    whole = "\n".join(kept)
    found = _BEGIN.fullmatch(lines[begin])
    return Original(None if found and found[3] == "no file" and not whole.strip() else whole)


def author_of(text: str) -> Author | None:
    """Who put something in, if anybody did."""
    found = next((match for line in text.split("\n") if (match := _BEGIN.fullmatch(line))), None)
    return Author(int(found[1]), PurePath(found[2])) if found else None


def nameservers_of(original: Original) -> tuple[Address, ...]:
    """Whom programs ask by the file; none listed, or no file, means the resolver of this machine (resolv.conf(5))."""
    return parse_resolv_conf(original.text or "")[1] or (_NONE_LISTED,)


def search_list(own: Sequence[str], text: str, hostname: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The search list with ``own`` in front, and those of ``own`` for which old libraries have no room.

    The host's come first when there is too little room. Without a list, its own domain is searched (resolv.conf(5)),
    which it would not be any more with one.
    """
    theirs = searched(text, hostname)
    kept = tuple(name for name in dict.fromkeys(own) if name not in theirs)
    while kept and not _fits((*kept, *theirs)):
        kept = kept[:-1]
    left_out = tuple(name for name in own if name not in kept and name not in theirs)
    return (*kept, *theirs), left_out


def _fits(names: tuple[str, ...]) -> bool:
    return len(names) <= MAX_SEARCH and len(" ".join(names)) < MAX_SEARCH_LENGTH


def _commented(line: str) -> str:
    taken_out = line.startswith(_TAKEN_OUT) or line.split(maxsplit=1)[:1] in ([word] for word in _REPLACED)
    return _TAKEN_OUT + line if taken_out else line


def _uncommented(line: str) -> str:
    return line.removeprefix(_TAKEN_OUT)


def _after_ours(lines: list[str]) -> Iterator[str]:
    """What follows our lines; where somebody removed their end, they end with the last line like them."""
    if _END in lines:
        yield from lines[lines.index(_END) + 1 :]
        return
    rest = iter(lines)
    for line in rest:
        if not line.startswith(("nameserver ", "search ")):
            yield line
            break
    yield from rest
