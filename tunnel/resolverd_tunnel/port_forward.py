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
import logging
from collections.abc import Callable
from urllib.parse import quote

import aiohttp
from aiohttp import ClientWSTimeout, WSServerHandshakeError
from yarl import URL

from resolverd.cluster.access import Access, open_session
from resolverd.cluster.target import Target
from resolverd.errors import one_line

from .port_forward_stream import CLOSE_LIMIT, PortForwardStream
from .pulse import Pulse
from .transport import NoWayError, TransportError

log = logging.getLogger(__name__)

PROTOCOL = "v4.channel.k8s.io"
GRACE = 0.05
"""Seconds to wait for a failed dial. Nodes need 1 to 10 ms; the way to them does not count, frames keep order."""
OPEN_LIMIT = 10.0
"""Seconds until a pod must be reached."""
LARGEST = 4 * 2**20
"""Octets of a frame: real ones have 32 KiB, and what is larger than this is nobody's data."""
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
        self._pulse = Pulse(self._ask, lambda: self._streams)

    @property
    def trouble(self) -> str:
        return self._pulse.trouble or self._trouble

    def hurry(self) -> None:
        self._forget_addresses()
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
                "version", server_hostname=self._server_hostname, headers={"Connection": "close"}
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


def _reason(error: BaseException) -> str:
    """Why something failed, on one line and without the address, which may hold a proxy's password."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"HTTP {error.status} {one_line(error.message)}"
    return one_line(str(error)) or type(error).__name__
