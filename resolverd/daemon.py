"""The daemon: the parts, who tells whom what, and the host put back at the end, whatever happened."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable, Container, Coroutine, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from resolverd import __version__, followed, health, probe, status, why
from resolverd.check import Check
from resolverd.claimed import Host
from resolverd.cluster.access import shown
from resolverd.cluster.follow import Follower
from resolverd.cluster.kubeconfig import KubeContext, invoker
from resolverd.cluster.scoping import Covered, in_both
from resolverd.cluster.snapshot import Change, Snapshot, Touched, everything
from resolverd.config import Loaded
from resolverd.decision import Decider, Policy
from resolverd.dns.rules import DnsConfig
from resolverd.dns_policy import host_servers, make_dns_config
from resolverd.errors import first_of
from resolverd.feed import Feed, FoundDomain, Outdated, Reach, Report, Routable, Unauthorized
from resolverd.host import Capabilities, HostDns, Server
from resolverd.lookout import Lookout
from resolverd.names import Network, address_of
from resolverd.notify import ServiceManager
from resolverd.observation import Observation
from resolverd.plan import ClusterFacts, HostPlan, make
from resolverd.reconcile import Reconciler
from resolverd.reload import Reloading
from resolverd.reports import Reports
from resolverd.settings import Settings
from resolverd.sockets import Listening, message_pair
from resolverd.status import ClusterPart, HostPart, Parts
from resolverd.workers import Worker
from resolverd_tunnel.device_linux import Device

log = logging.getLogger(__name__)

DOMAIN = "cluster.local"
"""The cluster domain, unless the settings name another."""

SWITCH = 0.0005
"""Seconds that a thread (which reads a list, or writes the Snapshot) may keep a change waiting, at each step."""

PLAN_PACE = 0.1
"""Longest pause, in seconds, between plans while the cluster changes; with thousands of namespaces one takes half that.
A plan that takes less is followed by a pause of twice its time: a namespace is to be in force within 0.1 s."""

SERVER_INTERVAL = 15.0
"""Seconds between two looks at where the API server is."""


class Daemon:
    """One run of the daemon."""

    def __init__(
        self,
        loaded: Loaded,
        host: Host,
        read_settings: Callable[[], Loaded],
        manager: ServiceManager = ServiceManager(),  # noqa: B008  # it never changes
    ) -> None:
        self._settings = settings = loaded.settings
        self._host = host
        self._manager = manager
        self._since = time.time()
        self.stopping = asyncio.Event()
        self._plan = HostPlan()
        self._planned: tuple[tuple[Network, ...], str, bool] = ((), "", False)
        """Ranges, domain, and whether it is looked for, as the plan last had them."""
        self._plans = 0
        """How many there have been."""
        self._hung_up = asyncio.Event()
        """SIGHUP has come."""
        self._outgrown = asyncio.Event()
        """The cluster has what the plan does not have."""
        self._covered: Covered = None
        """What of the cluster was known when the DNS process was last told of a change."""
        self._found_domain = ""
        """The cluster's domain as its DNS service has it."""
        self._reports = Reports()
        self._follower = Follower(settings.cluster, invoker(), host.scratch, self._on_change, self._on_context)
        self._reloading = Reloading(loaded, read_settings, self._take, self._follower.kubeconfig_changed)
        self._follower.pods.want(settings.dns.pod_records == "verified")
        self._reconciler = Reconciler(host.backend, lambda _: self._replan())
        self._lookout = Lookout(self._reconciler, self._host_servers, self._on_verdict)
        self._holds, self._behind = message_pair(), message_pair()
        self._tunnel = self._tunnel_worker(host.device) if settings.tunnel.carries and host.device else None
        self._dns = self._dns_worker()
        tell_tunnel = self._tunnel.tell if self._tunnel else None
        self.observation = Observation(settings.daemon.log_level, self._dns.tell, tell_tunnel, self._dns_config)

    async def run(self) -> None:
        """Until stopped. Raises ResolverdError when it cannot start or go on; the host is put back either way."""
        gc.set_threshold(50_000, 20, 100)  # the first lists make a million objects, and all of them stay
        sys.setswitchinterval(SWITCH)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up.set)
        try:
            await self._reconciler.look()
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(part) for part in self._parts()]
                await self.stopping.wait()
                log.info("stopping")
                for task in running:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise first_of(errors) from errors
        finally:
            await self._reconciler.revert()
            await self._host.backend.close()
            for end in (*self._holds, *self._behind):
                end.close()

    # What the control socket may ask.

    async def status(self) -> dict[str, Any]:
        silent = await self._reports.ask(tuple(self._workers()))
        context, snapshot = self._follower.context, self._follower.snapshot
        probes = probe.candidates(snapshot, context.namespace, self._domain[0]) if context else ()
        document = status.document(
            Parts(
                version=__version__,
                since=self._since,
                host=HostPart(
                    self._host.backend.name,
                    self._host.reason,
                    self._plan,
                    self._reconciler.applied,
                    self._reconciler.capabilities.bus,
                    self._lookout.evidence,
                    self._host.suffixes.source.to_json(datetime.now(UTC).date()),
                ),
                cluster=ClusterPart(
                    context.name if context else "",
                    shown(context.access.server) if context else "",
                    self._domain[0],
                    snapshot,
                    self._follower.last_event,
                    followed.part(self._follower, self._settings.cluster, self._domain[1]),
                ),
                dns={"listen": [str(each.server) for each in self._listenings()], **self._reports.dns},
                tunnel=self._tunnel_part(),
                checks=tuple(self._checks(silent)),
                probes=probes,
            )
        )
        document["cluster"]["events"] = self.observation.events
        return {**document, "waiting": list(self._reloading.waiting)}

    async def why(self, name: str) -> dict[str, Any]:
        question = why.question_of(name)
        snapshot, context, reconciler = self._follower.snapshot, self._follower.context, self._reconciler
        policy = Policy(
            self._dns_config(),
            self._settings,
            self._plan,
            self._reloading.origins,
            known=frozenset(snapshot.namespaces),
            is_complete=snapshot.synced,
            domain_source=self._domain[1],
            context=context.name if context else "",
            searched=reconciler.applied.dns.search,
        )
        live, capabilities = await reconciler.read(), reconciler.capabilities
        listen = str(self._host.listening.server)
        host = why.HostSide(self._host.backend.name, reconciler.applied.dns, live, capabilities, listen)
        return why.document(question, Decider(policy), host)

    @property
    def cluster_is_away(self) -> bool:
        """Whether what is answered is only what was known once."""
        return self._follower.is_away

    def kubeconfig_changed(self) -> None:
        """The kubeconfig's files are not what they were."""
        self._follower.kubeconfig_changed()

    def stop(self) -> None:
        self.stopping.set()

    async def reload(self) -> None:
        await self._reloading.reload()

    async def _reload_on_signals(self) -> None:
        while True:
            await self._hung_up.wait()
            self._hung_up.clear()
            with self._manager.reloading():
                await self._reloading.reload_quietly()

    def _take(self, settings: Settings) -> None:
        self._settings = settings
        self._follower.pods.want(settings.dns.pod_records == "verified")
        self._lookout.forgive()
        self._replan()

    # The parts.

    def _parts(self) -> Iterator[Coroutine[Any, Any, None]]:
        yield self._follower.run()
        yield self._dns.run()
        yield self._reconciler.run()
        yield self._reloading.run()
        yield self._reload_on_signals()
        yield self._lookout.run()
        yield self._follow_server()
        yield self._keep_planned()
        if self._tunnel:
            yield self._tunnel.run()

    async def _keep_planned(self) -> None:
        """Make the plan anew when the cluster has outgrown it, after those who answer have been told why."""
        while True:
            await self._outgrown.wait()
            self._outgrown.clear()
            began, number, inputs = time.perf_counter(), self._plans, self._plan_inputs()
            if inputs is not None:
                # In a thread: with thousands of namespaces a change that comes meanwhile would wait for it.
                plan = await asyncio.to_thread(make, *inputs)
                if number == self._plans:
                    self._adopt(plan)
                else:
                    self._outgrown.set()
            await asyncio.sleep(min(PLAN_PACE, 2 * (time.perf_counter() - began)))

    async def _follow_server(self) -> None:
        """Keep the addresses that are never routed in step with where the API server is."""
        while True:
            await asyncio.sleep(SERVER_INTERVAL)
            if await self._follower.look_for_server():
                self._replan()

    def _dns_worker(self) -> Worker:
        listening = self._host.listening
        descriptors = {"--udp": listening.udp.fileno(), "--tcp": listening.tcp.fileno()}
        if also := self._host.also:
            descriptors |= {"--more-udp": also.udp.fileno(), "--more-tcp": also.tcp.fileno()}
        if self._tunnel:
            descriptors |= {"--holds": self._holds[0].fileno(), "--behind": self._behind[0].fileno()}
        direct = ("--direct",) if self._settings.tunnel.is_direct else ()
        extra = ("--log-level", self._settings.daemon.log_level, *direct)
        told = (self._greet_dns, self._on_message)
        return Worker("dns", "resolverd.dns.worker", descriptors, *told, extra, (self._host.lock,))

    def _tunnel_worker(self, device: Device) -> Worker:
        descriptors = {"--tun": device.fd, "--holds": self._holds[1].fileno(), "--behind": self._behind[1].fileno()}
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
            (self._host.lock,),
        )

    def _listenings(self) -> tuple[Listening, ...]:
        return (self._host.listening, self._host.also) if self._host.also else (self._host.listening,)

    def _greet_dns(self) -> list[Any]:
        return [self._dns_config(), self._everything(), *self.observation.greeting(dns=True)]

    def _greet_tunnel(self) -> list[Any]:
        context = self._follower.context
        reach = Reach(context.access if context else None)
        return [reach, Routable(self._plan.routes), *self.observation.greeting()]

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
        snapshot, covered = self._follower.snapshot, self._follower.covered
        self.observation.events += len(changes)
        kept = in_both(self._covered, covered)
        if kept != self._covered:  # what is followed no more is forgotten below, and must not be denied for it
            self._dns.tell(replace(self._dns_config(), watched=kept))
        self._dns.tell(Feed(changes, snapshot.synced, snapshot.serial))
        # Namespaces and ranges are the plan's matter; services are not.
        known = (self._follower.facts.ranges, self._domain[0], self._wants_domain)
        is_outgrown = bool(touched.namespaces) or self._planned != known or kept != covered
        self._covered = covered
        if touched.synced:
            self._replan()  # at once: from now on names may be denied, and whose they are is the plan's to say
            gc.freeze()  # what stays has no cycles, and looking through it for some would take long
            log.info("in step: %d namespaces, %d services", len(snapshot.namespaces), len(snapshot.services))
        elif is_outgrown:
            self._outgrown.set()

    def _on_message(self, message: Any) -> None:
        if isinstance(message, Report):
            self._reports.take(message)
        elif isinstance(message, Outdated):
            self._reconciler.flush()
        elif isinstance(message, FoundDomain):
            log.info("the cluster's DNS service says that its domain is %s", message.domain)
            self._found_domain = message.domain
            self._replan()
        elif isinstance(message, Unauthorized):
            self._follower.renew()
        else:
            self.observation.take(message)

    def _on_verdict(self) -> None:
        """Public names break with us in place, or do so no more. Whatever the plan waits for, going does not wait."""
        if self._lookout.evidence:
            self._reconciler.want(HostDns())
        self._replan()

    def _replan(self) -> None:
        """Make the plan anew at once, and tell everybody whose part of it changed."""
        if (inputs := self._plan_inputs()) is not None:
            self._adopt(make(*inputs))

    def _plan_inputs(self) -> tuple[Settings, Snapshot, Capabilities, ClusterFacts, Container[str]] | None:
        """What the plan is made from now; None while there can be none."""
        context, host = self._follower.context, self._host
        if context is None or not self._follower.snapshot.synced:
            return None
        facts = ClusterFacts(
            domain=self._domain[0],
            ranges=self._follower.facts.ranges,
            sources=self._follower.facts.sources,
            namespace=context.namespace,
            server=host.listening.server,
            more_servers=(host.also.server,) if host.also else (),
            link=host.device.name if host.device else "",
            api_servers=self._follower.servers.addresses,
        )
        self._planned = (facts.ranges, facts.domain, self._wants_domain)
        return self._settings, self._follower.snapshot, self._reconciler.capabilities, facts, host.suffixes

    def _adopt(self, plan: HostPlan) -> None:
        """From now on ``plan``, unless we have to keep out of the way."""
        self._plans += 1
        before, self._plan = self._plan, HostPlan() if self._lookout.evidence else plan
        for warning in set(self._plan.warnings) - set(before.warnings):
            log.warning("%s", warning)
        self._reconciler.want(self._plan.dns)
        self._dns.tell(self._dns_config())
        if self._tunnel and self._plan.routes != before.routes:
            self._tunnel.tell(Routable(self._plan.routes))

    def _host_servers(self) -> tuple[Server, ...]:
        return host_servers(self._reconciler.capabilities, self._host.listening.server)

    def _dns_config(self) -> DnsConfig:
        capabilities = self._reconciler.capabilities
        config = make_dns_config(
            self._settings.dns,
            self._plan,
            # For other hosts nobody is asked unless the settings say whom: an open resolver is a weapon (RFC 5358).
            replace(capabilities, nameservers=()) if self._host.is_exposed else capabilities,
            domain=self._domain[0],
            ranges=self._follower.facts.ranges,
            server=self._host.listening.server,
        )
        return replace(
            config,
            watched=self._follower.covered,
            cluster_dns=address_of(self._settings.cluster.dns_service),
            cluster=self._follower.switches,
            wants_domain=self._wants_domain,
        )

    def _everything(self) -> Feed:
        snapshot = self._follower.snapshot
        return Feed(tuple(everything(snapshot)), snapshot.synced, snapshot.serial)

    # What status shows.

    @property
    def _domain(self) -> tuple[str, str]:
        """The cluster's DNS domain, and who says so."""
        named = self._settings.cluster.domain
        if named != "auto":
            return named, "cluster.domain"
        if self._follower.facts.domain:
            return self._follower.facts.domain, "ConfigMap kube-system/coredns"
        if self._found_domain:
            return self._found_domain, "the cluster's DNS service"
        return DOMAIN, "assumed"

    @property
    def _wants_domain(self) -> bool:
        """Whether the cluster's DNS service is to be asked: where nobody else said."""
        return self._domain[1] == "assumed" and self._follower.facts.knows_domain

    def _tunnel_part(self) -> dict[str, Any]:
        device = self._host.device
        never = [{"net": str(net), "reason": reason} for net, reason in self._plan.routes.never]
        part: dict[str, Any] = {"device": device.name if device else ""}
        part |= (
            {"transport": "direct", "state": "direct"}
            if self._settings.tunnel.is_direct
            else {"transport": "", "state": "off"}
        )
        part |= {"routes": [], "streams": 0}
        part["ranges"] = [{"net": str(net), "source": source} for net, source in self._plan.routes.sources]
        return {**part, "never-proxy": never, **self._reports.tunnel}

    def _checks(self, silent: Container[str]) -> Iterator[Check]:
        yield self._reloading.check()
        yield from followed.checks(self._follower, self._settings.tunnel.carries)
        yield from health.of_host(self._reconciler, self._lookout.evidence)
        for worker in self._workers():
            yield health.of_worker(worker, is_silent=worker.name in silent)
        if self._tunnel:
            yield health.of_tunnel(str(self._reports.tunnel.get("state", "starting")))
