"""The control socket: HTTP over a Unix socket in the state directory, for the command line and for scripts.

``curl --unix-socket /run/resolverd/resolverd.sock http://resolverd/status``
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web

from resolverd.errors import ResolverdError

MODE = 0o660


class Controlled(Protocol):
    """What the socket may ask of the daemon."""

    async def status(self) -> dict[str, Any]:
        """The status document of the contract."""

    async def why(self, name: str) -> dict[str, Any]:
        """Whose ``name`` is, see :mod:`resolverd.why`. Raises UsageError for what is no name."""

    def stop(self) -> None:
        """Put the host back and end."""

    def reload(self) -> None:
        """Read the configuration anew. Raises UsageError and keeps the old one when it is bad."""


@asynccontextmanager
async def serve(path: Path, daemon: Controlled) -> AsyncIterator[None]:
    """Answer on the Unix socket ``path`` while entered."""
    application = web.Application()
    application.add_routes(
        [
            web.get("/status", _answer(daemon.status)),
            web.get("/healthz", _health(daemon)),
            web.get("/why", _explain(daemon)),
            web.post("/stop", _do(daemon.stop)),
            web.post("/reload", _do(daemon.reload)),
        ]
    )
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.SockSite(runner, _bind(path)).start()
        yield
    finally:
        await runner.cleanup()


def _bind(path: Path) -> socket.socket:
    """A Unix socket that has its mode before anybody can connect."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(str(path))
    path.chmod(MODE)
    return bound


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


def _do(action: Callable[[], None]) -> Callable[[web.Request], Any]:
    async def handle(_: web.Request) -> web.Response:
        try:
            action()
        except ResolverdError as error:
            return web.json_response({"error": [error.what, error.why, error.fix]}, status=400)
        return web.json_response({})

    return handle
