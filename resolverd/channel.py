"""Messages between our own processes: length-prefixed pickles over a socketpair made before the child starts.

Both ends are this program under one user id, joined by an anonymous socketpair: nobody else can write to it, so
pickle is safe here, and it keeps frozen dataclasses as they are. The end of the stream is the sign to stop: a
child whose parent was killed sees it at once.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("!I")
MAX_MESSAGE = 256 * 1024 * 1024
"""Octets; a guard against a broken peer, far above any Snapshot."""


class Channel:
    """One end of a message stream; any number of senders, one receiver."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sending = asyncio.Lock()

    @classmethod
    async def over(cls, end: socket.socket) -> Channel:
        """A channel over one end of a Unix stream socketpair, which it then owns."""
        end.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=end))

    async def send(self, message: Any) -> None:
        """Send one picklable message; waits while the peer is slow. ConnectionError when the peer is gone."""
        payload = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        async with self._sending:
            self._writer.writelines((_LENGTH.pack(len(payload)), payload))
            await self._writer.drain()

    async def receive(self) -> Any:
        """The next message; EOFError when the peer closed or died."""
        try:
            (length,) = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))
            if length > MAX_MESSAGE:
                raise EOFError(f"a message of {length} octets")
            payload = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise EOFError("the peer is gone") from error
        return pickle.loads(payload)  # noqa: S301  # see the module's docstring

    def abort(self) -> None:
        """Close this end at once, whether or not the peer has read everything."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close this end; messages already sent still arrive."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return
