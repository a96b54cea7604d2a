"""Following one cluster: credentials, reflectors, and the Snapshot they add up to."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from resolverd.cluster import kubeconfig
from resolverd.cluster.access import Access
from resolverd.cluster.client import ApiClient, ApiError, UnreachableError
from resolverd.cluster.kubeconfig import Invoker, KubeContext
from resolverd.cluster.objects import Namespace
from resolverd.cluster.ranges import Seen, discover
from resolverd.cluster.snapshot import Change, Key, Kind, Snapshot, Touched, fold
from resolverd.cluster.watch import WATCHED, Reflector
from resolverd.errors import ResolverdError
from resolverd.names import Address, Network
from resolverd.settings import ClusterSettings

log = logging.getLogger(__name__)

FIRST_ANSWER = 5.0
"""Seconds an API server may stay unreachable at the start before that is the end of it."""
REFRESH_EARLY = 60.0
"""Seconds before their end at which credentials are renewed."""
REFRESH_PAUSE = 15.0
"""Shortest time between two renewals, in seconds: a refused credential must not become a hot loop."""
MOST_SERVERS = 32
"""Addresses of the API server that are remembered."""
GATHER = 0.1
"""Seconds in which changes are gathered while the first lists come in; afterwards they are passed on at once."""


@dataclass(slots=True, eq=False)
class Follower:
    """Follows the cluster for as long as ``run`` runs. What it knows stays when the cluster goes away."""

    settings: ClusterSettings
    who: Invoker | None
    scratch: Path
    """A folder for temporary folders."""
    on_change: Callable[[tuple[Change, ...], Touched], None]
    """A batch was folded: ``snapshot`` and ``ranges`` are the new ones."""
    on_context: Callable[[KubeContext], None]
    snapshot: Snapshot = field(default_factory=Snapshot)
    context: KubeContext | None = None
    ranges: tuple[Network, ...] = ()
    """The cluster's own, as far as they are known."""
    api_servers: tuple[Address, ...] = ()
    """Addresses through which the API server is reached: its own, or the proxy's."""
    trouble: dict[str, ResolverdError] = field(default_factory=dict)
    """The last error of each kind that is failing now."""
    last_event: float = 0.0
    """Unix time, in seconds, of the last change; 0: none yet."""
    events: int = 0
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    _pending: dict[tuple[Kind, Key], Change] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _renew: asyncio.Event = field(default_factory=asyncio.Event)
    _reflectors: list[Reflector] = field(default_factory=list)
    _began: float = 0.0
    _told_ranges: tuple[Network, ...] = ()
    """What the cluster itself says they are."""
    _seen: Seen = field(default_factory=Seen)

    async def run(self) -> None:
        """Follow until cancelled. Raises UsageError and ClusterError when the cluster cannot be followed at all."""
        self._reflectors = self._make_reflectors()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fold())
            await self._load()
            self._began = time.monotonic()
            while True:
                renewed = time.monotonic()
                await self._follow()
                log.info("renewing the credentials of context %s", self.context.name if self.context else "?")
                if self.synced.is_set():
                    await asyncio.sleep(max(0.0, REFRESH_PAUSE - (time.monotonic() - renewed)))
                await self._load()

    def _make_reflectors(self) -> list[Reflector]:
        if not self.settings.namespaces:
            return [Reflector(watched, self) for watched in WATCHED]
        for name in self.settings.namespaces:
            self.put(Change(Kind.NAMESPACE, ("", name), Namespace(name)))
        namespaced = [watched for watched in WATCHED if watched.kind is not Kind.NAMESPACE]
        return [Reflector(watched, self, name) for watched in namespaced for name in self.settings.namespaces]

    async def _load(self) -> None:
        """Read the kubeconfig; once there was a context it is kept to, and a failure leaves it in force."""
        before = self.context
        pinned = self.settings.context or (before.name if before else "")
        try:
            self.context = await kubeconfig.load(self.settings.kubeconfig, pinned, self.scratch, self.who)
        except ResolverdError as error:
            if before is None:
                raise
            self.trouble["credentials"] = error
            log.warning("%s", error)
            return
        self.trouble.pop("credentials", None)
        if before and before.access.server != self.context.access.server:
            # Another server's versions mean nothing here; what was known stays, so that what is gone is found out.
            for reflector in self._reflectors:
                reflector.version = ""
        self.api_servers = await _addresses(self.context.access)
        self.on_context(self.context)

    async def _follow(self) -> None:
        """Run the reflectors until the credentials have to be renewed."""
        if self.context is None:
            raise RuntimeError("followed without a context")
        self._renew.clear()
        async with ApiClient(self.context.access) as client:
            tasks = [asyncio.create_task(reflector.run(client)) for reflector in self._reflectors]
            tasks.append(asyncio.create_task(self._find_ranges(client)))
            waiting = asyncio.create_task(self._until_renewal())
            try:
                done, _ = await asyncio.wait([waiting, *tasks[:-1]], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                for task in (waiting, *tasks):
                    task.cancel()
                await asyncio.gather(waiting, *tasks, return_exceptions=True)

    async def _until_renewal(self) -> None:
        expires = self.context.expires if self.context else None
        try:
            await asyncio.wait_for(
                self._renew.wait(), max(1.0, expires - REFRESH_EARLY - time.time()) if expires else None
            )
        except TimeoutError:
            return

    async def _find_ranges(self, client: ApiClient) -> None:
        try:
            found = await discover(client)
        except UnreachableError as error:
            log.debug("ranges: %s", error)
            return
        if found != self._told_ranges:
            self._told_ranges = found
            self._wake.set()

    async def _fold(self) -> None:
        """Hand on what has gathered, as one batch."""
        while True:
            await self._wake.wait()
            if not self.synced.is_set():
                await asyncio.sleep(GATHER)
            self._wake.clear()
            changes, self._pending = tuple(self._pending.values()), {}
            synced = all(reflector.listed for reflector in self._reflectors)
            now = int(time.time())
            self.snapshot, touched = fold(self.snapshot, changes, synced=synced, serial=now)
            self._seen.look(changes)
            before, self.ranges = self.ranges, self._told_ranges + self._seen.outside(self._told_ranges)
            if touched.synced or touched.services or touched.namespaces or before != self.ranges:
                self.on_change(changes, touched)
            if synced:
                self.synced.set()

    async def look_for_server(self) -> bool:
        """Ask the host's resolver again where the API server is; whether it has addresses that were not known.

        Earlier ones stay for a while: a load balancer's name has other addresses each time it is asked for.
        """
        if self.context is None:
            return False
        found = await _addresses(self.context.access)
        if set(found) <= set(self.api_servers):
            return False
        self.api_servers = tuple(dict.fromkeys((*found, *self.api_servers)))[:MOST_SERVERS]
        log.info("the API server is at %s now", ", ".join(map(str, found)))
        return True

    @property
    def observed(self) -> tuple[Network, ...]:
        """Those of ``ranges`` that the cluster did not tell us."""
        return tuple(network for network in self.ranges if network not in self._told_ranges)

    # The Sink of the reflectors.

    def put(self, change: Change) -> None:
        self._pending[change.kind, change.key] = change
        self.events += 1
        self.last_event = time.time()
        self._wake.set()

    def listed(self, reflector: Reflector) -> None:
        self.trouble.pop(_named(reflector), None)
        self._wake.set()

    def alive(self, reflector: Reflector) -> None:
        self.trouble.pop(_named(reflector), None)

    def failed(self, reflector: Reflector, error: ApiError | UnreachableError) -> None:
        name = _named(reflector)
        if str(self.trouble.get(name)) != str(error):
            log.warning("watching %s: %s", name, error)
        self.trouble[name] = error
        unauthorized = isinstance(error, ApiError) and error.status == 401
        if unauthorized:
            self._renew.set()
        if not self.synced.is_set():
            waited = time.monotonic() - self._began
            hopeless = isinstance(error, ApiError) and error.status in (401, 403, 404)
            if hopeless or waited > FIRST_ANSWER:
                raise error

    def renew(self) -> None:
        """Read the kubeconfig anew: somebody else was told that the credentials are not accepted."""
        self._renew.set()


def _named(reflector: Reflector) -> str:
    return f"{reflector.watched.kind}{' in ' + reflector.namespace if reflector.namespace else ''}"


async def _addresses(access: Access) -> tuple[Address, ...]:
    """What the host's resolver has for the API server, or for the proxy before it; none when it has nothing."""
    try:
        parts = urlsplit(access.proxy or access.server)
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except (OSError, ValueError):
        return ()
    return tuple(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))
