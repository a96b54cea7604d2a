"""Transport ``port-forward``: over websockets, through the API server and the kubelet to the pod.

Two subprotocols are offered, and the API server chooses: a session that carries one connection after the other
(:mod:`.port_forward_session`, since Kubernetes 1.31), or a websocket for each (:mod:`.port_forward_channels`, every
version from 1.20 on). The runtime in the pod's node dials ``localhost`` in the pod.

**How "accepted" is known.** In both, the node takes a connection on *before* it dials the pod's port; when the dial
fails, an error follows within milliseconds, and when it succeeds nothing follows. So the first connection to a port of
a pod waits ``GRACE`` for bad news, less if the pod speaks first. A port that has sent data is remembered, and later
connections to it do not wait. The price: a first connection takes ``GRACE`` longer; where dialling takes longer than
``GRACE``, or where a remembered port has closed since, the client is accepted and then reset instead of refused. A
memory that was wrong is dropped at once.

**Half-close.** Neither has one that reaches the pod unharmed: nodes drop a connection a second after either side has
finished. So the client's end is not sent on, and the connection stays open for the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from urllib.parse import quote

import aiohttp
from yarl import URL

from resolverd.cluster.access import Access, open_session
from resolverd.cluster.target import Target
from resolverd.errors import one_line

from . import port_forward_channels, port_forward_session
from .handshake import HandshakeError, upgrade
from .port_forward_channels import Channels
from .port_forward_session import Session
from .port_forward_stream import PortForwardStream
from .pulse import Pulse
from .session_pool import Pod, SessionPool
from .transport import NoWayError, TransportError
from .turns import Turns
from .websocket import WebSocket

log = logging.getLogger(__name__)

PROTOCOLS = (port_forward_session.PROTOCOL, port_forward_channels.PROTOCOL)
"""What is offered, the best first. API servers before 1.31 know the second one only."""
GRACE = 0.05
"""Seconds to wait for a failed dial. Nodes need 1 to 10 ms; the way to them does not count, frames keep order."""
OPEN_LIMIT = 10.0
"""Seconds until a pod must be reached."""
REUSE_LIMIT = 2.0
"""Seconds for a used session to take another connection; then it is taken to be dead."""
REMEMBERED = 4096
"""Most ports that are known to answer."""
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
        self._sessions = SessionPool()
        self._turns = Turns()
        self._pulse = Pulse(self._ask, lambda: self._streams)

    @property
    def trouble(self) -> str:
        return self._pulse.trouble or self._trouble

    def hurry(self) -> None:
        self._sessions.clear()
        self._forget_addresses()
        self._pulse.hurry()

    async def open(self, target: Target) -> PortForwardStream:
        self._opening += 1
        self._idle.clear()
        try:
            async with self._turns.turn(_pod_of(target)):
                return await self._try(target)
        except BaseException:
            self._ended(None)
            raise

    async def _try(self, target: Target) -> PortForwardStream:
        """Open a stream, or say why not."""
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
        except HandshakeError as error:
            raise self._not_forwarded(target, error) from error
        except ConnectionRefusedError:  # the pod's; what aiohttp cannot reach has errors of its own
            raise
        except (aiohttp.ClientError, OSError) as error:
            self._pulse.hurry()
            raise self._failed(_reason(error)) from error
        self._trouble = ""
        return stream

    async def retire(self) -> None:
        while not self._idle.is_set():  # whoever could not reach one pod goes on to the next before we are awake
            await self._idle.wait()
        await self._let_go()

    async def close(self) -> None:
        await self._let_go()
        self._idle.set()

    async def _let_go(self) -> None:
        await self._pulse.stop()
        await self._sessions.close()
        await self._session.close()

    async def _open(self, target: Target) -> PortForwardStream:
        stream = await self._in_used_session(target) or await self._anew(target)
        self._streams.add(stream)
        return stream

    async def _in_used_session(self, target: Target) -> PortForwardStream | None:
        """A stream in a session that is there; None when there is none, or none that is good any more."""
        session = None if self._pulse.trouble else self._sessions.take(_pod_of(target))
        if session is None:
            return None
        try:
            async with asyncio.timeout(REUSE_LIMIT):
                stream = await session.open(target.port, self._word_of(target))
            return await self._accepted(stream, target)
        except (TimeoutError, TransportError) as error:
            log.debug("%s: a used session is of no use: %s", target, error)
            self._sessions.clear()
            return None

    async def _anew(self, target: Target) -> PortForwardStream:
        path = f"api/v1/namespaces/{quote(target.namespace, safe='')}/pods/{quote(target.pod, safe='')}/portforward"
        url = URL(f"{path}?ports={target.port}", encoded=True)
        upgraded = await upgrade(self._session, url, PROTOCOLS, self._server_hostname)
        websocket = WebSocket(upgraded)
        try:
            if upgraded.protocol == port_forward_session.PROTOCOL:
                pod = _pod_of(target)
                session = Session(websocket, lambda session: self._sessions.give_back(pod, session))
                websocket.start(session)
                stream = await session.open(target.port, self._word_of(target))
            elif upgraded.protocol == port_forward_channels.PROTOCOL:
                channels = Channels(websocket, target.port, self._word_of(target))
                websocket.start(channels)
                await channels.announced()
                stream = channels.stream
            else:
                raise self._failed(f"the API server does not speak {' or '.join(PROTOCOLS)}")
        except BaseException:
            websocket.abort()
            raise
        return await self._accepted(stream, target)

    async def _accepted(self, stream: PortForwardStream, target: Target) -> PortForwardStream:
        """``stream`` when the pod has taken it; it has told its end by then."""
        stream.on_close = lambda: self._ended(stream)
        try:
            await stream.await_acceptance(0 if target in self._answered else GRACE)
        except BaseException:
            stream.on_close = lambda: None
            await stream.close()
            raise
        return stream

    def _word_of(self, target: Target) -> Callable[[bool], None]:
        return lambda answers: self._remember(target, answers)

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
            if stream.is_broken:
                self._pulse.hurry()
        if not self._opening:
            self._idle.set()

    async def _ask(self) -> str:
        """Have the API server answer, on a connection of its own: whatever it says, the way there is good."""
        if self.trouble:
            self._forget_addresses()
        try:
            async with self._session.get(
                "version",
                server_hostname=self._server_hostname,
                headers={"Connection": "close"},
                allow_redirects=False,
            ) as response:
                if response.status >= 500:
                    return f"the API server answered {response.status}"
        except (aiohttp.ClientError, ValueError) as error:
            raise OSError(_reason(error)) from error
        if self._passing:
            self._trouble = ""
        return ""

    def _forget_addresses(self) -> None:
        """Ask the host's resolver anew where the API server is: it may have moved, and aiohttp keeps addresses 10 s."""
        if isinstance(self._session.connector, aiohttp.TCPConnector):
            self._session.connector.clear_dns_cache()

    def _not_forwarded(self, target: Target, error: HandshakeError) -> TransportError:
        """What it means that the API server answered with something else than a websocket."""
        status = error.status
        if status == 401:
            self._on_unauthorized()
            return self._failed("the API server does not accept the credentials (401)", "log in again", passing=False)
        if status == 403:
            where = f"namespace {target.namespace}"
            return self._failed(f"the API server forbids port-forward in {where} (403)", _RIGHTS, passing=False)
        if status == 404:  # about this pod only
            return TransportError(str(target), "the pod is gone (404)")
        if status == 101:
            return self._failed(f"what the API server answered is no websocket: {error}")
        return self._failed(f"the API server answered {status}")

    def _failed(self, why: str, fix: str = "", *, passing: bool = True) -> TransportError:
        """An error that is likely to concern every connection: said once in the log, until something works again."""
        error = TransportError("port-forward", why, fix)
        self._passing = passing
        if self._trouble != str(error):
            self._trouble = str(error)
            log.warning("%s", error)
        return error


def _pod_of(target: Target) -> Pod:
    return target.namespace, target.pod, target.address


def _reason(error: BaseException) -> str:
    """Why something failed, on one line and without the address, which may hold a proxy's password."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"HTTP {error.status} {one_line(error.message)}"
    return one_line(str(error)) or type(error).__name__
