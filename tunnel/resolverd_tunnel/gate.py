"""The gate: a SYN is held until the far side has accepted, so that refused is refused and unreachable is unreachable.

held (the transport is being opened) -> granted (the SYN has been let through, the kernel shakes hands) -> flowing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from resolverd.names import Address

from . import packet
from .inside import Inside
from .listeners import Listeners
from .packet import Opening, Unreachable
from .relay import Flow, close_all, relay, reset_on_close
from .systems import open_clients
from .transport import Stream, TransportError

log = logging.getLogger(__name__)

HANDSHAKE_LIMIT = 10.0
"""Seconds a granted client has to finish the handshake: it may have given up while its SYN was held."""


class NotYetError(Exception):
    """It cannot be said yet where a connection goes; the client will ask again in a second."""


@dataclass(frozen=True, slots=True)
class Wires:
    """Where packets are put."""

    inward: Callable[[bytes], None]
    """To where connections end."""
    back: Callable[[bytes], None]
    """To the client."""


class Gate:
    """Admits connections, and owns them until they end."""

    def __init__(
        self, open_stream: Callable[[Opening], Awaitable[Stream]], inside: Inside, wires: Wires, most: int
    ) -> None:
        """``open_stream`` raises ConnectionRefusedError, TransportError or NotYetError; ``most`` flows at a time."""
        self._clients = open_clients()
        self._open_stream = open_stream
        self._listeners = Listeners(inside, self.accepted)
        self._inside = inside
        self._wires = wires
        self._most = most
        self._held: dict[Opening, asyncio.Task[None]] = {}
        self._granted: dict[Opening, Stream] = {}
        self._expiries: dict[Opening, asyncio.TimerHandle] = {}
        """Of those that are granted; cancelled when they flow, or each would keep its stream for as long."""
        self._flows: dict[Opening, tuple[Flow, asyncio.Task[None]]] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self.carried = 0
        """Octets of flows that have ended, both directions."""
        self.turned_away = 0
        """Connections above the limit."""

    @property
    def flows(self) -> Iterator[tuple[Opening, Flow]]:
        return ((ends, flow) for ends, (flow, _) in self._flows.items())

    def __len__(self) -> int:
        return len(self._flows)

    def __contains__(self, ends: Opening) -> bool:
        """Whether a connection is held, granted or flowing."""
        return ends in self._flows or ends in self._granted or ends in self._held

    def disown(self, is_routed: Callable[[Address], bool]) -> None:
        """Have this host's connections that an earlier process carried reset, also those that wait and say nothing.

        Their TCP answers a challenge; nobody inside knows what the answer is about, so it is answered with an RST.
        """
        for ends in self._clients.connections():
            if ends not in self and is_routed(ends.address):
                self._wires.back(packet.challenge(ends))

    def admit(self, syn: bytes) -> None:
        """Take a packet of kind SYN: the first of a connection, or one sent again."""
        ends = packet.opening(syn)
        if ends in self._held:
            return
        current = self._flows.get(ends)
        if current is not None and current[0].half_closed and ends not in self._granted:
            # The client's port is used again: what it belonged to has no client any more.
            current[1].cancel()
        elif current is not None or ends in self._granted:
            self._wires.inward(syn)
            return
        if len(self._held) + len(self._granted) + len(self._flows) >= self._most:
            self.turned_away += 1
            self._wires.back(packet.reset(syn))
            return
        self._held[ends] = asyncio.create_task(self._hold(ends, syn))

    def accepted(self, client: socket.socket) -> None:
        """Take a connection whose handshake is done, and join it with its stream."""
        try:
            ends = self._inside.ends(client)
        except OSError:  # reset between the handshake and now
            client.close()
            return
        stream = self._granted.pop(ends, None)
        if expiry := self._expiries.pop(ends, None):
            expiry.cancel()
        if stream is None:
            reset_on_close(client)
            client.close()
            return
        flow = Flow(client, stream, lambda: self._clients.state(ends))
        task = asyncio.create_task(relay(flow))
        self._flows[ends] = flow, task
        task.add_done_callback(lambda _: self._flowed(ends, flow))

    async def close(self) -> None:
        """End everything; clients get a reset."""
        self._listeners.close()
        tasks = [*self._held.values(), *(task for _, task in self._flows.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await close_all(self._granted.values())
        self._granted.clear()
        if self._endings:
            await asyncio.wait(self._endings)
        self._clients.close()

    async def _hold(self, ends: Opening, syn: bytes) -> None:
        try:
            stream = await self._open_stream(ends)
        except NotYetError:
            return
        except ConnectionRefusedError as error:
            log.debug("%s: refused: %s", ends, error)
            self._wires.back(packet.reset(syn))
            return
        except TransportError as error:
            log.debug("%s: unreachable: %s", ends, error)
            self._wires.back(packet.unreachable(syn, Unreachable.ADDRESS))
            return
        finally:
            del self._held[ends]
        self._grant(ends, syn, stream)

    def _grant(self, ends: Opening, syn: bytes, stream: Stream) -> None:
        family = socket.AF_INET if ends.address.version == 4 else socket.AF_INET6
        try:
            self._listeners.ensure(family, ends.port)
        except OSError as error:
            log.error("listening for port %d: %s", ends.port, error.strerror)
            self._wires.back(packet.reset(syn))
            self._let_go(stream)
            return
        self._granted[ends] = stream
        self._expiries[ends] = asyncio.get_running_loop().call_later(HANDSHAKE_LIMIT, self._expire, ends, stream)
        self._wires.inward(syn)

    def _expire(self, ends: Opening, stream: Stream) -> None:
        if self._granted.get(ends) is stream:
            del self._granted[ends], self._expiries[ends]
            self._let_go(stream)

    def _flowed(self, ends: Opening, flow: Flow) -> None:
        self.carried += flow.up + flow.down
        current = self._flows.get(ends)
        if current is not None and current[0] is flow:
            del self._flows[ends]

    def _let_go(self, stream: Stream) -> None:
        task = asyncio.create_task(stream.close())
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)
