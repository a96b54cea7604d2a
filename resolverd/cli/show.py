"""``resolverd status`` and ``resolverd query``."""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from resolverd import control_client
from resolverd.cli.background import chosen_folder
from resolverd.cli.progress import DIM, GREEN, PLAIN, RED, coloured
from resolverd.errors import ExitCode, UsageError, one_line
from resolverd.options import split_endpoint

INDENT = 11
MOST_DOMAINS = 40
"""Domains shown in the table; ``--output json`` has all."""


def show_status(state_dir: str, output: str) -> int:
    """Print what is in force; the exit code of the contract."""
    document = control_client.request(chosen_folder(state_dir), "GET", "/status")
    if output == "json":
        click.echo(json.dumps(document, indent=2))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False), nl=False)
    else:
        click.echo("\n".join(_table(document, coloured(sys.stdout))))
    return ExitCode.OK if document["state"] == "healthy" else ExitCode.DEGRADED


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
        click.echo(f"{one_line(name)}: {answer.rcode}", err=True)
        return ExitCode.DEGRADED
    return ExitCode.OK


def _table(document: dict[str, Any], colour: bool) -> Iterator[str]:
    """The status document for people: short, aligned, as wide as the terminal but readable at 80 columns."""
    host, cluster, dns, tunnel = (document[part] for part in ("host", "cluster", "dns", "tunnel"))
    healthy = document["state"] == "healthy"
    paint = GREEN if healthy else RED
    shown = f"{paint}{document['state']}{PLAIN}" if colour else document["state"]
    yield f"resolverd {document['version']} is {shown}, up for {_age(document['since'])}"
    yield ""
    where = f" on {host['link']}" if host["link"] else ""
    by = f" by {host['bus']}" if host.get("bus") else ""
    yield from _row("Host", f"{host['backend']}{where}{by}: {host['reason']}")
    yield from _row("Domains", _listed(host["domains"]))
    yield from _row("Search", _listed(host["search"]))
    for item in host["withheld"]:
        still = f"; still works: {', '.join(item['still'])}" if item["still"] else ""
        yield from _row("Withheld", f"{item['name']} ({item['reason']}): {item['detail']}{still}")
    if used := host.get("suffix-list"):
        yield from _row("Suffixes", f"{used['path']} of {used['dated']}, {used['days']} days old")
    for text in (*host.get("warnings", ()), *host.get("notes", ())):
        yield from _row("Note", text)
    counts = ", ".join(f"{cluster[kind]} {kind}" for kind in ("namespaces", "services", "endpoints"))
    changed = f"; last change {_age(cluster['last-event'])} ago" if cluster["last-event"] else ""
    yield from _row("Cluster", f"{cluster['context']} at {cluster['server']} ({cluster['domain']})")
    yield from _row("", f"{counts}{changed}" if cluster["synced"] else "not listed yet")
    rcodes = ", ".join(f"{count} {rcode}" for rcode, count in dns.get("rcodes", {}).items())
    yield from _row(
        "DNS", f"{', '.join(dns['listen'])}: {dns.get('queries', 0)} queries{f' ({rcodes})' if rcodes else ''}"
    )
    yield from _row("Tunnel", _tunnel(tunnel))
    yield ""
    for check in document["checks"]:
        mark = "✓" if check["ok"] else "✗"
        mark = f"{GREEN if check['ok'] else RED}{mark}{PLAIN}" if colour else mark
        fix = f" ({check['fix']})" if check["fix"] and not check["ok"] else ""
        detail = f"{DIM}{check['detail']}{PLAIN}" if colour and check["ok"] else check["detail"]
        yield f"{mark} {check['id']}: {detail}{fix}"


def _tunnel(tunnel: dict[str, Any]) -> str:
    if tunnel["state"] == "direct":
        return "direct: the addresses are reachable without one"
    if tunnel["state"] == "off":
        return "off"
    streams, routes = tunnel["streams"], tunnel["routes"]
    through = f" by {tunnel['transport']}" if "transport" in tunnel else ""
    return f"{tunnel['device']}{through}, {tunnel['state']}: {streams} streams, {len(routes)} routes"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_DOMAINS} more" if len(names) > MOST_DOMAINS else ""
    return " ".join(names[:MOST_DOMAINS]) + more if names else "none"


def _row(title: str, text: str) -> Iterator[str]:
    width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 140))
    lines = textwrap.wrap(one_line(text), width - INDENT, break_long_words=False, break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        yield f"{title if number == 0 else '':<{INDENT}}{line}"


def _age(moment: str) -> str:
    """How long ago an RFC 3339 moment was, in its largest unit or two."""
    seconds = max(0, int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"
