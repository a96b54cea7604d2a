"""The cluster's DNS domain, from its own DNS service: the name that belongs to the service's address."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from resolverd.cluster.snapshot import Snapshot
from resolverd.names import Address, is_domain

from .cluster_dns import ClusterDns, cluster_dns_address
from .foreign import answers, read
from .message import query_for
from .records import Type, parse_name, text_labels

log = logging.getLogger(__name__)

PAUSES = (1.0, 5.0, 30.0, 300.0)
"""Seconds before each attempt; the last one again and again."""
DEADLINE = 5.0
"""Seconds for one attempt."""


async def find_domain(
    cluster: ClusterDns, snapshot: Callable[[], Snapshot], configured: Callable[[], Address | None]
) -> str:
    """Ask until it is known: ``cluster.local`` for the answer ``kube-dns.kube-system.svc.cluster.local``."""
    attempt = 0
    while True:
        await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
        attempt += 1
        address = configured() or cluster_dns_address(snapshot())
        if address is None:
            continue
        query = ask_for(address)
        try:
            async with asyncio.timeout(DEADLINE):
                domain = read_domain(await cluster.ask(query, tcp=True), query)
        except (OSError, EOFError, ValueError) as error:
            log.debug("the cluster's domain: %s", error)
            continue
        if domain:
            return domain


def ask_for(address: Address) -> bytes:
    """The question whose name ``address`` is (RFC 1035 3.5)."""
    return query_for(parse_name(address.reverse_pointer) or (), Type.PTR)


def read_domain(reply: bytes, query: bytes) -> str:
    """What follows ``svc`` in the name of a service; empty when the reply says no such thing.

    ValueError when it is none to ``query``, but for the id, which is chosen anew on the way, or cannot be read.
    """
    if not answers(query[:2] + reply[2:], query):
        raise ValueError("this is no answer to the question")
    for labels in map(text_labels, read(reply, query).pointers()):
        if "svc" in labels[1:]:
            domain = labels[labels.index("svc", 1) + 1 :]
            if is_domain(".".join(domain)) and not any("." in label for label in domain):
                return ".".join(domain)
    return ""
