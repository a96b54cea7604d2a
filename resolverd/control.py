"""The control socket: HTTP over a Unix socket in the state directory, for the command line and for scripts.

``curl --unix-socket /run/resolverd/resolverd.sock http://resolverd/status``

| | |
|---|---|
| ``GET /status`` | the status document |
| ``GET /healthz`` | 200, or 503 with the checks that fail |
| ``GET /metrics`` | Prometheus text |
| ``GET /connections`` | connections through the tunnel |
| ``GET /tail`` | queries as they come, a JSON object on each line, until the client has enough |
| ``PUT /loglevel`` | ``{"level": "debug"}``, in all processes |
| ``POST /reload``, ``POST /stop`` | |
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from resolverd.control_peers import may_ask
from resolverd.errors import ResolverdError, UsageError
from resolverd.names import address_of, labels
from resolverd.observation import Observation

MODE = 0o660
_HOST = re.compile(r"(?:\[([^]]+)\]|([^:]+))(?::[0-9]*)?")
HEARTBEAT = 1.0
"""Seconds between two lines of a tail, empty ones if need be: so a client that is gone is noticed."""


class Controlled(Protocol):
    """What the socket may ask of the daemon."""

    observation: Observation

    async def status(self) -> dict[str, Any]:
        """The status document of the contract."""

    async def why(self, name: str) -> dict[str, Any]:
        """Whose ``name`` is, see :mod:`resolverd.why`. Raises UsageError for what is no name."""

    def stop(self) -> None:
        """Put the host back and end."""

    async def reload(self) -> None:
        """Read the configuration anew. Raises UsageError and keeps the old one when it is bad."""


@asynccontextmanager
async def serve(path: Path, daemon: Controlled) -> AsyncIterator[None]:
    """Answer on the Unix socket ``path`` while entered."""
    bound, group = _bind(path)
    application = web.Application(middlewares=[_only_for(group)])
    application.add_routes(
        [
            *_reading(daemon),
            web.get("/status", _answer(daemon.status)),
            web.get("/why", _explain(daemon)),
            web.get("/connections", _connections(daemon)),
            web.get("/tail", _tail(daemon)),
            web.put("/loglevel", _set_level(daemon)),
            web.post("/stop", _stop(daemon)),
            web.post("/reload", _reload(daemon)),
        ]
    )
    async with _serving(application, lambda runner: web.SockSite(runner, bound)):
        yield


@asynccontextmanager
async def serve_metrics(listening: socket.socket, daemon: Controlled) -> AsyncIterator[None]:
    """Answer /metrics and /healthz to anybody on this host who reaches ``listening``, while entered."""
    application = web.Application(middlewares=[_only_by_our_name])
    application.add_routes(_reading(daemon))
    async with _serving(application, lambda runner: web.SockSite(runner, listening)):
        yield


def _reading(daemon: Controlled) -> list[web.RouteDef]:
    """What changes nothing, and holds nothing that is secret on this host."""
    return [web.get("/healthz", _health(daemon)), web.get("/metrics", _metrics(daemon))]


@asynccontextmanager
async def _serving(application: web.Application, site: Callable[[web.AppRunner], web.BaseSite]) -> AsyncIterator[None]:
    # A tail goes on until its client has enough: at the end of the daemon it is not waited for.
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await site(runner).start()
        yield
    finally:
        await runner.cleanup()


def _only_for(group: int) -> Any:
    """Refuse who is neither root, nor our user, nor in ``group``."""

    @web.middleware
    async def check(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
        peer = request.transport.get_extra_info("socket") if request.transport else None
        if peer is None or not may_ask(peer, group):
            refusal = ["control socket", "this user may not ask", "run the command as the daemon's user"]
            return web.json_response({"error": refusal}, status=403)
        return await handler(request)

    return check


@web.middleware
async def _only_by_our_name(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Refuse requests by a name that is not this host's (421, RFC 9110 15.5.20).

    A page in a browser could read the answers if its own name led to loopback (DNS rebinding).
    """
    named = request.headers.get("Host")
    if named and not _is_this_host(named):
        refusal = "resolverd: metrics: only for requests to localhost, or to an address on loopback\n"
        return web.Response(status=421, text=refusal)
    return await handler(request)


def _is_this_host(named: str) -> bool:
    """Whether ``named``, the field Host (RFC 9110 7.2), is this host's for sure, whatever the port."""
    found = _HOST.fullmatch(named)
    host = (found[1] or found[2]) if found else ""
    address = address_of(host)
    return address.is_loopback if address else labels(host) == ("localhost",)


def _bind(path: Path) -> tuple[socket.socket, int]:
    """A Unix socket that has its mode before anybody can connect, and its group."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(str(path))
    path.chmod(MODE)
    return bound, path.stat().st_gid


def _answer(make: Callable[[], Awaitable[dict[str, Any]]]) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response(await make())

    return handle


def _health(daemon: Controlled) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        failed = [check for check in (await daemon.status())["checks"] if not check["ok"]]
        return web.json_response({"ok": not failed, "failed": failed}, status=503 if failed else 200)

    return handle


def _explain(daemon: Controlled) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await daemon.why(request.query.get("name", "")))
        except ResolverdError as error:
            return web.json_response({"error": [error.what, error.why, error.fix]}, status=400)

    return handle


def _metrics(daemon: Controlled) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        from resolverd import metrics  # its library is loaded by those only who want it

        text = metrics.text(await daemon.status())
        return web.Response(body=text, headers={"Content-Type": metrics.CONTENT_TYPE})

    return handle


def _connections(daemon: Controlled) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        try:
            return web.json_response({"connections": await daemon.observation.connections()})
        except TimeoutError:
            refusal = ["connections", "the tunnel process does not answer", "resolverd status"]
            return web.json_response({"error": refusal}, status=503)

    return handle


def _tail(daemon: Controlled) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        async with daemon.observation.listening() as listener:
            await response.prepare(request)
            with suppress(ConnectionError):
                while True:
                    try:
                        line = json.dumps(await asyncio.wait_for(listener.next(), HEARTBEAT))
                    except TimeoutError:
                        line = ""
                    await response.write(line.encode() + b"\n")
        return response

    return handle


def _set_level(daemon: Controlled) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.Response:
        try:
            body = await request.json()
            daemon.observation.set_level(str(body.get("level", "")) if isinstance(body, dict) else "")
        except ValueError:
            return web.json_response({"error": ["log level", "the body is no JSON", ""]}, status=400)
        except UsageError as error:
            return web.json_response({"error": [error.what, error.why, error.fix]}, status=400)
        return web.json_response({"level": daemon.observation.level})

    return handle


def _stop(daemon: Controlled) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        daemon.stop()
        return web.json_response({})

    return handle


def _reload(daemon: Controlled) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        try:
            await daemon.reload()
        except ResolverdError as error:
            return web.json_response({"error": [error.what, error.why, error.fix]}, status=400)
        return web.json_response({})

    return handle
