"""Following one cluster: credentials, reflectors, and the Snapshot they add up to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from resolverd.cluster.access import shown
from resolverd.cluster.client import ApiClient, ApiError, Load, UnreachableError
from resolverd.cluster.facts import Facts
from resolverd.cluster.keeping import Keeping
from resolverd.cluster.kubeconfig import Invoker, KubeContext
from resolverd.cluster.login import Login
from resolverd.cluster.objects import Namespace
from resolverd.cluster.pods import PodWatch
from resolverd.cluster.rights import Scope
from resolverd.cluster.scoping import Covered, Part, covered_by, hand_over, in_both, reflectors_for
from resolverd.cluster.servers import ApiServers
from resolverd.cluster.snapshot import Change, Key, Kind, Snapshot, Touched, differing, everything, fold
from resolverd.cluster.watch import Reflector
from resolverd.errors import ResolverdError
from resolverd.settings import ClusterSettings

log = logging.getLogger(__name__)

FIRST_ANSWER = 5.0
"""Seconds an API server may stay unreachable at the start before that is the end of it, when nothing is known."""
GATHER = 0.1
"""Seconds in which changes are gathered while the first lists come in."""
PACE = 0.02
"""Seconds from one batch to the next afterwards: a change alone is passed on at once, a storm costs little."""
AWAY = 3.0
"""Seconds without the API server after which ``status`` says that it is away."""


@dataclass(slots=True, eq=False)
class Follower:
    """Follows the cluster for as long as ``run`` runs. What it knows stays when the cluster goes away."""

    settings: ClusterSettings
    who: Invoker | None
    scratch: Path
    """A folder for temporary folders, and for the Snapshot that outlives us."""
    on_change: Callable[[tuple[Change, ...], Touched], None]
    """A batch was folded: ``snapshot`` and ``ranges`` are the new ones."""
    on_context: Callable[[KubeContext], None]
    clock: Callable[[], float] = time.time
    """Unix time, in seconds."""
    snapshot: Snapshot = field(default_factory=Snapshot)
    trouble: dict[str, ResolverdError] = field(default_factory=dict)
    """The last error of each kind that is failing now."""
    last_event: float = 0.0
    """Unix time, in seconds, of the last change; 0: none yet."""
    heard: float = 0.0
    """Unix time, in seconds, when the API server last gave us anything, or the kept Snapshot is of; 0: never."""
    events: int = 0
    load: Load = field(default_factory=Load)
    covered: Covered = None
    """What of ``scope`` has been listed: names in the rest of it are not known to be missing."""
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    """The lists are in, but the pods': what is known is no older than the watches."""
    switches: int = 0
    """How often it became another cluster, or another server of one."""
    context_note: str = ""
    """What happened when the kubeconfig last changed."""
    facts: Facts = field(init=False)
    servers: ApiServers = field(default_factory=ApiServers)
    pods: PodWatch = field(init=False)
    _part: Part = field(init=False)
    _keeping: Keeping = field(init=False)
    _login: Login = field(init=False)
    _client: ApiClient | None = None
    _pending: dict[tuple[Kind, Key], Change] = field(default_factory=dict)
    _wake: asyncio.Event = field(default_factory=asyncio.Event)
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    """The session has to be another one, or the reflectors."""
    _handed: Covered = None
    """``covered`` as it was when ``on_change`` was last called."""
    _is_another: bool = False
    """Whether the next session is with another cluster."""
    _reflectors: list[Reflector] = field(default_factory=list)
    _began: float = 0.0
    _silent_since: float = 0.0
    """On the monotonic clock; 0: the API server is there."""

    def __post_init__(self) -> None:
        self._part = Part(self.settings.namespaces)
        self._keeping = Keeping(self.scratch, self.clock)
        self._login = Login(self.settings, self.who, self.scratch, self.clock)
        self.facts = Facts(self.settings)
        self.pods = PodWatch(self, self._ended)

    @property
    def context(self) -> KubeContext | None:
        return self._login.context

    @property
    def scope(self) -> Scope:
        """Which part of the cluster is followed."""
        return self._part.scope

    @property
    def is_away(self) -> bool:
        """Whether what is known is only what was known once."""
        silent = self._silent_since and time.monotonic() - self._silent_since > AWAY
        return self.snapshot.synced and (bool(silent) or not self.synced.is_set())

    @property
    def malformed(self) -> int:
        """Objects that are there but cannot be read."""
        return sum(len(reflector.malformed) for reflector in self._reflectors)

    async def run(self) -> None:
        """Follow until cancelled. Raises UsageError and ClusterError when the cluster cannot be followed at all."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fold())
            context = await self._login.load()
            await self._restore(context)
            await self._adopt_context(context, None)
            tasks.create_task(self._keep_login())
            tasks.create_task(self._keep())
            self._began = time.monotonic()
            while True:
                await self._follow()

    # Credentials and sessions.

    async def _keep_login(self) -> None:
        """Renew the credentials when it is time; the watches go on meanwhile."""
        while True:
            await self._login.due()
            before = self.context
            log.info("renewing the credentials of context %s", before.name if before else "?")
            try:
                after = await self._login.load()
            except ResolverdError as error:
                self.trouble["credentials"] = error
                log.warning("%s", error)
                continue
            self.trouble.pop("credentials", None)
            await self._adopt_context(after, before)

    async def _adopt_context(self, context: KubeContext, before: KubeContext | None) -> None:
        if is_another := before is not None and _place(before) != _place(context):
            where = f"{context.name} at {shown(context.access.server)}"
            instead = "another cluster than before" if before.name == context.name else f"no longer {before.name}"
            self.context_note = f"the kubeconfig changed: following {where}, {instead}"
            log.warning("%s", self.context_note)
            self._is_another = True
            self.switches += 1
            self._part.ask_again()
        await self.servers.settle(context.access)
        self.on_context(context)
        if is_another or self._client is None or not self._client.renew(context.access):
            self._moved.set()
        for reflector in (*self._reflectors, *self.pods.reflectors):
            reflector.poke()

    def _begin_anew(self) -> None:
        """It is another cluster, whose versions mean something else. What was known stays, as what was known once,
        so that what is gone is found out. Not while a watch of the old one could still tell where to resume."""
        for reflector in (*self._reflectors, *self.pods.reflectors):
            reflector.version, reflector.listed = "", False
        self._is_another = False
        self.synced.clear()
        self.facts.forget()

    async def _follow(self) -> None:
        """Run the reflectors until they need another session."""
        if self.context is None:
            raise RuntimeError("followed without a context")
        own = self.context.namespace
        self._moved.clear()
        if self._is_another:
            self._begin_anew()
        async with ApiClient(self.context.access, self.load) as client:
            self._client = client
            tasks: list[asyncio.Task[None]] = []
            waiting = asyncio.create_task(self._moved.wait())
            try:
                await self._settle_part(client, own)
                tasks = [asyncio.create_task(reflector.run(client)) for reflector in self._reflectors]
                self.pods.cover(self.scope.namespaces or ("",))
                tasks.append(asyncio.create_task(self.pods.run(client)))
                following = tuple(tasks)
                tasks += [
                    asyncio.create_task(self.facts.run(client, self.scope, self._wake.set)),
                    asyncio.create_task(self._look_for_rights(client, own)),
                ]
                done, _ = await asyncio.wait([waiting, *following], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                self._client = None
                for each in (waiting, *tasks):
                    each.cancel()
                await asyncio.gather(waiting, *tasks, return_exceptions=True)

    # Which part of the cluster.

    async def _settle_part(self, client: ApiClient, own: str) -> None:
        try:
            is_new = await self._part.settle(client, own)
            if is_new:
                self._silent_since = 0.0
        except (ApiError, UnreachableError) as error:
            if isinstance(error, ApiError) and not self.snapshot.synced:
                raise next(iter(self.trouble.values()), error) from error  # what was refused first says more
            log.warning("which rights there are: %s", error)
            is_new = self._part.assume()
        if is_new:
            self._set_reflectors()

    async def _look_for_rights(self, client: ApiClient, own: str) -> None:
        if await self._part.outgrown(client, own):
            self._moved.set()

    def _set_reflectors(self) -> None:
        """Reflectors for the scope, which know what there is of it; the rest of it is forgotten."""
        for reflector in self._reflectors:
            self._ended(reflector)
        self._reflectors = reflectors_for(self.scope, self)
        self.covered = in_both(self.covered, covered_by(self.scope))
        # What those before put, and is not yet folded, has to be looked at as well: nobody would ever delete it.
        there = {(change.kind, change.key): change for change in everything(self.snapshot)} | self._pending
        for change in hand_over(self.scope, self._reflectors, there.values()):
            self.put(change)
        self._wake.set()

    # The Snapshot.

    async def _restore(self, context: KubeContext) -> None:
        """Serve what a daemon before us knew, until the API server says how it is."""
        found = await self._keeping.restore(context.access)
        if found is None:
            return
        changes, self.heard, self.covered = found
        self.snapshot, touched = fold(self.snapshot, changes, synced=True, serial=self._serial())
        self.facts.look(changes)
        log.warning("serving what was known %.0f s ago, until the first lists are in", self.clock() - self.heard)
        self.on_change(changes, touched)

    async def _keep(self) -> None:
        await self.synced.wait()
        await self._keeping.run(
            lambda: None if self.is_away or not self.context else (self.context, self.snapshot, self.covered)
        )

    def _serial(self) -> int:
        """The serial of the next Snapshot; a clock that was set back does not set it back."""
        return max(int(self.clock()), self.snapshot.serial)

    async def _fold(self) -> None:
        """Hand on what has gathered, as one batch."""
        while True:
            await self._wake.wait()
            if not self.synced.is_set():
                await asyncio.sleep(GATHER)
            self._wake.clear()
            changes, self._pending = differing(self.snapshot, self._pending.values()), {}
            listed = bool(self._reflectors) or self.scope.is_partial
            listed = listed and all(reflector.listed for reflector in self._reflectors if self._counts(reflector))
            synced = listed or self.snapshot.synced
            self.snapshot, touched = fold(self.snapshot, changes, synced=synced, serial=self._serial())
            if listed:
                self.covered = covered_by(self.scope)
                self.synced.set()
            if self.facts.look(changes) or touched or self.covered != self._handed:
                self._handed = self.covered
                self.on_change(changes, touched)
            await asyncio.sleep(PACE)

    def _counts(self, reflector: Reflector) -> bool:
        """Whether the Snapshot is not whole without ``reflector``."""
        return not (reflector.labels and self.scope.follows_dns)

    async def look_for_server(self) -> bool:
        """Whether the API server has addresses that were not known."""
        return self.context is not None and await self.servers.look(self.context.access)

    # The Sink of the reflectors.

    def put(self, change: Change) -> None:
        self._pending[change.kind, change.key] = change
        if change.kind is Kind.SERVICE and change.object and not self.scope.lists_namespaces:
            self._derive_namespace(change.key[0])
        self.events += 1
        self.last_event = self.clock()
        self._wake.set()

    def _derive_namespace(self, name: str) -> None:
        """A namespace that we may not look at is there when something is in it."""
        if name not in self.snapshot.namespaces and not self.scope.is_partial:
            self._pending[Kind.NAMESPACE, ("", name)] = Change(Kind.NAMESPACE, ("", name), Namespace(name))

    def listed(self, reflector: Reflector) -> None:
        self.alive(reflector)
        self._wake.set()

    def alive(self, reflector: Reflector) -> None:
        self.trouble.pop(_named(reflector), None)
        self._login.accepted()
        self.heard = self.clock()
        self.facts.given.set()
        if self._silent_since:
            self._silent_since = 0.0
            for each in self._reflectors:
                if each is not reflector:
                    each.poke()

    def failed(self, reflector: Reflector, error: ApiError | UnreachableError) -> None:
        name = _named(reflector)
        if str(self.trouble.get(name)) != str(error):
            log.warning("watching %s: %s", name, error)
        self.trouble[name] = error
        if reflector.watched.kind is Kind.POD:
            return
        status = error.status if isinstance(error, ApiError) else 0
        if error.is_passing or reflector.is_doubtful:
            self._silent_since = self._silent_since or time.monotonic()
        if status == 401 or (isinstance(error, UnreachableError) and error.is_certificate):
            self._login.refused()
        if reflector.is_doubtful:
            return
        if status == 403 and self._part.refused():
            self._moved.set()
        elif not self.snapshot.synced and self._counts(reflector):
            waited = time.monotonic() - self._began
            if status in (401, 403, 404) or waited > FIRST_ANSWER:
                raise error

    def _ended(self, reflector: Reflector) -> None:
        """What failed of it is no trouble any more."""
        self.trouble.pop(_named(reflector), None)

    def renew(self) -> None:
        """Read the kubeconfig anew: somebody else was told that the credentials are not accepted."""
        self._login.refused()

    def kubeconfig_changed(self) -> None:
        """The kubeconfig's files are not what they were: follow what they say now, unless the context is pinned."""
        self._login.kubeconfig_changed()


def _place(context: KubeContext) -> tuple[str, str, str]:
    """What makes it another cluster, or another person's: one that was made anew may have the address of the old."""
    return context.name, context.access.server, context.access.ca_pem


def _named(reflector: Reflector) -> str:
    return f"{reflector.watched.kind}{' in ' + reflector.namespace if reflector.namespace else ''}"
