"""Messages of a websocket that leave together."""

from __future__ import annotations

import struct

from aiohttp import web

_BINARY = 0x82


async def send_messages(socket: web.WebSocketResponse, *messages: bytes) -> None:
    """Send binary messages, all that there are at the moment; waits while the client is slow. ConnectionError.

    What ``send_bytes`` does, but that sends each header and payload by itself: each a record of TLS and a system call.
    """
    await web.StreamResponse.write(socket, b"".join(part for data in messages for part in (_head(len(data)), data)))


def _head(size: int) -> bytes:
    if size < 126:
        return struct.pack("!BB", _BINARY, size)
    if size < 2**16:
        return struct.pack("!BBH", _BINARY, 126, size)
    return struct.pack("!BBQ", _BINARY, 127, size)
