"""Where the API server is: never to be routed into the tunnel that leads through it."""

from __future__ import annotations

import asyncio
import logging
import socket
from ipaddress import ip_address
from urllib.parse import urlsplit

from resolverd.cluster.access import Access
from resolverd.names import Address

log = logging.getLogger(__name__)

MOST = 32
"""Addresses that are remembered."""


class ApiServers:
    """Addresses through which the API server is reached: its own, or the proxy's."""

    def __init__(self) -> None:
        self.addresses: tuple[Address, ...] = ()

    async def settle(self, access: Access) -> None:
        """Another server, or the same with other credentials: what was known of it is forgotten."""
        self.addresses = await addresses_of(access)

    async def look(self, access: Access) -> bool:
        """Ask the host's resolver again; whether there are addresses that were not known.

        Earlier ones stay for a while: a load balancer's name has other addresses each time it is asked for.
        """
        found = await addresses_of(access)
        if set(found) <= set(self.addresses):
            return False
        self.addresses = tuple(dict.fromkeys((*found, *self.addresses)))[:MOST]
        log.info("the API server is at %s now", ", ".join(map(str, found)))
        return True


async def addresses_of(access: Access) -> tuple[Address, ...]:
    """What the host's resolver has for the API server, or for the proxy before it; none when it has nothing."""
    try:
        parts = urlsplit(access.proxy or access.server)
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return ()
    return tuple(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))
