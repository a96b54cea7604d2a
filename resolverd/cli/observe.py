"""``resolverd tail``, ``connections`` and ``loglevel``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from resolverd import control_client
from resolverd.cli.background import chosen_folder
from resolverd.cli.progress import DIM, PLAIN, RED, coloured
from resolverd.errors import ExitCode, one_line

_UNITS = ("B", "kB", "MB", "GB", "TB")
_HEAD = ("CLIENT", "TO", "POD", "UP", "DOWN", "AGE")
_NUMBERS_FROM = 3


def tail(state_dir: str, suffix: str, output: str) -> int:
    """Print queries as they come, until Ctrl-C or the daemon's end."""
    colour = coloured(sys.stdout)
    for line in control_client.lines(chosen_folder(state_dir), "/tail"):
        if dropped := line.get("dropped"):
            click.echo(f"resolverd: tail: {dropped} queries are not shown, there were too many", err=True)
        if not is_under(line["name"], suffix):
            continue
        click.echo(json.dumps(line) if output == "json" else shown(line, colour))
        sys.stdout.flush()
    return ExitCode.OK


def is_under(name: str, suffix: str) -> bool:
    """Whether ``name`` is ``suffix`` or below it; by labels, in any case."""
    bare = suffix.strip(".").lower()
    return not bare or f".{name.rstrip('.').lower()}".endswith("." + bare)


def shown(line: dict[str, Any], colour: bool) -> str:
    """A query in a line: when, who, what, what came of it, by which rule, how long it took."""
    rcode = f"{line['rcode']:<8}"
    paint = RED if line["rcode"] == "SERVFAIL" else DIM if line["rcode"] != "NOERROR" else ""
    rcode = f"{paint}{rcode}{PLAIN}" if colour and paint else rcode
    what = one_line(f"{line['type']:<5} {line['name'] or '(malformed)'}")
    return f"{line['time'][11:-1]} {one_line(line['client']):<15} {rcode} {line['us']:>7} µs {line['rule']:<14} {what}"


def connections(state_dir: str, output: str) -> int:
    """Print the connections through the tunnel."""
    found = control_client.request(chosen_folder(state_dir), "GET", "/connections")["connections"]
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    elif found:
        click.echo("\n".join(table(found)))
    else:
        click.echo("there is no connection through the tunnel")
    return ExitCode.OK


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Aligned, the youngest last."""
    rows: list[tuple[str, ...]] = [_HEAD]
    for each in sorted(found, key=lambda each: -float(each["age"])):
        names = (one_line(each[key]) for key in ("client", "to", "pod"))
        rows.append((*names, size(each["up"]), size(each["down"]), _age(each["age"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    for row in rows:
        yield "  ".join(
            cell.rjust(width) if at >= _NUMBERS_FROM else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )


def size(octets: float) -> str:
    """``1.5 MB``: powers of 1,000."""
    at = 0
    while octets >= 999.5 and at < len(_UNITS) - 1:
        octets, at = octets / 1000, at + 1
    return f"{octets:.0f} {_UNITS[at]}" if at == 0 or octets >= 99.5 else f"{octets:.1f} {_UNITS[at]}"


def _age(seconds: float) -> str:
    whole = int(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole // 60 % 60} min"
    return f"{whole // 60} min {whole % 60} s" if whole >= 60 else f"{seconds:.1f} s"


def set_level(state_dir: str, level: str) -> int:
    """Have all processes log from ``level`` on, until the daemon ends."""
    control_client.request(chosen_folder(state_dir), "PUT", "/loglevel", {"level": level})
    click.echo(f"logging from {level} on, until the daemon is restarted")
    return ExitCode.OK
