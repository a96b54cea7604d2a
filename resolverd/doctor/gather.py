"""Everything that is looked at, each part with a deadline of its own: whatever hangs is named, and not waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any, TypeVar

from resolverd import config
from resolverd.cluster import kubeconfig
from resolverd.errors import one_line
from resolverd.names import Network
from resolverd_platform import dbus_pydbus
from resolverd_platform.dbus import FastBus

from . import look_cluster, look_daemon, look_host, look_kubeconfig, look_resolver
from .facts import ConfigFacts, Facts, Part

DEADLINES: Mapping[Part, float] = {
    Part.CONFIG: 5.0,
    Part.HOST: 8.0,
    Part.RESOLVER: 8.0,
    Part.KUBECONFIG: 5.0,
    Part.CLUSTER: 30.0,
    Part.DAEMON: 15.0,
}
"""Seconds. A credential plugin may take half of the cluster's."""

T = TypeVar("T")


async def gather(file: str, flags: Mapping[str, Any], tell: Callable[[str], None]) -> Facts:
    """The facts; ``tell`` hears what is still looked at, whenever that changes."""
    found: dict[str, Any] = {}
    unknown: dict[Part, str] = {}
    pending: dict[Part, None] = {}

    async def part(name: Part, looking: Awaitable[object]) -> None:
        pending[name] = None
        tell(", ".join(pending))
        try:
            found[name] = await asyncio.wait_for(looking, DEADLINES[name])
        except TimeoutError:
            unknown[name] = f"looking took more than {DEADLINES[name]:g} s"
        except Exception as error:  # noqa: BLE001  # one look that fails must not hide what the others found
            unknown[name] = one_line(f"looking failed: {type(error).__name__}: {error}")
        del pending[name]
        tell(", ".join(pending))

    await part(Part.CONFIG, in_thread(lambda: _config(file, flags)))
    settings = found.get(Part.CONFIG, ConfigFacts()).settings
    facts = Facts(config=found.get(Part.CONFIG, ConfigFacts()))
    who = kubeconfig.invoker()
    bus = dbus_pydbus.system_bus() or FastBus()
    await asyncio.gather(
        part(Part.HOST, look_host.look(settings, facts.domain)),
        part(Part.RESOLVER, look_resolver.look(bus, settings.tunnel.device)),
        part(Part.KUBECONFIG, in_thread(lambda: look_kubeconfig.look(settings.cluster, who, os.environ))),
        part(Part.CLUSTER, look_cluster.look(settings.cluster, who)),
        part(Part.DAEMON, in_thread(lambda: look_daemon.look(settings.daemon.state_dir))),
    )
    return _with_status(replace(facts, unknown=unknown, **found))


def _config(file: str, flags: Mapping[str, Any]) -> ConfigFacts:
    loaded, mistakes = config.read(file, flags)
    return ConfigFacts(loaded.settings, str(loaded.path or ""), tuple(one_line(str(each)) for each in mistakes))


def _with_status(facts: Facts) -> Facts:
    """The daemon knows best which link is ours, and the cluster's networks better than who asks but once."""
    told, device = facts.daemon.status.get("cluster", {}), facts.daemon.status.get("tunnel", {}).get("device", "")
    nets: tuple[Network, ...] = tuple(ip_network(each["net"]) for each in told.get("ranges", ()))
    resolver = replace(
        facts.resolver,
        links=tuple(link for link in facts.resolver.links if link.name != device),
        subnets=tuple(subnet for subnet in facts.resolver.subnets if subnet.link != device),
    )
    return replace(facts, resolver=resolver, cluster=replace(facts.cluster, nets=nets or facts.cluster.nets))


async def in_thread(work: Callable[[], T]) -> T:
    """What ``work`` returns. A thread that hangs is left behind and keeps nothing alive, unlike asyncio's own."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def finish(set_it: Callable[[Any], None], value: object) -> None:
        if not done.done():
            set_it(value)

    def run() -> None:
        try:
            value = work()
        except Exception as error:  # noqa: BLE001  # it is raised where the result is waited for
            tell(done.set_exception, error)
        else:
            tell(done.set_result, value)

    def tell(set_it: Callable[[Any], None], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # nobody waits any more: the loop is closed
            loop.call_soon_threadsafe(finish, set_it, value)

    threading.Thread(target=run, daemon=True).start()
    return await done
