"""``resolverd why`` for people: aligned short lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from resolverd.cli.layout import INDENT, columns, row, wrapped
from resolverd.cli.progress import DIM, GREEN, PLAIN, RED

_NORMAL = "normal-resolver"
_VERDICTS = {
    "resolverd": "the cluster's, resolverd answers it",
    "cluster-dns": "the cluster's, resolverd asks its DNS service",
    _NORMAL: "not the cluster's, your usual resolver answers it",
}
_RULES = {
    "mapping": "mapping of {text}",
    "wpad": "{text}",
    "excludes": "excluded name {text}",
    "exclude-suffix": "excluded suffix {text}",
    "include-suffix": "included suffix {text}",
    "cluster-domain": "cluster domain {text}",
    "svc": "suffix svc",
    "namespace": "namespace {text}",
    "search": "search in {text}",
    "reverse-zone": "range {text}",
    "withheld": "namespace {text}, withheld",
    "route-namespaces": "namespace {text}, not routed",
    "none": "none",
}
"""Rule in words, by its kind."""


def lines(document: dict[str, Any], *, colour: bool = False) -> Iterator[str]:
    """The whole report; without the host's part where there is none."""
    is_open = document["rule"]["kind"] == "none" and not document["complete"]
    verdict = "nobody's by the config file, and may be the cluster's" if is_open else _VERDICTS[document["answered-by"]]
    yield from wrapped(f"{document['name']} is {verdict}", columns())
    yield from decided(document)
    if document.get("host"):
        yield from _host(document, colour)
    for number, change in enumerate(document["changes"]):
        yield from row("" if number else "To change", change)
    if note := document.get("note"):
        yield from row("Note", note)


def decided(document: dict[str, Any]) -> Iterator[str]:
    """Which rule decided, and why."""
    rule = document["rule"]
    yield from row("Rule", _named(rule))
    if rule["kind"] != "none":
        yield from row("From", rule["origin"])
    yield from row("Why", document["reason"] + (f" ({document['withheld']})" if document["withheld"] else ""))
    for number, other in enumerate(document["overruled"]):
        named = _named(other)
        origin = "" if other["origin"] == named else f" ({other['origin']})"
        yield from row("" if number else "Overruled", f"{named}{origin}: {other['because']}")
    if still := document["still"]:
        yield from row("Still", f"{' '.join(still)} {'are' if len(still) > 1 else 'is'} the cluster's")
    if len(document["searched"]) > 1:
        yield from row("Tried", ", then ".join(document["searched"]))


def _named(rule: dict[str, str]) -> str:
    return _RULES[rule["kind"]].format(text=rule["text"])


def _host(document: dict[str, Any], colour: bool) -> Iterator[str]:
    intended, answer, lookup = document["host"]["intended"], document.get("answer"), document.get("lookup")
    to = f"{intended['link'] or 'our server'}, server {', '.join(intended['servers'])}" if intended["ours"] else ""
    on = "; that server asks your usual resolver" if to and document["answered-by"] == _NORMAL else ""
    yield from row("Host asks", f"{to}: {intended['because']}{on}" if to else f"not us: {intended['because']}")
    if answer is not None:
        said = ", ".join((*answer["aliases"], *answer["addresses"])) or answer["rcode"]
        yield from row("Answer", f"{said}, says our server" if answer["rcode"] != "none" else answer["error"])
    if lookup is not None:
        yield from row("Really", _found(lookup))
    if problem := document.get("difference"):
        yield from _painted("Differs", problem, RED if colour else "")
    elif lookup is not None:
        yield from _painted("", "as intended", (GREEN if lookup["addresses"] else DIM) if colour else "")


def _found(lookup: dict[str, Any]) -> str:
    by = f"{lookup['by']}, from {lookup['link']}" if lookup["link"] else lookup["by"]
    if lookup["synthetic"]:
        by += ", by itself"
    if lookup["cached"]:
        by += ", cached"
    return f"{', '.join(lookup['addresses'])}, says {by}" if lookup["addresses"] else f"{lookup['error']}, says {by}"


def _painted(title: str, text: str, colour: str) -> Iterator[str]:
    for line in row(title, text):
        yield f"{line[:INDENT]}{colour}{line[INDENT:]}{PLAIN}" if colour else line
