"""Transport ``port-forward``: a websocket for each connection, through the API server and the kubelet to the pod.

Subprotocol ``v4.channel.k8s.io``, served by every Kubernetes from 1.20 on. Channel 0 carries data, channel 1 an error
text; each begins with a frame that names the port. The runtime in the pod's node dials ``localhost`` in the pod.

**How "accepted" is known.** The two opening frames arrive *before* the pod's port is dialled; when the dial fails, an
error follows on channel 1 within milliseconds, and when it succeeds nothing follows. So the first connection to a port
of a pod waits ``GRACE`` for bad news after the opening frames, less if the pod speaks first. A port that has sent data
is remembered, and later connections to it do not wait. The price: a first connection takes ``GRACE`` longer; where
dialling takes longer than ``GRACE``, or where a remembered port has closed since, the client is accepted and then
reset instead of refused. A memory that was wrong is dropped at once.

**Half-close.** The protocol has none: the client's end is not sent on, and the websocket stays open for the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from urllib.parse import quote

import aiohttp
from aiohttp import ClientWebSocketResponse, ClientWSTimeout, WSCloseCode, WSMessage, WSMsgType, WSServerHandshakeError
from yarl import URL

from resolverd.cluster.access import Access, open_session
from resolverd.cluster.target import Target
from resolverd.errors import one_line

from .kernel_silence import keep_alive, silence_of
from .pulse import Pulse
from .transport import NoWayError, StreamBrokenError, TransportError

log = logging.getLogger(__name__)

PROTOCOL = "v4.channel.k8s.io"
GRACE = 0.05
"""Seconds to wait for a failed dial. Nodes need 1 to 10 ms; the way to them does not count, frames keep order."""
OPEN_LIMIT = 10.0
"""Seconds until a pod must be reached."""
CLOSE_LIMIT = 1.0
"""Seconds for the other side to confirm the end."""
PING_LIMIT = 0.5
"""Seconds to get rid of a ping: a stream whose pod takes nothing cannot be asked."""
LARGEST = 4 * 2**20
"""Octets of a frame: real ones have 32 KiB, and what is larger than this is nobody's data."""
REMEMBERED = 4096
"""Most ports that are known to answer."""
_DATA, _ERROR = 0, 1
_RIGHTS = "it needs get and, since Kubernetes 1.35, create on pods/portforward; resolverd rbac prints the role"


class PortForward:
    """Port-forward with one set of credentials."""

    name = "port-forward"

    def __init__(self, access: Access, on_unauthorized: Callable[[], None]) -> None:
        self._trouble = ""
        self._passing = False
        """Whether the trouble is over when the API server answers: it is not, where rights are missing."""
        self._session = open_session(access)
        self._server_hostname = access.tls_server_name or None
        self._on_unauthorized = on_unauthorized
        self._answered: dict[Target, None] = {}
        self._opening = 0
        self._streams: set[PortForwardStream] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._pulse = Pulse(self._ask, lambda: self._streams)

    @property
    def trouble(self) -> str:
        return self._pulse.trouble or self._trouble

    def hurry(self) -> None:
        self._pulse.hurry()

    async def open(self, target: Target) -> PortForwardStream:
        try:
            async with asyncio.timeout(OPEN_LIMIT):
                stream = await self._open(target)
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError, ValueError) as error:
            # ValueError: a proxy of a kind that aiohttp does not speak.
            self._pulse.hurry()
            raise NoWayError(*self._failed(_reason(error)).args) from error
        except TimeoutError as error:
            self._pulse.hurry()
            raise self._failed(f"no answer within {OPEN_LIMIT:g} s", "see resolverd doctor") from error
        except WSServerHandshakeError as error:
            raise self._not_forwarded(target, error.status) from error
        except ConnectionRefusedError:  # the pod's; what aiohttp cannot reach has errors of its own
            raise
        except (aiohttp.ClientError, OSError) as error:
            self._pulse.hurry()
            raise self._failed(_reason(error)) from error
        self._trouble = ""
        return stream

    async def retire(self) -> None:
        await self._idle.wait()
        await self._pulse.stop()
        await self._session.close()

    async def close(self) -> None:
        await self._pulse.stop()
        await self._session.close()
        self._idle.set()

    async def _open(self, target: Target) -> PortForwardStream:
        path = f"api/v1/namespaces/{quote(target.namespace, safe='')}/pods/{quote(target.pod, safe='')}/portforward"
        self._opening += 1
        self._idle.clear()
        try:
            websocket = await self._session.ws_connect(
                URL(f"{path}?ports={target.port}", encoded=True),
                protocols=(PROTOCOL,),
                server_hostname=self._server_hostname,
                timeout=ClientWSTimeout(ws_close=CLOSE_LIMIT),
                autoping=False,
                max_msg_size=LARGEST,
                compress=0,
            )
        except BaseException:
            self._ended(None)
            raise
        stream = PortForwardStream(websocket, lambda ok: self._remember(target, ok), self._ended)
        self._streams.add(stream)
        try:
            if websocket.protocol != PROTOCOL:
                raise self._failed(f"the API server does not speak {PROTOCOL}")
            stream.keep_alive()
            await stream.await_announcements(target.port)
            await stream.await_acceptance(0 if target in self._answered else GRACE)
        except BaseException:
            await stream.close()
            raise
        return stream

    def _remember(self, target: Target, answers: bool) -> None:
        """Note that a port has sent data, or that the node had an error to tell."""
        self._answered.pop(target, None)
        if answers:
            self._answered[target] = None
        if len(self._answered) > REMEMBERED:
            del self._answered[next(iter(self._answered))]

    def _ended(self, stream: PortForwardStream | None) -> None:
        """A stream is no more, or has not come to be."""
        self._opening -= 1
        if stream is not None:
            self._streams.discard(stream)
        if not self._opening:
            self._idle.set()

    async def _ask(self) -> str:
        """Have the API server answer, on a connection of its own: whatever it says, the way there is good."""
        try:
            async with self._session.get(
                "version", server_hostname=self._server_hostname, headers={"Connection": "close"}
            ) as response:
                if response.status >= 500:
                    return f"the API server answered {response.status}"
        except (aiohttp.ClientError, ValueError) as error:
            raise OSError(_reason(error)) from error
        if self._passing:
            self._trouble = ""
        return ""

    def _not_forwarded(self, target: Target, status: int) -> TransportError:
        """Why the API server answered with ``status`` instead of a websocket."""
        if status == 401:
            self._on_unauthorized()
            return self._failed("the API server does not accept the credentials (401)", "log in again", passing=False)
        if status == 403:
            where = f"namespace {target.namespace}"
            return self._failed(f"the API server forbids port-forward in {where} (403)", _RIGHTS, passing=False)
        if status == 404:  # about this pod only
            return TransportError(str(target), "the pod is gone (404)")
        return self._failed(f"the API server answered {status}")

    def _failed(self, why: str, fix: str = "", *, passing: bool = True) -> TransportError:
        """An error that is likely to concern every connection: said once in the log, until something works again."""
        error = TransportError("port-forward", why, fix)
        self._passing = passing
        if self._trouble != str(error):
            self._trouble = str(error)
            log.warning("%s", error)
        return error


class PortForwardStream:
    """One connection."""

    def __init__(
        self,
        websocket: ClientWebSocketResponse,
        on_word: Callable[[bool], None],
        on_end: Callable[[PortForwardStream], None],
    ) -> None:
        self._websocket = websocket
        self._on_word = on_word
        self._on_end = on_end
        self._answered = False
        self._closed = False
        self._pending: asyncio.Task[bytes] | None = None
        """A receive that was begun while we waited for acceptance."""
        self._connection: socket.socket | None = websocket.get_extra_info("socket")
        self._listening = False
        """Whether what arrives is taken at once."""
        self._heard = asyncio.get_running_loop().time()
        self._failure = ""

    def keep_alive(self) -> None:
        if self._connection is not None:
            keep_alive(self._connection)

    # For the pulse.

    def is_stuck(self, limit: float) -> bool:
        silence = silence_of(self._connection) if self._connection is not None else None
        return silence is not None and silence.unacknowledged and silence.seconds >= limit

    def heard_since(self, moment: float) -> bool:
        elapsed = asyncio.get_running_loop().time() - moment
        silence = silence_of(self._connection) if self._connection is not None else None
        if silence is not None and silence.seconds >= elapsed:
            return False
        return not self._listening or self._heard >= moment

    async def ping(self) -> None:
        try:
            async with asyncio.timeout(PING_LIMIT):
                await self._websocket.ping()
        except (TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            log.debug("a stream takes no ping: %s", error)

    def fail(self, why: str) -> None:
        if self._failure or self._connection is None:
            return
        self._failure = why
        log.info("a stream is ended: %s", why)
        with contextlib.suppress(OSError):  # it has ended meanwhile
            self._connection.shutdown(socket.SHUT_RDWR)

    # For whoever carries.

    async def await_announcements(self, port: int) -> None:
        """Take the opening frames of both channels."""
        for channel in (_DATA, _ERROR):
            message = await self._next()
            if message.type is not WSMsgType.BINARY or message.data != bytes([channel]) + port.to_bytes(2, "little"):
                raise TransportError("port-forward", f"the API server did not announce port {port}")

    async def await_acceptance(self, grace: float) -> None:
        """Wait ``grace`` seconds for bad news; ConnectionRefusedError or TransportError when it comes."""
        if not grace:
            return
        self._pending = asyncio.create_task(self._receive())
        done, _ = await asyncio.wait([self._pending], timeout=grace)
        if not done:
            return
        error = self._pending.exception()
        if isinstance(error, _PodError):
            if "refused" in str(error):
                raise ConnectionRefusedError(str(error)) from error
            raise TransportError("port-forward", str(error)) from error
        if error is not None:
            raise TransportError("port-forward", str(error)) from error

    async def receive(self) -> bytes:
        if self._pending is not None:
            data = await asyncio.shield(self._pending)
            self._pending = None
            return data
        return await self._receive()

    async def send(self, data: bytes) -> None:
        try:
            await self._websocket.send_bytes(b"\0" + data)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise StreamBrokenError(str(error)) from error

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._pending is not None:
            self._pending.cancel()
            await asyncio.gather(self._pending, return_exceptions=True)
        try:
            async with asyncio.timeout(CLOSE_LIMIT):
                await self._websocket.close()
        except TimeoutError:
            log.debug("the API server did not confirm the end of a stream")
        finally:
            self._on_end(self)

    async def _receive(self) -> bytes:
        while True:
            message = await self._next()
            if message.type is WSMsgType.BINARY:
                frame: bytes = message.data
                if frame[:1] == b"\0" and len(frame) > 1:
                    if not self._answered:
                        self._answered = True
                        self._on_word(True)
                    return frame[1:]
                if frame[:1] == b"\1" and len(frame) > 1:
                    self._on_word(False)
                    raise _PodError(one_line(frame[1:].decode(errors="replace")))
            elif message.type is WSMsgType.CLOSE and message.data in (WSCloseCode.OK, 0, None):
                return b""
            elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                raise StreamBrokenError(self._failure or "the websocket ended without a close frame")

    async def _next(self) -> WSMessage:
        """The next message that is no ping or pong."""
        while True:
            self._listening = True
            try:
                message = await self._websocket.receive()
            finally:
                self._listening = False
            self._heard = asyncio.get_running_loop().time()
            if message.type is WSMsgType.PING:
                await self._answer(message.data)
            elif message.type is not WSMsgType.PONG:
                return message

    async def _answer(self, ping: bytes) -> None:
        try:
            await self._websocket.pong(ping)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise StreamBrokenError(str(error)) from error


class _PodError(StreamBrokenError):
    """What the kubelet said on the error channel."""


def _reason(error: BaseException) -> str:
    """Why something failed, on one line and without the address, which may hold a proxy's password."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"HTTP {error.status} {one_line(error.message)}"
    return one_line(str(error)) or type(error).__name__
