"""A YAML file as a tree of nodes that know their lines. Reading never blocks, and nothing in the file can expand."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import yaml

from resolverd.config.mistakes import Mistake

MAX_SIZE = 1024 * 1024
"""Octets of a config file."""
_FIX = "name another file, or mend this one"


class UnreadableError(Exception):
    """Why a file cannot be read, in a few words."""


class AbsentError(UnreadableError):
    """There is none."""


def compose(path: Path, mistakes: list[Mistake]) -> yaml.Node | None:
    """The root of the file's one document; None when it is empty or cannot be read, which then is a mistake.

    Aliases are not expanded: a node that has several is several times in the tree, or contains itself.
    """
    try:
        return parse(path, read_text(path), mistakes)
    except UnreadableError as error:
        mistakes.append(Mistake(str(path), str(error), _FIX))
        return None


def parse(path: Path, text: str, mistakes: list[Mistake]) -> yaml.Node | None:
    """The same, of a text that was read from ``path``."""
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        mistakes.append(Mistake(where, ", ".join(filter(None, (error.context, error.problem)))))
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        where = f"{path}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
        mistakes.append(Mistake(where, f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"))
    except RecursionError:
        mistakes.append(Mistake(str(path), "it is nested too deep"))
    else:
        return root
    return None


def read_text(path: Path, longest: int = MAX_SIZE) -> str:
    """The text of a regular file. Raises UnreadableError, also for a FIFO or a device, and never waits for one."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise AbsentError("it does not exist") from None
    except OSError as error:
        raise UnreadableError(f"it cannot be read: {error.strerror}") from error
    except ValueError:  # what os.open says of a NUL
        raise AbsentError("it does not exist: no file's name has a NUL") from None
    try:
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            raise UnreadableError("it is a folder" if stat.S_ISDIR(kind) else "it is no regular file")
        octets = b""
        while len(octets) <= longest and (more := os.read(descriptor, MAX_SIZE)):
            octets += more
    except OSError as error:
        raise UnreadableError(f"it cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    if len(octets) > longest:
        raise UnreadableError(f"it is larger than {longest} octets, is it the right one?")
    return _decoded(octets)


def _decoded(octets: bytes) -> str:
    if octets[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UnreadableError("it is UTF-16, save it as UTF-8")
    try:
        return octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise UnreadableError(f"it is not UTF-8: octet {octets[error.start]:#04x} in line {line}") from None
