"""The cluster's DNS domain, from its own DNS service: the name that belongs to the service's address.

dnslib is imported only where the question comes up: the DNS process starts without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from resolverd.cluster.snapshot import Snapshot
from resolverd.names import Address, fold, is_domain

from .cluster_dns import ClusterDns, cluster_dns_address

log = logging.getLogger(__name__)

PAUSES = (1.0, 5.0, 30.0, 300.0)
"""Seconds before each attempt; the last one again and again."""
DEADLINE = 5.0
"""Seconds for one attempt."""


async def find_domain(
    cluster: ClusterDns, snapshot: Callable[[], Snapshot], configured: Callable[[], Address | None]
) -> str:
    """Ask until it is known: ``cluster.local`` for the answer ``kube-dns.kube-system.svc.cluster.local``."""
    import dnslib

    attempt = 0
    while True:
        await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
        attempt += 1
        address = configured() or cluster_dns_address(snapshot())
        if address is None:
            continue
        asked = dnslib.DNSRecord.question(address.reverse_pointer, "PTR").pack()
        try:
            async with asyncio.timeout(DEADLINE):
                domain = read_domain(await cluster.ask(asked, tcp=True))
        except (OSError, EOFError, ValueError) as error:
            log.debug("the cluster's domain: %s", error)
            continue
        if domain:
            return domain


def read_domain(reply: bytes) -> str:
    """What follows ``svc`` in the name of a service; empty when the reply says no such thing."""
    import dnslib

    try:
        records = dnslib.DNSRecord.parse(reply).rr
        names = [fold(str(record.rdata)).removesuffix(".") for record in records if record.rtype == dnslib.QTYPE.PTR]
    except Exception as error:  # noqa: BLE001  # dnslib lets errors of any kind through on hostile input
        log.debug("the cluster's domain: %s", error)
        return ""
    for name in names:
        _, found, domain = name.partition(".svc.")
        if found and is_domain(domain):
            return domain
    return ""
