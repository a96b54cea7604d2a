"""From a session of aiohttp to a websocket of our own: aiohttp connects, does TLS, proxies and HTTP, and lets go."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""


class HandshakeError(Exception):
    """The server has answered, but not with a websocket."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        """Of its answer; 101 when it was a wrong one."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A connection on which nothing but frames will come."""

    transport: asyncio.Transport
    protocol: str
    """The subprotocol that the server chose; empty: none."""
    first: bytes
    """What has come already."""
    let_go: Callable[[], None]
    """Call it when the connection has ended; until then keep it, or aiohttp ends the connection."""


async def upgrade(
    session: aiohttp.ClientSession, url: URL, protocols: Sequence[str], server_hostname: str | None
) -> Upgraded:
    """Ask for a websocket. Take over the transport before anything is awaited. HandshakeError, aiohttp's errors."""
    key = base64.b64encode(os.urandom(16))
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key.decode(),
        "Sec-WebSocket-Protocol": ", ".join(protocols),
    }
    response = await session.get(
        url, headers=headers, server_hostname=server_hostname, read_until_eof=False, allow_redirects=False
    )
    try:
        protocol = _check(response, key, protocols)
        connection = response.connection
        if connection is None or connection.transport is None or connection.protocol is None:
            raise HandshakeError(101, "the connection has ended")
        collected = _Collected()
        connection.protocol.set_parser(collected, collected)
        return Upgraded(connection.transport, protocol, bytes(collected.octets), response.close)
    except BaseException:
        response.close()
        raise


def accept_key(key: bytes) -> str:
    """What the server answers to ``key``."""
    return base64.b64encode(hashlib.sha1(key + _MAGIC).digest()).decode()  # noqa: S324  # the protocol's choice


def _check(response: aiohttp.ClientResponse, key: bytes, protocols: Sequence[str]) -> str:
    """The subprotocol of a good answer (RFC 6455, section 4.1)."""
    if response.status != 101:
        raise HandshakeError(response.status, f"HTTP {response.status}")
    for name, expected in (("Upgrade", "websocket"), ("Connection", "upgrade")):
        if response.headers.get(name, "").lower() != expected:
            raise HandshakeError(101, f"the header {name} does not say {expected}")
    if response.headers.get("Sec-WebSocket-Accept", "") != accept_key(key):
        raise HandshakeError(101, "it answers another question")
    if "Sec-WebSocket-Extensions" in response.headers:
        raise HandshakeError(101, "it uses an extension that was not asked for")
    protocol = response.headers.get("Sec-WebSocket-Protocol", "").strip()
    if protocol and protocol not in protocols:
        raise HandshakeError(101, "it speaks a protocol that was not asked for")
    return protocol


class _Collected:
    """Stands where aiohttp has a parser, for what came together with the answer."""

    def __init__(self) -> None:
        self.octets = bytearray()

    def feed_data(self, octets: bytes) -> tuple[bool, bytes]:
        self.octets += octets
        return False, b""

    def feed_eof(self) -> None:
        """The transport tells its new owner."""

    def set_exception(self, error: BaseException, cause: BaseException | None = None) -> None:
        """As above."""

    def is_eof(self) -> bool:
        return True
