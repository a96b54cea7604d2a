"""``resolverd status`` and ``resolverd query``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from resolverd import __version__, control_client
from resolverd.cli.background import chosen_folder
from resolverd.cli.layout import columns, row, shortened, wrapped
from resolverd.cli.observe import size
from resolverd.cli.progress import DIM, GREEN, PLAIN, RED, coloured
from resolverd.errors import ExitCode, NotRunningError, UsageError, one_line
from resolverd.options import split_endpoint

MOST_DOMAINS = 40
"""Domains shown in the table; ``--output json`` has all."""
MOST_OF_A_PATH = 50
"""Columns of a path; ``--output json`` has the whole."""
MOST_WITHHELD = 10


def show_status(state_dir: str, output: str) -> int:
    """Print what is in force; the exit code of the contract."""
    try:
        document = control_client.request(chosen_folder(state_dir), "GET", "/status")
    except NotRunningError:
        if output != "table":
            _print({"state": "down", "version": __version__}, output)
        raise
    _print(document, output)
    return ExitCode.OK if document["state"] == "healthy" else ExitCode.DEGRADED


def _print(document: dict[str, Any], output: str) -> None:
    if output == "json":
        click.echo(json.dumps(document, indent=2))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False), nl=False)
    else:
        click.echo("\n".join(_table(document, coloured(sys.stdout))))


def show_answer(state_dir: str, server: str, name: str, kind: str) -> int:
    """Print what the daemon's DNS server says; 1 when it denies or cannot answer."""
    from resolverd.dns import client

    if not server:
        document = control_client.request(chosen_folder(state_dir), "GET", "/status")
        server = document["dns"]["listen"][0]
    try:
        host, port = split_endpoint(server, 53)
    except ValueError as error:
        raise UsageError(f"--server {server}", str(error), "ADDR:PORT, such as 127.0.0.1:5300") from error
    answer = client.query(host, port, name, kind)
    for line in answer.short():
        click.echo(line)
    if answer.rcode != "NOERROR":
        hint = f" (not the cluster's to answer: resolverd why {one_line(name)})" if answer.rcode == "REFUSED" else ""
        click.echo(f"{one_line(name)}: {answer.rcode}{hint}", err=True)
        return ExitCode.DEGRADED
    return ExitCode.OK


def _table(document: dict[str, Any], colour: bool) -> Iterator[str]:
    """The status document for people: short, aligned, as wide as the terminal but readable at 80 columns."""
    healthy = document["state"] == "healthy"
    paint = GREEN if healthy else RED
    state = "withdrawn" if document["host"].get("withdrawn") else document["state"]
    shown = f"{paint}{state}{PLAIN}" if colour else state
    yield f"resolverd {document['version']} is {shown}, up for {_age(document['since'])}"
    yield ""
    yield from _host(document["host"])
    yield from _cluster(document["cluster"])
    yield from _dns(document["dns"])
    yield from row("Tunnel", _tunnel(document["tunnel"]))
    yield ""
    yield from _checks(document["checks"], colour)


def _host(host: dict[str, Any]) -> Iterator[str]:
    where = f" on {host['link']}" if host["link"] else ""
    by = f" by {host['bus']}" if host.get("bus") else ""
    yield from row("Host", f"{host['backend']}{where}{by}: {host['reason']}")
    names = [name for name in host["domains"] if not name.endswith(".arpa")]
    reverse = len(host["domains"]) - len(names)
    yield from row("Domains", _listed(names, f"{_count(reverse, 'reverse zone')}" if reverse else ""))
    yield from row("Search", _listed(host["search"]))
    for number, item in enumerate(host["withheld"][:MOST_WITHHELD]):
        names = item["still"]
        still = f"; use {next((name for name in names if name.endswith('.svc')), names[-1])}" if names else ""
        text = f"{item['name']} ({item['reason']}): {item['detail']}{still}"
        yield from row("" if number else "Withheld", text)
    if (more := len(host["withheld"]) - MOST_WITHHELD) > 0:
        yield from row("", f"and {more} more: resolverd status -o json")
    if used := host.get("suffix-list"):
        path = shortened(used["path"], MOST_OF_A_PATH)
        yield from row("Suffixes", f"{path} of {used['dated']}, {_count(used['days'], 'day')} old")
    for text in (*host.get("warnings", ()), *host.get("notes", ())):
        yield from row("Note", text)


def _cluster(cluster: dict[str, Any]) -> Iterator[str]:
    counts = ", ".join(
        _count(cluster[kind], kind.removesuffix("s")) for kind in ("namespaces", "services", "endpoints")
    )
    changed = f"; last change {_age(cluster['last-event'])} ago" if cluster["last-event"] else ""
    yield from row("Cluster", f"{cluster['context']} at {cluster['server']} ({cluster['domain']})")
    yield from row("", f"{counts}{changed}" if cluster["synced"] else "not listed yet")


def _dns(dns: dict[str, Any]) -> Iterator[str]:
    queries, rcodes = dns.get("queries", 0), dns.get("rcodes", {})
    detail = f": {', '.join(f'{count} {rcode}' for rcode, count in rcodes.items())}" if rcodes else ""
    yield from row("DNS", f"{', '.join(dns['listen'])}, {_count(queries, 'query', 'queries')}{detail}")


def _checks(checks: list[dict[str, Any]], colour: bool) -> Iterator[str]:
    """A line for each, wrapped below its own beginning."""
    for check in checks:
        mark = "✓" if check["ok"] else "✗"
        fix = f" ({check['fix']})" if check["fix"] and not check["ok"] else ""
        lines = wrapped(f"{check['id']}: {check['detail']}{fix}", columns() - 2)
        mark = f"{GREEN if check['ok'] else RED}{mark}{PLAIN}" if colour else mark
        for number, line in enumerate(lines):
            shown = f"{DIM}{line}{PLAIN}" if colour and check["ok"] else line
            yield f"{'  ' if number else mark + ' '}{shown}"


def _tunnel(tunnel: dict[str, Any]) -> str:
    if tunnel["state"] == "direct":
        return "direct: the addresses are reachable without one"
    if tunnel["state"] == "off":
        return "off"
    through = f" by {tunnel['transport']}" if "transport" in tunnel else ""
    counts = f"{_count(tunnel['streams'], 'stream')}, {_count(len(tunnel['routes']), 'route')}"
    carried = f", {size(tunnel['bytes'])} carried" if tunnel.get("bytes") else ""
    return f"{tunnel['device']}{through}, {tunnel['state']}: {counts}{carried}"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _listed(names: list[str], also: str = "") -> str:
    more = f"{len(names) - MOST_DOMAINS} more" if len(names) > MOST_DOMAINS else ""
    rest = " and ".join(filter(None, (more, also)))
    return " ".join(names[:MOST_DOMAINS]) + (f", and {rest}" if rest else "") if names else also or "none"


def _age(moment: str) -> str:
    """How long ago an RFC 3339 moment was, in its largest unit or two."""
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
