"""The embedded demo cluster: a small Kubernetes API over loopback, with pods that are real servers.

It runs inside another asyncio program (:class:`DemoCluster`) or as a process of its own
(``python -m resolverd.demo.cluster``). Answers agree with what kube-apiserver 1.36 answers; what is left out:
managed fields, server-side apply, dry run, protobuf, OpenAPI, and every kind not in :mod:`resolverd.demo.resources`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import ssl
import sys
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from aiohttp import web

from resolverd.errors import HostError, ResolverdError, UsageError
from resolverd.names import Network

from .addresses import AddressPool
from .bootstrap import POD_NETWORKS, SAMPLES, SERVICE_NETWORKS, SYSTEM, load
from .controllers import Controllers
from .faults import Faults
from .manifests import read_directory
from .patch import merge_patch
from .pod_servers import PodServers
from .registry import Registry
from .resources import PODS, STORED, Resource
from .rights import Rights, User
from .server import ApiServer
from .service_addresses import ServiceAddresses
from .store import Store
from .watches import Habits

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Tls:
    """What a server needs to speak TLS, and its clients to believe it."""

    context: ssl.SSLContext
    ca_pem: str


@dataclass(frozen=True, slots=True)
class Traits:
    """What kind of cluster it is."""

    samples: bool = True
    """Whether it has the sample namespaces shop, payments, rs and dev."""
    dual_stack: bool = True
    """Whether there are IPv6 ranges too."""
    tokens: Mapping[str, User] | None = None
    """Bearer tokens, and whose they are; None: everyone may do everything."""
    history: int = 4096
    """Events that are kept for watches."""
    streaming_lists: bool = False
    """Whether ``sendInitialEvents`` is served; a server with an old etcd refuses it."""
    bookmark_interval: float = 60.0
    """Seconds between the bookmarks of a watch."""
    linger: float = 1.0
    """Seconds that a namespace deleted by request stays in phase Terminating."""
    tls: Tls | None = None
    """None: the API is served without TLS."""


class DemoCluster:
    """A cluster to try things on. Use it as an asynchronous context manager; the methods want its event loop.

    What is created, patched or deleted through the methods has taken effect, EndpointSlices and all, on return.
    """

    def __init__(
        self,
        objects_dir: Path | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        traits: Traits = Traits(),
    ) -> None:
        """``objects_dir``: YAML files whose objects are added, or replace built-in ones of the same name.

        ``host`` must be a loopback address; ``port`` 0 takes any free one.
        """
        self._directories = [SYSTEM, *([SAMPLES] if traits.samples else [])]
        self._directories += [objects_dir] if objects_dir is not None else []
        families = 2 if traits.dual_stack else 1
        self._service_networks = SERVICE_NETWORKS[:families]
        self._host, self._port, self._tls = host, port, traits.tls
        self.faults = Faults()
        self._store = Store(traits.history)
        self._servers = PodServers()
        services = ServiceAddresses(_pools(self._service_networks))
        self._registry = Registry(self._store, services)
        pods = _pools(POD_NETWORKS[:families])
        self._controllers = Controllers(self._registry, self._servers, pods, traits.linger)
        habits = Habits(traits.streaming_lists, traits.bookmark_interval)
        self._api = api = ApiServer(self._registry, self._servers, Rights(traits.tokens), self.faults, habits)
        self._runner = web.AppRunner(
            api.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.5
        )
        self._site: web.TCPSite | None = None

    async def __aenter__(self) -> Self:
        manifests = [manifest for directory in self._directories for manifest in read_directory(directory)]
        try:
            with self._controllers.held():
                load(self._registry, manifests, self._service_networks)
            await self._runner.setup()
            await self.listen()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def server(self) -> str:
        """The URL of the API."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Method and path, with its query, of the latest requests."""
        return list(self._api.asked)

    @property
    def version(self) -> int:
        """The newest resourceVersion."""
        return self._store.version

    def kubeconfig(self, namespace: str = "shop", token: str = "") -> str:
        """A kubeconfig for this cluster, as YAML."""
        name = "resolverd-demo"
        user = {"token": token} if token else {}
        ca_pem = self._tls.ca_pem if self._tls else ""
        authority = {"certificate-authority-data": b64encode(ca_pem.encode()).decode()} if ca_pem else {}
        context = {"cluster": name, "user": name, "namespace": namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": name,
            "clusters": [{"name": name, "cluster": {"server": self.server, **authority}}],
            "contexts": [{"name": name, "context": context}],
            "users": [{"name": name, "user": user}],
        }
        return yaml.safe_dump(document, sort_keys=False)

    def get(self, kind: str, name: str, namespace: str = "") -> Raw:
        """The object of that kind (``Service``) or plural (``services``) and name. StatusError 404."""
        return self._registry.get(_resource(kind), namespace, name)

    def objects(self, kind: str, namespace: str = "") -> list[Raw]:
        """All of that kind, in the namespace or in all of them."""
        return self._store.objects(_resource(kind), namespace)

    def create(self, raw: Raw) -> Raw:
        """Create the object in the namespace that it names. StatusError as the API has them."""
        (made,) = self.create_all([raw])
        return made

    def create_all(self, objects: Iterable[Raw]) -> list[Raw]:
        """Create many, and let the controllers work once at the end. StatusError, UsageError at the first mistake."""
        with self._controllers.held():
            return [self._registry.create(_resource(raw.get("kind")), "", raw) for raw in objects]

    def patch(self, kind: str, name: str, patch: Raw, namespace: str = "") -> Raw:
        """Change the object by a JSON merge patch. StatusError."""
        resource = _resource(kind)
        with self._controllers.held():
            patched = merge_patch(self._registry.get(resource, namespace, name), patch)
            return self._registry.replace(resource, namespace, name, patched)

    def delete(self, kind: str, name: str, namespace: str = "") -> Raw:
        """Delete the object; a namespace with all that is in it. StatusError."""
        with self._controllers.held():
            return self._registry.delete(_resource(kind), namespace, name)

    async def pod_address(self, namespace: str, name: str, port: int) -> tuple[str, int]:
        """Where on loopback a pod's port is really served. StatusError 404, ConnectionRefusedError."""
        return await self._servers.address(self._registry.get(PODS, namespace, name), port)

    def expire_history(self) -> None:
        """Break all watches and forget the past: whoever resumes from a version it knew gets a 410."""
        self._store.forget()
        self.faults.drop_streams()

    async def listen(self) -> None:
        """Accept connections: at first, and again after :meth:`refuse`. HostError when the port is taken."""
        context = self._tls.context if self._tls else None
        self._site = web.TCPSite(self._runner, self._host, self._port, ssl_context=context, reuse_address=True)
        try:
            await self._site.start()
        except OSError as error:
            self._site = None
            why = os.strerror(error.errno) if error.errno else str(error)
            raise HostError(f"listen on {self._host}:{self._port}", why, "take another port") from error
        self._port = self._runner.addresses[0][1]

    async def refuse(self) -> None:
        """Break all streams and refuse connections from now on, as a server that is gone."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self.faults.drop_streams()
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()  # those that are idle would be used again

    async def close(self) -> None:
        """Stop everything; idempotent."""
        self._controllers.close()
        self.faults.thaw()
        self.faults.drop_streams()
        await self._runner.cleanup()
        await self._servers.close()


def _pools(networks: tuple[Network, ...]) -> list[AddressPool]:
    return [AddressPool(network) for network in networks]


def _resource(kind: object) -> Resource:
    """By kind or plural. UsageError."""
    for resource in STORED:
        if kind in (resource.kind, resource.plural):
            return resource
    raise UsageError("demo cluster", f"no such kind: {kind}", "see resolverd.demo.resources")


async def serve(cluster: DemoCluster, kubeconfig: Path | None) -> None:
    """Run until SIGTERM or SIGINT; says where on standard output."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with cluster:
        if kubeconfig is not None:
            await asyncio.to_thread(kubeconfig.write_text, cluster.kubeconfig())
        print(cluster.server, flush=True)
        await stopped.wait()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m resolverd.demo.cluster", description="Run the demo cluster.")
    parser.add_argument("--objects", type=Path, metavar="DIR", help="add the objects of these YAML files")
    parser.add_argument("--port", type=int, default=0, help="on 127.0.0.1; 0 takes a free one (default)")
    parser.add_argument("--kubeconfig", type=Path, metavar="FILE", help="write a kubeconfig there")
    given = parser.parse_args()
    try:
        asyncio.run(serve(DemoCluster(given.objects, port=given.port), given.kubeconfig))
    except ResolverdError as error:
        print(f"resolverd: {error}", file=sys.stderr)
        return int(error.code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
