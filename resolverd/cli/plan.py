"""``resolverd plan``: what the config file as it is now would change on this host. Changes nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import click

from resolverd import config, control_client, host_changes, plan, state
from resolverd.cli.layout import columns, row
from resolverd.cli.offline import DOMAIN
from resolverd.cli.progress import DIM, GREEN, PLAIN, RED, coloured
from resolverd.cli.survey import Surveyed, survey
from resolverd.config import Loaded
from resolverd.errors import NotRunningError, one_line
from resolverd.host import Capabilities, HostDns, Server
from resolverd.host_changes import Step
from resolverd.names import labels
from resolverd.options import split_endpoint
from resolverd.plan import ClusterFacts, HostPlan
from resolverd.settings import Settings

_COLOURS = {Step.ADD: GREEN, Step.REMOVE: RED, Step.KEEP: DIM, Step.UNKNOWN: DIM}


@dataclass(frozen=True, slots=True)
class _HostFacts:
    backend: str
    reason: str
    capabilities: Capabilities


def show(file: str, flags: dict[str, Any], output: str) -> int:
    """Print the plan. Raises UsageError for a bad config file, HostError when no back end suits this host."""
    document = asyncio.run(_document(config.load(file, flags)))
    if output == "json":
        click.echo(json.dumps(document, indent=2))
    else:
        cut = columns() if sys.stdout.isatty() else 0
        click.echo("\n".join(lines(document, colour=coloured(sys.stdout), cut=cut)))
    return 0


async def _document(loaded: Loaded) -> dict[str, Any]:
    settings = loaded.settings
    folder = state.of_daemon(settings.daemon.state_dir)
    running = _running(folder)
    host = await _look_at_host(settings, folder, running)
    cluster = await survey(settings.cluster)
    made, device, server = _plan(settings, host, cluster, running)
    from resolverd_platform.footprint import footprint

    told, items = await footprint(host.backend, made.dns)
    wanted = [*host_changes.wanted(made, told, device, server, _written(loaded)), *items]
    now = [] if running is None else [*host_changes.in_force(running), *(await _footprint_now(running))]
    about = {
        "config": str(loaded.path) if loaded.path else None,
        "backend": host.backend,
        "reason": host.reason,
        "daemon": running is not None,
        "cluster": {
            "context": cluster.context,
            "namespaces": len(cluster.snapshot.namespaces),
            "trouble": cluster.trouble,
        },
    }
    differences = host_changes.compare(wanted, now, knows_cluster=not cluster.trouble)
    return host_changes.document(differences, made, about)


def _written(loaded: Loaded) -> dict[str, str]:
    """Where the domains that are settings were written."""
    dns = loaded.settings.dns
    listed = {"dns.include-suffixes": dns.include_suffixes, "dns.mappings": [each.name for each in dns.mappings]}
    return {
        ".".join(labels(text.removeprefix("."))): loaded.origins[f"{setting}[{number}]"]
        for setting, texts in listed.items()
        for number, text in enumerate(texts)
    }


def _running(folder: Path) -> dict[str, Any] | None:
    """The status of the daemon with that state directory."""
    try:
        return control_client.request(folder, "GET", "/status")
    except NotRunningError:
        return None


async def _look_at_host(settings: Settings, folder: Path, running: dict[str, Any] | None) -> _HostFacts:
    """The back end and its facts, as they would be without the daemon that runs."""
    from resolverd_platform import dbus_pydbus, detect

    bus = dbus_pydbus.system_bus()
    backend, reason = await detect.choose(settings.host.backend, settings.tunnel.device, bus, folder)
    try:
        found = await backend.capabilities()
        own = running["host"]["search"] if running else ()
        search = tuple(name for name in found.host_search if name not in own)
        return _HostFacts(backend.name, reason, replace(found, host_search=search))
    finally:
        await backend.close()


async def _footprint_now(running: dict[str, Any]) -> tuple[host_changes.Item, ...]:
    from resolverd_platform.footprint import footprint

    host = running["host"]
    told = HostDns(host["link"], (), tuple(name[1:] for name in host["domains"]), tuple(host["search"]))
    return (await footprint(host["backend"], told))[1]


def _plan(
    settings: Settings, host: _HostFacts, cluster: Surveyed, running: dict[str, Any] | None
) -> tuple[HostPlan, str, Server]:
    """The plan, the device that is made for it, and where our DNS server listens."""
    from resolverd.start import server_of
    from resolverd_platform import suffix_list
    from resolverd_platform.override import LOOPBACK
    from resolverd_tunnel.device_linux import ADDRESSES

    needs_device = settings.tunnel.carries or host.backend == "systemd-resolved"
    device = settings.tunnel.device if needs_device else ""
    own = ADDRESSES if device else LOOPBACK if host.backend == "override" else ()
    told = running["cluster"]["domain"] if running else DOMAIN
    named = settings.cluster.domain
    ranges = cluster.ranges or tuple(ip_network(text) for text in settings.cluster.ranges or ())
    server = server_of(settings, own)
    if running and not server.port:  # any that is free
        host_name, port = split_endpoint(running["dns"]["listen"][0])
        server = Server(ip_address(host_name), port)
    facts = ClusterFacts(
        domain=cluster.domain or told if named == "auto" else named,
        ranges=ranges,
        sources=cluster.sources,
        namespace=cluster.namespace,
        server=server,
        link=device,
        api_servers=cluster.api_servers,
    )
    suffixes = suffix_list.load(settings.dns.suffix_list)
    return plan.make(settings, cluster.snapshot, host.capabilities, facts, suffixes), device, server


def lines(document: dict[str, Any], *, colour: bool = False, cut: int = 0) -> Iterator[str]:
    """The plan for people; with ``cut``, no change takes more columns than that."""
    yield from row("Host", f"{document['backend']}: {document['reason']}")
    yield from row("Cluster", _about_cluster(document["cluster"]))
    yield from row("Config", document["config"] or "no file, the defaults")
    since = "what the running daemon has in force" if document["daemon"] else "nothing: no daemon runs"
    yield from row("Beside", since)
    yield ""
    for each in document["changes"]:
        line = _cut(f"{each['step']} {each['what']:<8} {each['name']:<31} {each['because']}", cut)
        yield f"{_COLOURS[Step(each['step'])]}{line}{PLAIN}" if colour else line
    for item in document["withheld"]:
        yield from row("  withheld", f"{item['name']} ({item['reason']}): {item['detail']}")
    for warning in document["warnings"]:
        yield from row("  note", warning)
    count = Counter(each["step"] for each in document["changes"])
    yield ""
    unknown = f", {count['?']} not known" if count["?"] else ""
    yield f"{count['+']} to add, {count['-']} to remove, {count['=']} as they are{unknown}; nothing was changed"


def _about_cluster(cluster: dict[str, Any]) -> str:
    if cluster["trouble"]:
        return f"not seen, so its namespaces are not known: {cluster['trouble']}"
    return f"{cluster['context']}, {cluster['namespaces']} namespace{'' if cluster['namespaces'] == 1 else 's'}"


def _cut(text: str, most: int) -> str:
    line = f"{text[:2]}{one_line(text[2:])}"
    return f"{line[: most - 1]}…" if 0 < most < len(line) else line
