"""The config file and the flags: merged over the defaults, every mistake named with file, line and column."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from resolverd.errors import UsageError
from resolverd.settings import Settings

MAX_SIZE = 1024 * 1024
"""Octets of a config file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """One setting that somebody gave: section, field, value, and where it stands."""

    section: str
    field: str
    value: Any
    origin: str


def search_path(named: str, environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The files looked at, in order; the first that exists is read. ``named`` must exist."""
    if named:
        return (Path(named),)
    home = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME") or "/root") / ".config")
    return Path(home) / "resolverd" / "config.yaml", Path("/etc/resolverd/config.yaml")


def load(named: str, flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Settings:
    """Defaults < file < flags. ``flags`` maps ``section.key`` to a value, without those not given.

    Raises UsageError that names every mistake found.
    """
    path = next((path for path in search_path(named, environment) if _is_there(path)), None)
    if path is None and named:
        raise UsageError(f"config file {named}", "it does not exist", "check --config")
    mistakes: list[str] = []
    given = [*(_from_file(path, mistakes) if path else ()), *_from_flags(flags, mistakes)]
    if mistakes:
        raise UsageError("config", "; ".join(mistakes), "see docs/options.md")
    sections: dict[str, dict[str, Any]] = {}
    for item in given:
        sections.setdefault(item.section, {})[item.field] = item.value
    settings = Settings()
    for section, values in sections.items():
        part = dataclasses.replace(getattr(settings, section), **values)
        settings = dataclasses.replace(settings, **{section: part})
    return settings


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError as error:
        raise UsageError(f"config file {path}", "it may not be read", "check its folder's rights") from error


def _from_flags(flags: Mapping[str, Any], mistakes: list[str]) -> Iterator[Given]:
    for key, value in flags.items():
        section, _, name = key.partition(".")
        yield from _checked(section, name, value, f"--{_spelled(name)}", mistakes)


def _from_file(path: Path, mistakes: list[str]) -> list[Given]:
    try:
        if path.stat().st_size > MAX_SIZE:
            raise UsageError(f"config file {path}", f"larger than {MAX_SIZE} octets", "is it the right file?")
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"config file {path}", str(error), "check --config") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        mistakes.append(f"{where}: {error.problem}")
        return []
    except yaml.YAMLError as error:
        mistakes.append(f"{path}: {' '.join(str(error).split())}")
        return []
    if root is None:
        return []
    given: list[Given] = []
    known = [section.name for section in dataclasses.fields(Settings)]
    for key, section in _entries(root, path, "the file", mistakes):
        if key.value not in known:
            mistakes.append(_unknown(path, key, known))
            continue
        names = [_spelled(option.name) for option in dataclasses.fields(getattr(Settings(), key.value))]
        for name, node in _entries(section, path, key.value, mistakes):
            if name.value in names:
                given += _checked(key.value, name.value, node, _place(path, node), mistakes)
            else:
                mistakes.append(_unknown(path, name, names))
    return given


def _entries(
    node: yaml.Node, path: Path, what: str, mistakes: list[str]
) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
    """Keys and values of a mapping; an empty node has none, anything else is a mistake."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield key, value
            else:
                mistakes.append(f"{_place(path, key)}: a key must be text")
    elif not (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
        mistakes.append(f"{_place(path, node)}: {what} must be a mapping of keys to values")


def _checked(section: str, name: str, value: Any, origin: str, mistakes: list[str]) -> Iterator[Given]:
    """The setting; ``value`` may be a node of the file, which is made a plain value first."""
    field = name.replace("-", "_")
    option = next(o for o in dataclasses.fields(getattr(Settings(), section)) if o.name == field)
    try:
        plain = _plain(value) if isinstance(value, yaml.Node) else value
        yield Given(section, field, option.metadata["check"](plain), origin)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        why = getattr(error, "problem", None) or str(error) or type(error).__name__
        mistakes.append(f"{origin}: {section}.{_spelled(field)}: {why}")


def _plain(node: yaml.Node) -> Any:
    return yaml.SafeLoader("").construct_object(node, deep=True)


def _place(path: Path, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


def _spelled(field: str) -> str:
    return field.replace("_", "-")


def _unknown(path: Path, key: yaml.ScalarNode, known: list[str]) -> str:
    near = difflib.get_close_matches(key.value, known, 1)
    hint = f", did you mean {near[0]}?" if near else f", known are {', '.join(known)}"
    return f"{_place(path, key)}: unknown key {key.value}{hint}"
