"""``resolverd config``: what is wrong with the config file, what is in force, and where each value comes from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import click
import yaml

from resolverd import config
from resolverd.config import Loaded
from resolverd.config.known import SECTIONS, Known, written
from resolverd.config.schema import schema
from resolverd.errors import ExitCode, one_line

WIDEST = 60
"""Columns up to which comments are aligned; a longer value has its own right behind it."""


def check(file: str, flags: dict[str, Any]) -> int:
    """Print a line per mistake; exit code 2 when there are any."""
    loaded, mistakes = config.read(file, flags)
    for mistake in mistakes:
        click.echo(str(mistake))
    for note in loaded.notes:
        click.echo(one_line(f"note: {note}"))
    if mistakes:
        return ExitCode.USAGE
    click.echo(one_line(f"{loaded.path}: no mistakes") if loaded.path else "there is no config file, and no mistake")
    return ExitCode.OK


def show(file: str, flags: dict[str, Any], output: str) -> int:
    """Print the merged values with their origins. Raises UsageError."""
    loaded = config.load(file, flags)
    if output == "json":
        click.echo(json.dumps(_document(loaded), indent=2))
    else:
        click.echo("\n".join(_aligned(list(_lines(loaded)))))
    return ExitCode.OK


def print_schema() -> int:
    """Print the JSON Schema."""
    click.echo(json.dumps(schema(), indent=2))
    return ExitCode.OK


def path(file: str, flags: dict[str, Any]) -> int:
    """Print the files looked at, in order, and what became of each."""
    loaded, _ = config.read(file, flags)
    for place in loaded.looked_at:
        behind = "not read, the one above counts" if os.path.lexists(place) else "not there"
        click.echo(one_line(f"{place}: {'read' if place == loaded.path else behind}"))
    for place in loaded.kubeconfigs:
        click.echo(one_line(f"{place}: kubeconfig, {'looked at for extensions' if place.exists() else 'not there'}"))
    return ExitCode.OK


def _document(loaded: Loaded) -> dict[str, Any]:
    """``config show --output json``."""
    settings = {name: {key: _entry(one, loaded) for key, one in keys.items()} for name, keys in SECTIONS.items()}
    return {"file": str(loaded.path) if loaded.path else None, "settings": settings, "notes": list(loaded.notes)}


def _entry(known: Known, loaded: Loaded) -> dict[str, Any]:
    value = written(known.of(loaded.settings))
    entry = {"value": value, "origin": loaded.origins[known.name]}
    if isinstance(value, list) and value:
        entry["items"] = [loaded.origins[f"{known.name}[{number}]"] for number in range(len(value))]
    return entry


def _lines(loaded: Loaded) -> Iterator[tuple[str, str]]:
    """The settings as YAML, each line with its comment. Items that have lines of their own are shown on such."""
    for section, keys in SECTIONS.items():
        yield f"{section}:", ""
        for key, known in keys.items():
            entry = _entry(known, loaded)
            value, origin = entry["value"], entry["origin"]
            items = entry.get("items", ())
            if set(items) <= {origin}:
                yield f"  {key}: {_flow(value)}", origin
                continue
            yield f"  {key}:", origin
            yield from ((f"  - {_flow(item)}", origin) for item, origin in zip(value, items, strict=True))


def _flow(value: Any) -> str:
    """``value`` as YAML on one line."""
    inside = yaml.safe_dump([value], default_flow_style=True, width=float("inf"), sort_keys=False)
    return inside.strip().removeprefix("[").removesuffix("]")


def _aligned(lines: list[tuple[str, str]]) -> Iterator[str]:
    width = max(len(text) for text, comment in lines if comment and len(text) <= WIDEST)
    for text, comment in lines:
        yield f"{text:<{width}}  # {one_line(comment)}" if comment else text
