"""A fake API server with a large cluster, cheap to run: its lists are octets made before the first request.

``python big_api.py KUBECONFIG``: writes a kubeconfig, says ``ready``, then takes commands on standard input, one a
line: ``storm RATE SECONDS`` changes slices; ``touch N`` gives service N another address and says when it did;
``away`` and ``back``. Only what the daemon asks for is answered: lists in pages of any size, watches, reviews.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web

NAMESPACES, SERVICES, ENDPOINTS = 5_000, 10_000, 100_000
EACH = ENDPOINTS // SERVICES
Raw = dict[str, Any]


def address(base: int, number: int) -> str:
    return f"10.{base + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def namespace(number: int) -> Raw:
    labels = {"kubernetes.io/metadata.name": f"team-{number}"}
    metadata: Raw = {"name": f"team-{number}", "uid": f"0000-{number}", "resourceVersion": "100", "labels": labels}
    return {"metadata": metadata, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}


def service(number: int, ip: str = "", version: int = 100) -> Raw:
    ip = ip or address(96, number + 1)
    metadata: Raw = {"name": f"service-{number}", "namespace": f"team-{number % NAMESPACES}", "uid": f"0001-{number}"}
    metadata |= {"resourceVersion": str(version), "creationTimestamp": "2026-01-01T00:00:00Z"}
    ports = [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]
    spec: Raw = {"clusterIP": ip, "clusterIPs": [ip], "type": "ClusterIP", "sessionAffinity": "None", "ports": ports}
    spec |= {"selector": {"app": f"service-{number}"}, "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"}
    return {"metadata": metadata, "spec": spec, "status": {"loadBalancer": {}}}


def slice_of(number: int, version: int = 100, ready: int = EACH) -> Raw:
    space = f"team-{number % NAMESPACES}"
    metadata: Raw = {"name": f"service-{number}-abcde", "namespace": space, "uid": f"0002-{number}"}
    metadata |= {"resourceVersion": str(version), "labels": {"kubernetes.io/service-name": f"service-{number}"}}
    endpoints = [
        {
            "addresses": [address(128, number * EACH + place)],
            "conditions": {"ready": place < ready, "serving": place < ready, "terminating": False},
            "nodeName": f"node-{place}",
            "targetRef": {"kind": "Pod", "name": f"service-{number}-7d4b9c6f5d-{place:05}", "namespace": space},
        }
        for place in range(EACH)
    ]
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    return {"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}


class BigApi:
    """The server."""

    def __init__(self) -> None:
        self.version = 100
        made = {
            "namespaces": [namespace(n) for n in range(NAMESPACES)],
            "services": [service(n) for n in range(SERVICES)],
            "endpointslices": [slice_of(n) for n in range(SERVICES)],
        }
        self.parts = {kind: [json.dumps(raw, separators=(",", ":")) for raw in items] for kind, items in made.items()}
        self.pages: dict[tuple[str, int, int], bytes] = {}
        for kind in self.parts:
            for start in range(0, len(self.parts[kind]), 500):
                self.page(kind, start, 500)
        self.history: list[tuple[int, str, bytes]] = []
        self.watching: dict[str, set[asyncio.Queue[bytes]]] = {kind: set() for kind in self.parts}
        self.requests = 0
        self.sites: list[web.TCPSite] = []

    def page(self, kind: str, start: int, limit: int) -> bytes:
        """Compressed, as a real server has it for clients that take that."""
        if (kind, start, limit) not in self.pages:
            items = self.parts[kind][start : start + limit]
            rest = start + limit
            metadata = {"resourceVersion": str(self.version)}
            if rest < len(self.parts[kind]):
                metadata["continue"] = str(rest)
            text = f'{{"kind":"List","metadata":{json.dumps(metadata)},"items":[{",".join(items)}]}}'
            self.pages[kind, start, limit] = gzip.compress(text.encode(), 1)
        return self.pages[kind, start, limit]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        kind = request.path.rpartition("/")[2]
        if kind not in self.parts:
            return web.json_response({"items": []})
        if request.query.get("watch"):
            return await self.watch(request, kind)
        limit = int(request.query.get("limit") or len(self.parts[kind]))
        body = self.page(kind, int(request.query.get("continue") or 0), limit)
        return web.Response(body=body, headers={"Content-Type": "application/json", "Content-Encoding": "gzip"})

    async def watch(self, request: web.Request, kind: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        after = int(request.query["resourceVersion"])
        for version, its, line in self.history:
            if its == kind and version > after:
                queue.put_nowait(line)
        self.watching[kind].add(queue)
        try:
            while True:
                await response.write(await queue.get())
        finally:
            self.watching[kind].discard(queue)

    def send(self, kind: str, raw: Raw, number: int) -> None:
        text = json.dumps(raw, separators=(",", ":"))
        self.parts[kind][number] = text
        for key in [key for key in self.pages if key[0] == kind]:
            del self.pages[key]
        line = f'{{"type":"MODIFIED","object":{text}}}\n'.encode()
        self.history.append((self.version, kind, line))
        for queue in self.watching[kind]:
            queue.put_nowait(line)

    def touch(self, number: int) -> str:
        self.version += 1
        ip = address(100, self.version)
        self.send("services", service(number, ip, self.version), number)
        return ip

    async def storm(self, rate: float, seconds: float) -> None:
        began, sent = time.monotonic(), 0
        while (now := time.monotonic() - began) < seconds:
            while sent < now * rate:
                self.version += 1
                number = self.version * 7919 % SERVICES
                self.send("endpointslices", slice_of(number, self.version, self.version % EACH), number)
                sent += 1
            await asyncio.sleep(0.002)

    async def run(self, kubeconfig: Path) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        port = await self.listen(runner, 0)
        cluster = {"server": f"http://127.0.0.1:{port}"}
        document: Raw = {"apiVersion": "v1", "kind": "Config", "current-context": "big"}
        document |= {"clusters": [{"name": "big", "cluster": cluster}], "users": [{"name": "big", "user": {}}]}
        document |= {"contexts": [{"name": "big", "context": {"cluster": "big", "user": "big"}}]}
        kubeconfig.write_text(json.dumps(document))
        print("ready", flush=True)
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        while line := (await lines.readline()).decode().split():
            match line:
                case ["storm", rate, seconds]:
                    await self.storm(float(rate), float(seconds))
                    print("done", flush=True)
                case ["touch", number]:
                    ip = self.touch(int(number))
                    print(json.dumps([ip, time.monotonic()]), flush=True)
                case ["away"]:
                    await self.sites.pop().stop()
                    for server in list(runner.server.connections if runner.server else ()):
                        if server.transport:
                            server.transport.abort()
                    print("done", flush=True)
                case ["back"]:
                    await self.listen(runner, port)
                    print("done", flush=True)
                case ["requests"]:
                    print(self.requests, sum(map(len, self.watching.values())), flush=True)
        await runner.cleanup()

    async def listen(self, runner: web.AppRunner, port: int) -> int:
        self.sites.append(web.TCPSite(runner, "127.0.0.1", port, reuse_address=True))
        await self.sites[-1].start()
        found: int = runner.addresses[-1][1]
        return found


if __name__ == "__main__":
    # A full collection of all these objects would take a twentieth of a second, which is not the daemon's.
    api = BigApi()
    gc.freeze()
    gc.disable()
    asyncio.run(api.run(Path(sys.argv[1])))
