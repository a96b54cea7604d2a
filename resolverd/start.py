"""From settings to a running daemon: everything is claimed in an order that leaves nothing behind on a failure."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from resolverd import control, notify
from resolverd.claimed import Host
from resolverd.cluster import kubeconfig
from resolverd.config import Loaded
from resolverd.daemon import Daemon
from resolverd.errors import HostError, ResolverdError, UsageError
from resolverd.host import Server
from resolverd.options import split_endpoint
from resolverd.settings import Settings
from resolverd.sockets import Listening, listen, listen_for_metrics
from resolverd.state import StateDirectory, folder

log = logging.getLogger(__name__)

DNS_PORT = 53


async def run(read_settings: Callable[[], Loaded]) -> None:
    """Claim the state directory, the back end, the device and the sockets; run the daemon; give them back.

    Raises ResolverdError; then nothing of ours is left.
    """
    from resolverd_platform import claim, dbus_pydbus, detect, suffix_list
    from resolverd_platform.override import LOOPBACK, OverrideBackend

    _end_on_signals()
    manager = notify.ServiceManager.from_environment(os.environ)
    loaded = read_settings()
    settings = loaded.settings
    if not kubeconfig.in_cluster(settings.cluster.kubeconfig):
        kubeconfig.files(settings.cluster.kubeconfig, kubeconfig.invoker())
    with StateDirectory(folder(settings.daemon.state_dir)) as state, contextlib.ExitStack() as claimed:
        _undo_leftovers(state.path)
        backend, reason = await detect.choose(
            settings.host.backend, settings.tunnel.device, dbus_pydbus.system_bus(), state.path
        )
        log.info("resolver back end %s: %s", backend.name, reason)
        if backend.name != "none":
            claimed.enter_context(claim.claimed())
        device = None
        if settings.tunnel.carries:
            from resolverd_tunnel import transport

            transport.named(settings.tunnel.transport)  # whether there is one: its process could only say so in the log
        if settings.tunnel.carries or backend.name == "systemd-resolved":
            from resolverd_tunnel.systems import create_device

            device = create_device(settings.tunnel.device)
            claimed.callback(device.close)
        overriding = backend.name == OverrideBackend.name
        own = device.addresses if device else LOOPBACK if overriding else ()
        server = server_of(settings, own)
        listening = listen(server)
        claimed.callback(listening.close)
        log.info("DNS on %s", listening.server)
        also = _listen_besides(server, own) if overriding else None
        if also is not None:
            claimed.callback(also.close)
        suffixes = suffix_list.load(settings.dns.suffix_list)
        host = Host(backend, reason, device, listening, suffixes, state.path, state.lock, also)
        daemon = Daemon(loaded, host, read_settings, manager)
        async with contextlib.AsyncExitStack() as served:
            if settings.daemon.metrics:
                listening_tcp = listen_for_metrics(_endpoint(settings.daemon.metrics))
                await served.enter_async_context(control.serve_metrics(listening_tcp, daemon))
                log.info("metrics on %s", settings.daemon.metrics)
            await served.enter_async_context(control.serve(state.socket, daemon))
            await served.enter_async_context(notify.told(manager, daemon.status, daemon.stopping))
            try:
                await daemon.run()
            finally:
                # Whoever starts us again will not find the cluster either. `resolverd down` removes it.
                state.keeps_snapshot = daemon.cluster_is_away


def _end_on_signals() -> None:
    """Give everything back also when the end comes before the daemon runs, which then has its own idea of these."""
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, log.info, "SIGHUP: there is nothing to reload yet")
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def server_of(settings: Settings, own: tuple[str, ...]) -> Server:
    """Where the DNS server listens: where it is told to, else on the device's first address."""
    if settings.daemon.dns_listen:
        return _endpoint(settings.daemon.dns_listen)
    if not own:
        raise UsageError(
            "no address to listen on", "there is neither a tunnel nor --dns-listen", "add --dns-listen 127.0.0.1:5300"
        )
    return Server(ip_address(own[0]), DNS_PORT)


def _endpoint(setting: str) -> Server:
    host, port = split_endpoint(setting)
    return Server(ip_address(host), port)


def _undo_leftovers(state: Path) -> None:
    """What cannot be undone is no reason not to start: the back end may have nothing to do with it."""
    from resolverd_platform import detect

    try:
        for done in detect.undo_leftovers(state):
            log.warning("a daemon was killed here: %s", done)
    except ResolverdError as error:
        log.warning("%s", error)


def _listen_besides(server: Server, own: tuple[str, ...]) -> Listening | None:
    """Where name servers of the other IP version are overridden from; None when this host does not speak it."""
    other = next((address for address in map(ip_address, own) if address.version != server.address.version), None)
    if other is None:
        return None
    try:
        listening = listen(Server(other, 0))
    except HostError as error:
        log.info("%s", error)
        return None
    log.info("DNS on %s, too", listening.server)
    return listening
