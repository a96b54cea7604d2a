"""``resolverd why NAME``: whose it is and by which rule, what the host should do with it, and what it does."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import click

from resolverd import config, control_client, state, why
from resolverd.cli import why_table
from resolverd.cli.offline import decider_of
from resolverd.cli.progress import coloured
from resolverd.config import Loaded
from resolverd.departure import departure
from resolverd.errors import ExitCode, NotRunningError, ResolverdError
from resolverd.host import Capabilities, HostDns
from resolverd.names import address_of
from resolverd.options import split_endpoint

NO_DAEMON = "no daemon runs: by the config file alone, the cluster's namespaces are not known"
_NORMAL = "normal-resolver"


def explain(name: str, file: str, flags: dict[str, Any], output: str) -> int:
    """Print the report; exit code 1 when the host does something else than it should."""
    question = why.question_of(name)
    loaded, mistakes = config.read(file, flags)
    folder = state.of_daemon(loaded.settings.daemon.state_dir)
    try:
        document = control_client.request(folder, "GET", f"/why?name={quote('.'.join(question), safe='')}")
        document["daemon"] = True
    except NotRunningError:
        if mistakes:
            raise config.mistakes.error(mistakes) from None
        document = _by_the_file(question, loaded)
    if document["daemon"]:
        document["answer"] = _answer(document)
        document["lookup"] = asyncio.run(_lookup(document))
        document["difference"] = departure(document, document["answer"], document["lookup"])
    if output == "json":
        click.echo(json.dumps(document, indent=2))
    else:
        click.echo("\n".join(why_table.lines(document, colour=coloured(sys.stdout))))
    return ExitCode.DEGRADED if document.get("difference") else ExitCode.OK


def _by_the_file(question: tuple[str, ...], loaded: Loaded) -> dict[str, Any]:
    host = why.HostSide("", HostDns(), None, Capabilities())
    return {**why.document(question, decider_of(loaded), host), "host": None, "daemon": False, "note": NO_DAEMON}


def _answer(document: dict[str, Any]) -> dict[str, Any] | None:
    """What the daemon's server says; None where nobody would ask it: other people's names are not shown around."""
    from resolverd.dns import client

    host, name = document["host"], document["asked"]
    if document["answered-by"] == _NORMAL and not host["intended"]["ours"]:
        return None
    kinds = ("PTR",) if name.endswith(".arpa") else ("A", "AAAA")
    addresses: list[str] = []
    aliases: list[str] = []
    rcode = "none"
    try:
        address, port = split_endpoint(host["listen"], 53)
        for kind in kinds:
            answer = client.query(address, port, name, kind)
            for text in answer.short():
                (addresses if kind == "PTR" or address_of(text) else aliases).append(text.removesuffix("."))
            rcode = answer.rcode
    except ResolverdError as error:
        return {"rcode": "none", "addresses": [], "aliases": [], "error": str(error)}
    if rcode == "NOERROR" and not addresses and not aliases:
        rcode = "NODATA"
    return {"rcode": rcode, "addresses": addresses, "aliases": list(dict.fromkeys(aliases)), "error": ""}


async def _lookup(document: dict[str, Any]) -> dict[str, Any]:
    from resolverd_platform.asked_back import ask_back
    from resolverd_platform.dbus import FastBus

    bus = FastBus(deadline=6.0)
    try:
        return asdict(await ask_back(document["name"], document["host"]["backend"], bus))
    finally:
        await bus.close()
