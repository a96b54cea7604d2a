"""The system bus behind a small seam: calls with a deadline, and signals. dbus-fast does the work.

Another library fits behind :class:`Bus` as well, see :mod:`.dbus_pydbus`. On this side of it variants are unpacked;
``ay`` goes in as ``bytes`` and comes out as ``bytes`` or as a list of octets: ``bytes()`` takes both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from dbus_fast.aio import MessageBus
    from dbus_fast.message import Message

DEADLINE = 2.0
"""Seconds. The bus itself has none: a call to a frozen service would wait for ever."""
BUS = "org.freedesktop.DBus"
BUS_PATH = "/org/freedesktop/DBus"


@dataclass(frozen=True, slots=True)
class Call:
    """A method call; ``body`` as ``signature`` says."""

    destination: str
    path: str
    interface: str
    member: str
    signature: str = ""
    body: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """Which signals are wanted; an empty ``arg0`` matches any."""

    sender: str
    path: str
    interface: str
    member: str
    arg0: str = ""

    def __str__(self) -> str:
        fields = ("sender", "path", "interface", "member", "arg0")
        given = ((field, getattr(self, field)) for field in fields)
        return ",".join(["type='signal'", *(f"{field}='{value}'" for field, value in given if value)])


@dataclass(frozen=True, slots=True)
class Signal:
    member: str
    body: tuple[Any, ...]


class BusError(Exception):
    """A call did not succeed."""


class NoBusError(BusError):
    """The bus cannot be reached, or the connection broke."""


class DeadlineError(BusError):
    """No answer in time."""


class RefusedError(BusError):
    """The answer was an error; ``name`` as in ``org.freedesktop.DBus.Error.UnknownMethod``."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.name = name
        self.text = text


class Bus(Protocol):
    """A connection that is made when it is first needed, and made again when it broke."""

    binding: str
    """What does the work, as ``status`` shows it."""
    deadline: float
    """Seconds that one call may take."""

    async def call(self, call: Call) -> tuple[Any, ...]:
        """The values of the reply. BusError when there is none."""
        ...

    def signals(self, matches: Sequence[Match]) -> AsyncGenerator[Signal, None]:
        """Signals from the moment of the first ``anext`` on. Raises NoBusError when the connection is lost."""
        ...

    async def close(self) -> None: ...


class FastBus:
    """The system bus by dbus-fast; ``address`` as in ``DBUS_SYSTEM_BUS_ADDRESS``, None: that one or the usual."""

    binding = "dbus-fast"

    def __init__(self, address: str | None = None, deadline: float = DEADLINE) -> None:
        self.deadline = deadline
        self._address = address
        self._bus: MessageBus | None = None
        self._connecting = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._lost: set[Callable[[], None]] = set()

    async def call(self, call: Call) -> tuple[Any, ...]:
        from dbus_fast import Message, MessageFlag, MessageType
        from dbus_fast.errors import DBusFastError
        from dbus_fast.unpack import unpack_variants

        message = Message(
            destination=call.destination,
            path=call.path,
            interface=call.interface,
            member=call.member,
            signature=call.signature,
            body=list(call.body),
            flags=MessageFlag.NO_AUTOSTART,  # a service that was stopped was stopped by somebody
        )
        try:
            async with asyncio.timeout(self.deadline):
                reply = await (await self._connected()).call(message)
        except TimeoutError as error:
            raise DeadlineError(f"no answer to {call.member} within {self.deadline:g} s") from error
        except (OSError, EOFError, DBusFastError) as error:
            raise NoBusError(_reason(error)) from error
        if reply is None:
            raise NoBusError("the connection was closed")
        if reply.message_type is MessageType.ERROR:
            raise RefusedError(reply.error_name or "", " ".join(str(part) for part in reply.body))
        return tuple(unpack_variants(reply.body))

    async def signals(self, matches: Sequence[Match]) -> AsyncGenerator[Signal, None]:
        wanted = {(match.path, match.interface, match.member) for match in matches}
        found: asyncio.Queue[Signal | None] = asyncio.Queue()

        def hear(message: Message) -> None:
            # Anybody may send a signal to us alone: then the bus does not look at whose signals we want.
            if not message.destination and (message.path, message.interface, message.member) in wanted:
                found.put_nowait(_signal(message))

        def lose() -> None:
            found.put_nowait(None)

        bus = await self._connect_in_time()
        bus.add_message_handler(hear)
        self._lost.add(lose)
        try:
            for match in matches:
                await self.call(Call(BUS, BUS_PATH, BUS, "AddMatch", "s", (str(match),)))
            while (signal := await found.get()) is not None:
                yield signal
            raise NoBusError("the connection was closed")
        finally:
            self._lost.discard(lose)
            bus.remove_message_handler(hear)

    async def close(self) -> None:
        bus, self._bus = self._bus, None
        if bus is not None and bus.connected:
            bus.disconnect()
        if self._watching is not None:
            await asyncio.wait([self._watching], timeout=self.deadline)

    async def _connect_in_time(self) -> MessageBus:
        from dbus_fast.errors import DBusFastError

        try:
            async with asyncio.timeout(self.deadline):
                return await self._connected()
        except TimeoutError as error:
            raise DeadlineError(f"the bus does not answer within {self.deadline:g} s") from error
        except (OSError, EOFError, DBusFastError) as error:
            raise NoBusError(_reason(error)) from error

    async def _connected(self) -> MessageBus:
        """The connection, made if need be; raises what dbus-fast raises."""
        from dbus_fast import BusType
        from dbus_fast.aio import MessageBus

        async with self._connecting:
            if self._bus is None or not self._bus.connected:
                self._bus = await MessageBus(self._address, BusType.SYSTEM).connect()
                self._watching = asyncio.create_task(self._watch(self._bus))
            return self._bus

    async def _watch(self, bus: MessageBus) -> None:
        """Wake those who listen when the connection ends: no signal would tell them."""
        with suppress(OSError, EOFError):
            await bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
        for lose in tuple(self._lost):
            lose()


def _signal(message: Message) -> Signal:
    from dbus_fast.unpack import unpack_variants

    return Signal(message.member or "", tuple(unpack_variants(message.body)))


def _reason(error: Exception) -> str:
    said = error.strerror if isinstance(error, OSError) else str(error)
    return said or type(error).__name__
