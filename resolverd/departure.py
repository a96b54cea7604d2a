"""Where a host departs from what is intended for a name: another domain, another link, another answer. Pure."""

from __future__ import annotations

from typing import Any

from .decision import Answerer
from .errors import one_line

MOST = 3
"""Addresses that are shown."""


def departure(explained: dict[str, Any], answer: dict[str, Any] | None, lookup: dict[str, Any]) -> str:
    """One line; empty when the host does as intended.

    ``explained`` is :func:`resolverd.why.document`'s; ``answer`` what our server says (``addresses``, ``rcode``), None
    where it is not asked; ``lookup`` what the host's resolver does (``link``, ``addresses``, ``error``, ``synthetic``).
    """
    host = explained["host"]
    said = _domains(host["intended"], host["live"]) or _links(host, lookup)
    if said or answer is None or not host["intended"]["ours"]:
        return said
    return _answers(answer, lookup, is_ours=explained["answered-by"] != Answerer.NORMAL.value)


def _domains(intended: dict[str, Any], live: dict[str, Any]) -> str:
    """What our link was told, and is told no more."""
    if intended["ours"] and not live["ours"]:
        if not intended["domain"]:
            return "the host should ask our server everything, and does not"
        return f"{intended['link']} should have the domain {intended['domain']}, and has not"
    if live["ours"] and not intended["ours"]:
        return f"{live['link']} has the domain {live['domain']}, and should not"
    return ""


def _links(host: dict[str, Any], lookup: dict[str, Any]) -> str:
    """An answer that came by the wrong link; systemd-resolved tells, others do not."""
    if not host["link"] or not lookup["link"]:
        return ""
    is_by_ours = lookup["link"] == host["link"]
    if host["intended"]["ours"] and not is_by_ours:
        return f"the host asked {lookup['link']}, and should have asked {host['link']}"
    if is_by_ours and not host["intended"]["ours"]:
        return f"the host asked {host['link']}, and should not have"
    return ""


def _answers(answer: dict[str, Any], lookup: dict[str, Any], *, is_ours: bool) -> str:
    """Another answer than our server's. Names of others may have other addresses each time."""
    ours, hosts = set(answer["addresses"]), set(lookup["addresses"])
    if lookup["synthetic"] and hosts != ours:
        return f"the host answers {_listed(lookup)} by itself: see /etc/hosts"
    if ours and not hosts:
        return f"our server has {_listed(answer)}, the host none: {one_line(lookup['error'])}"
    if is_ours and hosts and not answer.get("aliases") and not ours & hosts:
        return f"the host says {_listed(lookup)}, our server {_listed(answer) or answer['rcode']}"
    return ""


def _listed(said: dict[str, Any]) -> str:
    more = len(said["addresses"]) - MOST
    return ", ".join(map(one_line, said["addresses"][:MOST])) + (f" and {more} more" if more > 0 else "")
