"""Raw JSON from the API server: get, pages of a list, a watch; and errors a user can act on.

The official client's models cost twenty times more than ``json`` does; see docs/adr/0003.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Self

import aiohttp

from resolverd.cluster.access import Access, open_session, shown
from resolverd.errors import ClusterError

LIST_TIMEOUT = 30.0
"""Seconds one page of a list may take, on however slow a line."""
SILENCE = 10.0
"""Seconds between two parts of an answer, or before the first."""
CONNECT_TIMEOUT = 3.0
"""Seconds a connection may take: time for two more SYNs, and then it is tried anew."""
LONGEST_RETRY_AFTER = 60.0
"""Seconds: what a server asks for beyond that is not waited for."""
READ_TIMEOUT = 80.0
"""Seconds of silence after which a watch counts as dead: bookmarks come every 60 s."""
MAX_EVENT = 32 * 1024 * 1024
"""Octets of one watch event; etcd's own limit on an object is 1.5 MB."""

Json = dict[str, Any]


class ApiError(ClusterError):
    """The API server answered, with an error. ``status`` is the HTTP code, ``reason`` the one of its Status body."""

    def __init__(
        self, what: str, why: str, fix: str = "", status: int = 0, reason: str = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(what, why, fix)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        """Seconds to leave it alone, when it said so; else 0."""

    @property
    def is_passing(self) -> bool:
        """Whether it says nothing about what was asked: the server is too busy, or broken."""
        return self.status == 429 or self.status >= 500

    @property
    def is_refusal(self) -> bool:
        """Whether it is about our rights, which may be given later."""
        return self.status in (401, 403)


class UnreachableError(ClusterError):
    """The API server gave no usable answer at all."""

    is_passing = True
    is_certificate = False
    """Whether TLS failed: another kubeconfig may hold other authorities."""
    is_silence = False
    """Whether it was there, and then said nothing for too long."""


@dataclass(slots=True)
class Load:
    """What we ask of an API server, whichever the sessions are."""

    requests: int = 0
    """So far, watches included."""
    watches: int = 0
    """Open now."""
    watches_begun: int = 0
    """So far."""


class ApiClient:
    """One session with one API server: one set of connections for all that is asked of it."""

    def __init__(self, access: Access, load: Load | None = None) -> None:
        self._access = access
        self._load = load or Load()
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

    def renew(self, access: Access) -> bool:
        """Go on with ``access``; False when that takes a new session, since more than the token differs.

        Watches that are open stay open: a server checks a token when a request comes in.
        """
        if replace(access, token=self._access.token) != self._access:
            return False
        self._access = access
        return True

    async def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Json:
        """The JSON object at ``path``. Raises ApiError and UnreachableError."""
        return self._object(await self.fetch(path, parameters))

    async def post(self, path: str, body: Json) -> Json:
        """What the server answers to ``body``. Raises ApiError and UnreachableError."""
        return self._object(await self.fetch(path, {}, body))

    async def fetch(self, path: str, parameters: Mapping[str, str] | None = None, body: Json | None = None) -> bytes:
        """The octets at ``path``, for whoever reads large answers elsewhere. Raises ApiError and UnreachableError."""
        timeout = aiohttp.ClientTimeout(total=LIST_TIMEOUT, sock_connect=CONNECT_TIMEOUT, sock_read=SILENCE)
        try:
            async with self._open(path, parameters or {}, timeout, body) as response:
                await self._check(path, response)
                return await response.read()
        except _FAILURES as error:
            raise self._unreachable(error) from error

    async def watch(self, path: str, parameters: Mapping[str, str], opened: Callable[[], None]) -> AsyncIterator[Json]:
        """Events as they come, until the server ends the watch; ``opened`` is called when it has begun.

        Raises ApiError and UnreachableError.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)
        is_open = False
        try:
            async with self._open(path, {"watch": "1", **parameters}, timeout) as response:
                await self._check(path, response)
                opened()
                is_open = True
                self._load.watches += 1
                self._load.watches_begun += 1
                async for line in _lines(response.content):
                    event = json.loads(line)
                    if not isinstance(event, dict):
                        raise ValueError("a watch event that is no JSON object")
                    yield event
        except _FAILURES as error:
            failure = self._unreachable(error)
            failure.is_silence = is_open and isinstance(error, TimeoutError)
            raise failure from error
        finally:
            self._load.watches -= is_open

    def unusable(self, error: Exception) -> UnreachableError:
        """What to raise when an answer that was fetched cannot be read."""
        return self._unreachable(error)

    def _object(self, data: bytes) -> Json:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._unreachable(error) from error
        if not isinstance(value, dict):
            raise self._unreachable(ValueError("an answer that is no JSON object"))
        return value

    def _open(
        self, path: str, parameters: Mapping[str, str], timeout: aiohttp.ClientTimeout, body: Json | None = None
    ) -> aiohttp.client._RequestContextManager:
        self._load.requests += 1
        return self._session.request(
            "GET" if body is None else "POST",
            path.lstrip("/"),
            params=parameters,
            json=body,
            headers={"Authorization": self._access.token} if self._access.token else None,
            timeout=timeout,
            allow_redirects=False,
            server_hostname=self._access.tls_server_name or None,
        )

    async def _check(self, path: str, response: aiohttp.ClientResponse) -> None:
        if response.status in (200, 201):
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
            _retry_after(response.headers.get("Retry-After", "")) if response.status in (429, 503) else 0.0,
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
        failure = UnreachableError(
            f"API server {shown(self._access.server)}",
            why,
            "is the cluster up, and the VPN to it? try kubectl get namespaces",
        )
        failure.is_certificate = isinstance(error, aiohttp.ClientSSLError | ssl.SSLError)
        return failure


_FAILURES = (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError)


_FIXES = {
    401: "log in again; kubectl get namespaces shows whether it worked",
    404: "is this a Kubernetes API server? try kubectl version",
    403: "ask for get, list and watch, or name the namespaces you may read with --namespace NS",
}


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length up to MAX_EVENT; aiohttp's own reader stops at 64 KiB."""
    pending = bytearray()
    async for chunk in stream.iter_any():
        searched = len(pending)
        pending += chunk
        start = 0
        while (end := pending.find(b"\n", max(start, searched))) >= 0:
            if end > start:
                yield bytes(pending[start:end])
            start = end + 1
        del pending[:start]
        if len(pending) > MAX_EVENT:
            raise ValueError(f"a watch event of more than {MAX_EVENT} octets")
    if pending:
        raise ValueError("the watch ended in the middle of an event")


def _retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3: a number or a date); 0 when it says nothing."""
    if value.isascii() and value.isdigit():
        seconds = float(value[:6])
    else:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(0.0, seconds), LONGEST_RETRY_AFTER)
