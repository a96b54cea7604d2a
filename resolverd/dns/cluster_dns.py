"""The cluster's own DNS service, asked over TCP like any other service of the cluster: through our tunnel, or directly
where the cluster's addresses are reachable anyway (``tunnel.transport: direct``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from resolverd.addresses import plain_address
from resolverd.cluster.snapshot import Snapshot
from resolverd.names import Address

from .holds_client import HoldsClient
from .line import Line

PORT = 53
NAMESPACE = "kube-system"
NAME = "kube-dns"


def cluster_dns_address(snapshot: Snapshot) -> Address | None:
    """The cluster IP of the DNS service: ``kube-dns``, or what carries its label; None when there is none."""
    labelled = (key for key in snapshot.dns_services if key[0] == NAMESPACE)
    service = snapshot.services.get((NAMESPACE, NAME)) or snapshot.services.get(min(labelled, default=("", "")))
    addresses = map(plain_address, service.cluster_ips if service else ())
    return next((address for address in addresses if address is not None), None)


class ClusterDns:
    """The service as an upstream. With neither a tunnel nor a direct way it is not asked: its address would mean
    somebody else. Without ``holds`` the way is direct."""

    is_near = True

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        holds: HoldsClient | None,
        port: int = PORT,
        configured: Callable[[], Address | None] = lambda: None,
    ) -> None:
        self._configured = configured
        self._snapshot = snapshot
        self._holds = holds
        self._port = port
        self._line = Line()

    def __str__(self) -> str:
        return "the cluster's DNS service"

    async def ask(self, query: bytes, *, tcp: bool) -> bytes:
        """The reply to ``query``, over TCP in any case: the tunnel carries nothing else. Raises OSError."""
        address = self._configured() or cluster_dns_address(self._snapshot())
        if address is None:
            raise ConnectionRefusedError("the cluster has no DNS service")
        if self._holds is not None:
            routed = asyncio.Event()
            self._holds.ask((address,), routed.set)
            await routed.wait()
        return await self._line.ask(str(address), self._port, query)

    def close(self) -> None:
        """Give the connections up; whoever asks next has new ones."""
        self._line.close()
