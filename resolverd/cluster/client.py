"""Raw JSON from the API server: get, pages of a list, a watch; and errors a user can act on.

The official client's models cost twenty times more than ``json`` does; see docs/adr/0003.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Self

import aiohttp

from resolverd.cluster.access import Access, open_session, shown
from resolverd.errors import ClusterError

LIST_TIMEOUT = 10.0
"""Seconds one page of a list may take."""
READ_TIMEOUT = 80.0
"""Seconds of silence after which a watch counts as dead: bookmarks come every 60 s."""
MAX_EVENT = 32 * 1024 * 1024
"""Octets of one watch event; etcd's own limit on an object is 1.5 MB."""

Json = dict[str, Any]


class ApiError(ClusterError):
    """The API server answered, with an error. ``status`` is the HTTP code, ``reason`` the one of its Status body."""

    def __init__(self, what: str, why: str, fix: str = "", status: int = 0, reason: str = "") -> None:
        super().__init__(what, why, fix)
        self.status = status
        self.reason = reason


class UnreachableError(ClusterError):
    """The API server gave no usable answer at all."""


class ApiClient:
    """One session with one API server."""

    def __init__(self, access: Access) -> None:
        self._access = access
        try:
            self._session = open_session(access)
        except (ssl.SSLError, ValueError) as error:
            raise ClusterError(
                f"API server {shown(access.server)}", f"bad certificate or address: {error}", "check the kubeconfig"
            ) from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Json:
        """The JSON object at ``path``. Raises ApiError and UnreachableError."""
        timeout = aiohttp.ClientTimeout(total=LIST_TIMEOUT, sock_connect=5)
        try:
            async with self._open(path, parameters or {}, timeout) as response:
                await self._check(path, response)
                value = json.loads(await response.read())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:
            raise self._unreachable(error) from error
        if not isinstance(value, dict):
            raise self._unreachable(ValueError("an answer that is no JSON object"))
        return value

    async def watch(self, path: str, parameters: Mapping[str, str], opened: Callable[[], None]) -> AsyncIterator[Json]:
        """Events as they come, until the server ends the watch; ``opened`` is called when it has begun.

        Raises ApiError and UnreachableError.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=READ_TIMEOUT)
        try:
            async with self._open(path, {"watch": "1", **parameters}, timeout) as response:
                await self._check(path, response)
                opened()
                async for line in _lines(response.content):
                    event = json.loads(line)
                    if not isinstance(event, dict):
                        raise ValueError("a watch event that is no JSON object")
                    yield event
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError) as error:
            raise self._unreachable(error) from error

    def _open(
        self, path: str, parameters: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> aiohttp.client._RequestContextManager:
        return self._session.get(
            path.lstrip("/"),
            params=parameters,
            timeout=timeout,
            allow_redirects=False,
            server_hostname=self._access.tls_server_name or None,
        )

    async def _check(self, path: str, response: aiohttp.ClientResponse) -> None:
        if response.status == 200:
            return
        try:
            status = json.loads(await response.read())
        except ValueError:
            status = {}
        status = status if isinstance(status, dict) else {}
        why = str(status.get("message") or f"HTTP {response.status} {response.reason}")
        raise ApiError(
            f"API server {shown(self._access.server)}",
            why,
            _FIXES.get(response.status, "try kubectl get namespaces"),
            response.status,
            str(status.get("reason") or ""),
        )

    def _unreachable(self, error: BaseException) -> UnreachableError:
        if isinstance(error, TimeoutError | asyncio.TimeoutError):
            why = "it does not answer in time"
        elif isinstance(error, aiohttp.ClientConnectorCertificateError):
            why = f"its certificate is not accepted: {error.certificate_error}"
        elif isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ssl.SSLError):
            why = f"TLS: {error.os_error.reason or 'the handshake failed'}"
        elif isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, socket.gaierror):
            why = str(error.os_error.strerror)
        elif isinstance(error, aiohttp.ClientConnectorError):
            # asyncio makes up texts of its own; the number has the system's.
            why = os.strerror(error.os_error.errno) if error.os_error.errno else str(error.os_error)
        elif isinstance(error, aiohttp.ClientResponseError):
            why = (
                f"HTTP {error.status} {error.message}"  # its own text holds the URL, and a proxy's may hold a password
            )
        elif isinstance(error, json.JSONDecodeError | RecursionError):
            why = "an answer that is no JSON; is there a login page or a proxy in between?"
        elif isinstance(error, aiohttp.ClientPayloadError):
            why = "the stream broke off"
        else:
            why = str(error) or type(error).__name__
        return UnreachableError(
            f"API server {shown(self._access.server)}",
            why,
            "is the cluster up, and the VPN to it? try kubectl get namespaces",
        )


_FIXES = {
    401: "log in again; kubectl get namespaces shows whether it worked",
    404: "is this a Kubernetes API server? try kubectl version",
    403: "ask for get, list and watch, or name the namespaces you may read with --namespace NS",
}


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length up to MAX_EVENT; aiohttp's own reader stops at 64 KiB."""
    pending = bytearray()
    async for chunk in stream.iter_any():
        pending += chunk
        start = 0
        while (end := pending.find(b"\n", start)) >= 0:
            if end > start:
                yield bytes(pending[start:end])
            start = end + 1
        del pending[:start]
        if len(pending) > MAX_EVENT:
            raise ValueError(f"a watch event of more than {MAX_EVENT} octets")
    if pending:
        raise ValueError("the watch ended in the middle of an event")
