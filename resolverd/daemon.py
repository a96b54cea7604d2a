"""The daemon: the parts, who tells whom what, and the host put back at the end, whatever happened."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Callable, Container, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from resolverd import __version__, probe, status
from resolverd.cluster.access import shown
from resolverd.cluster.follow import Follower
from resolverd.cluster.kubeconfig import KubeContext, invoker
from resolverd.cluster.snapshot import Change, Touched, everything
from resolverd.dns.rules import DnsConfig
from resolverd.dns_policy import make_dns_config
from resolverd.errors import ResolverdError
from resolverd.feed import Ask, Feed, Reach, Report, Routable, Unauthorized
from resolverd.host import ResolverBackend
from resolverd.names import Network
from resolverd.plan import ClusterFacts, HostPlan, make
from resolverd.reconcile import Reconciler
from resolverd.settings import Settings
from resolverd.sockets import Listening
from resolverd.status import Check, ClusterPart, HostPart, Parts
from resolverd.workers import Worker
from resolverd_tunnel.device_linux import Device

log = logging.getLogger(__name__)

DOMAIN = "cluster.local"
"""The cluster domain, unless the settings name another."""

ASK_DEADLINE = 1.0
"""Seconds a worker has to say how it is when ``status`` is asked for; a healthy one takes a millisecond."""

RESTART_ONLY = "changes under cluster, tunnel and daemon, of dns.suffix-list and of host.backend"


@dataclass(frozen=True, slots=True)
class Host:
    """What was chosen and made on this host before anything runs."""

    backend: ResolverBackend
    reason: str
    """Why this back end."""
    device: Device | None
    listening: Listening
    suffixes: Container[str]
    scratch: Path
    """A folder for temporary folders."""
    also: Listening | None = None
    """Where the DNS server listens besides: at an address of the other family."""


class Daemon:
    """One run of the daemon."""

    def __init__(self, settings: Settings, host: Host, read_settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._host = host
        self._read_settings = read_settings
        self._since = time.time()
        self._stopping = asyncio.Event()
        self._plan = HostPlan()
        self._planned_ranges: tuple[Network, ...] = ()
        self._reports: dict[str, dict[str, Any]] = {"dns": {"queries": 0, "rcodes": {}}, "tunnel": {}}
        self._silent: set[str] = set()
        """Workers that did not answer when they were last asked."""
        self._told = {name: asyncio.Event() for name in self._reports}
        self._follower = Follower(settings.cluster, invoker(), host.scratch, self._on_change, self._on_context)
        self._reconciler = Reconciler(host.backend, lambda _: self._replan())
        self._holds = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._tunnel = self._tunnel_worker(host.device) if settings.tunnel.enabled and host.device else None
        self._dns = self._dns_worker()

    async def run(self) -> None:
        """Until stopped. Raises ResolverdError when it cannot start or go on; the host is put back either way."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_quietly)
        try:
            await self._reconciler.look()
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(part) for part in self._parts()]
                await self._stopping.wait()
                log.info("stopping")
                for task in running:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
        finally:
            await self._reconciler.revert()
            await self._host.backend.close()
            for end in self._holds:
                end.close()

    # What the control socket may ask.

    async def status(self) -> dict[str, Any]:
        await self._ask_workers()
        context, snapshot = self._follower.context, self._follower.snapshot
        probes = probe.candidates(snapshot, context.namespace, self._domain) if context else ()
        return status.document(
            Parts(
                version=__version__,
                since=self._since,
                host=HostPart(self._host.backend.name, self._host.reason, self._plan, self._reconciler.applied),
                cluster=ClusterPart(
                    context.name if context else "",
                    shown(context.access.server) if context else "",
                    self._domain,
                    snapshot,
                    self._follower.last_event,
                ),
                dns={"listen": [str(each.server) for each in self._listenings()], **self._reports["dns"]},
                tunnel=self._tunnel_part(),
                checks=tuple(self._checks()),
                probes=probes,
            )
        )

    async def _ask_workers(self) -> None:
        """Have what the workers say of themselves as it is now; of one that does not answer, as it was."""
        asked = [worker for worker in self._workers() if worker.ready.is_set()]
        for worker in asked:
            self._told[worker.name].clear()
            worker.tell(Ask())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASK_DEADLINE):
                for worker in asked:
                    await self._told[worker.name].wait()
        self._silent = {worker.name for worker in asked if not self._told[worker.name].is_set()}

    def stop(self) -> None:
        self._stopping.set()

    def reload(self) -> None:
        fresh = self._read_settings()
        old = self._settings
        dns = replace(fresh.dns, suffix_list=old.dns.suffix_list)
        host = replace(fresh.host, backend=old.host.backend)
        kept = replace(old, dns=dns, host=host)
        if kept != fresh:
            log.warning("reload: %s take effect at the next start", RESTART_ONLY)
        self._settings = kept
        self._replan()
        log.info("reload: settings read")

    def _reload_quietly(self) -> None:
        try:
            self.reload()
        except ResolverdError as error:
            log.error("reload: %s; the old settings stay in force", error)

    # The parts.

    def _parts(self) -> Iterator[Coroutine[Any, Any, None]]:
        yield self._follower.run()
        yield self._dns.run()
        yield self._reconciler.run()
        if self._tunnel:
            yield self._tunnel.run()

    def _dns_worker(self) -> Worker:
        listening = self._host.listening
        descriptors = {"--udp": listening.udp.fileno(), "--tcp": listening.tcp.fileno()}
        if also := self._host.also:
            descriptors |= {"--more-udp": also.udp.fileno(), "--more-tcp": also.tcp.fileno()}
        if self._tunnel:
            descriptors["--holds"] = self._holds[0].fileno()
        level = ("--log-level", self._settings.daemon.log_level)
        return Worker("dns", "resolverd.dns.worker", descriptors, self._greet_dns, self._on_message, level)

    def _tunnel_worker(self, device: Device) -> Worker:
        descriptors = {"--tun": device.fd, "--holds": self._holds[1].fileno()}
        return Worker(
            "tunnel",
            "resolverd_tunnel.worker",
            descriptors,
            self._greet_tunnel,
            self._on_message,
            (
                *("--ifindex", str(device.ifindex)),
                *("--transport", self._settings.tunnel.transport),
                *("--log-level", self._settings.daemon.log_level),
            ),
        )

    def _listenings(self) -> tuple[Listening, ...]:
        return (self._host.listening, self._host.also) if self._host.also else (self._host.listening,)

    def _greet_dns(self) -> list[Any]:
        return [self._dns_config(), self._everything()]

    def _greet_tunnel(self) -> list[Any]:
        context = self._follower.context
        return [Reach(context.access if context else None), Routable(self._plan.routes), self._everything()]

    def _workers(self) -> Iterator[Worker]:
        yield self._dns
        if self._tunnel:
            yield self._tunnel

    # Who tells whom what.

    def _on_context(self, context: KubeContext) -> None:
        server = shown(context.access.server)
        log.info("context %s: API server %s, namespace %s", context.name, server, context.namespace)
        if self._tunnel:
            self._tunnel.tell(Reach(context.access))
        self._replan()

    def _on_change(self, changes: tuple[Change, ...], touched: Touched) -> None:
        snapshot = self._follower.snapshot
        for worker in self._workers():
            worker.tell(Feed(changes, snapshot.synced, snapshot.serial))
        # Namespaces and ranges are the plan's matter; services are not, but what the host cached of them is.
        if touched.namespaces or touched.synced or self._planned_ranges != self._follower.ranges:
            self._replan()
        if touched.services:
            self._reconciler.flush()
        if touched.synced:
            log.info("in step: %d namespaces, %d services", len(snapshot.namespaces), len(snapshot.services))

    def _on_message(self, message: Any) -> None:
        if isinstance(message, Report):
            self._reports[message.worker] = dict(message.values)
            self._told[message.worker].set()
        elif isinstance(message, Unauthorized):
            self._follower.renew()

    def _replan(self) -> None:
        """Make the plan anew, and tell everybody whose part of it changed."""
        context, host = self._follower.context, self._host
        if context is None or not self._follower.snapshot.synced:
            return
        facts = ClusterFacts(
            domain=self._domain,
            ranges=self._follower.ranges,
            namespace=context.namespace,
            server=host.listening.server,
            more_servers=(host.also.server,) if host.also else (),
            link=host.device.name if host.device else "",
            api_servers=self._follower.api_servers,
        )
        self._planned_ranges = facts.ranges
        before, snapshot = self._plan, self._follower.snapshot
        self._plan = make(self._settings, snapshot, self._reconciler.capabilities, facts, host.suffixes)
        for warning in set(self._plan.warnings) - set(before.warnings):
            log.warning("%s", warning)
        self._reconciler.want(self._plan.dns)
        self._dns.tell(self._dns_config())
        if self._tunnel and self._plan.routes != before.routes:
            self._tunnel.tell(Routable(self._plan.routes))

    def _dns_config(self) -> DnsConfig:
        return make_dns_config(
            self._settings.dns,
            self._plan,
            self._reconciler.capabilities,
            domain=self._domain,
            ranges=self._follower.ranges,
            server=self._host.listening.server,
        )

    def _everything(self) -> Feed:
        snapshot = self._follower.snapshot
        return Feed(tuple(everything(snapshot)), snapshot.synced, snapshot.serial)

    # What status shows.

    @property
    def _domain(self) -> str:
        named = self._settings.cluster.domain
        return DOMAIN if named == "auto" else named

    def _tunnel_part(self) -> dict[str, Any]:
        device = self._host.device
        never = [{"net": str(net), "reason": reason} for net, reason in self._plan.routes.never]
        part: dict[str, Any] = {"device": device.name if device else "", "transport": "", "state": "off"}
        part |= {"routes": [], "streams": 0}
        return {**part, "never-proxy": never, **self._reports["tunnel"]}

    def _checks(self) -> Iterator[Check]:
        follower, reconciler = self._follower, self._reconciler
        trouble = next(iter(follower.trouble.values()), None)
        detail = (
            trouble.why if trouble else "followed" if follower.synced.is_set() else "the first lists are on the way"
        )
        yield Check("cluster", follower.synced.is_set() and not trouble, detail, trouble.fix if trouble else "")
        error = reconciler.error
        detail = error.why if error else "in force" if reconciler.in_force.is_set() else "not yet told"
        yield Check("host-resolver", reconciler.in_force.is_set(), detail, error.fix if error else "")
        for worker in self._workers():
            silent = worker.name in self._silent
            state = "does not answer" if silent else "serving" if worker.ready.is_set() else "starting"
            fix = "restart it: resolverd down, resolverd up" if silent else ""
            healthy = worker.ready.is_set() and not silent
            yield Check(f"{worker.name}-process", healthy, f"{state}, {worker.restarts} restarts", fix)


def _first(errors: BaseExceptionGroup) -> BaseException:
    """The first error a user can act on, from however deep a group; the group itself when it has none."""
    found = errors.subgroup(ResolverdError)
    if found is None:
        return errors
    error: BaseException = found
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
