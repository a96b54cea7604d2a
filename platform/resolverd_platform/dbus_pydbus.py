"""The system bus by pydbus, for who wants GLib's D-Bus and nothing else; and which of the two libraries is used.

pydbus blocks, and waits for ever unless it is told not to: every call is made in a thread, with ``timeout=``. Signals
need a GLib main loop, which runs in one more thread while somebody listens.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from resolverd.errors import HostError, UsageError

from .dbus import (
    BUS,
    BUS_PATH,
    DEADLINE,
    Bus,
    BusError,
    Call,
    DeadlineError,
    FastBus,
    Match,
    NoBusError,
    RefusedError,
    Signal,
)

CHOICE = "RESOLVERD_DBUS"
"""Environment variable that names the library."""
_UNKNOWN_METHOD = "org.freedesktop.DBus.Error.UnknownMethod"
_NO_OWNER = "org.freedesktop.DBus.Error.NameHasNoOwner"
_TIMED_OUT = 24
"""G_IO_ERROR_TIMED_OUT"""
_LOST_PAUSE = 1.0
"""Seconds between two looks whether the connection is there: GLib tells only its first main loop, which nobody runs."""


def system_bus(environment: Mapping[str, str] = os.environ) -> Bus:
    """The bus by the library that ``RESOLVERD_DBUS`` names: ``dbus-fast``, which is the usual, or ``pydbus``.

    UsageError for another one, HostError when pydbus cannot be loaded.
    """
    chosen = environment.get(CHOICE, "") or FastBus.binding
    if chosen == FastBus.binding:
        return FastBus()
    if chosen != PyBus.binding:
        raise UsageError(f"{CHOICE}={chosen}", "there is no such library", f"{FastBus.binding} or {PyBus.binding}")
    try:
        import gi  # noqa: F401
        import pydbus  # noqa: F401
    except ImportError as error:
        fix = f"pip install 'resolverd[pydbus]', or leave {CHOICE} alone"
        raise HostError("pydbus", f"cannot be loaded: {error}", fix) from error
    return PyBus()


class PyBus:
    """``address`` as in ``DBUS_SYSTEM_BUS_ADDRESS``, None: that one or the usual."""

    binding = "pydbus"

    def __init__(self, address: str | None = None, deadline: float = DEADLINE) -> None:
        self.deadline = deadline
        self._address = address
        self._bus: Any = None
        self._connecting = asyncio.Lock()

    async def call(self, call: Call) -> tuple[Any, ...]:
        bus = await self._connected()
        answer: tuple[Any, ...] = await self._in_thread(call.member, lambda: _answer(bus, call, self.deadline))
        return answer

    async def signals(self, matches: Sequence[Match]) -> AsyncGenerator[Signal, None]:
        bus = await self._connected()
        found: asyncio.Queue[Signal] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def put(signal: Signal) -> None:
            loop.call_soon_threadsafe(found.put_nowait, signal)

        listening = _Listening(bus, matches, put)
        await asyncio.to_thread(listening.start)
        try:
            await self.call(Call(BUS, BUS_PATH, BUS, "GetId"))  # when it is answered, the matches are known there
            while not bus.con.is_closed():
                try:
                    async with asyncio.timeout(_LOST_PAUSE):
                        signal = await found.get()
                except TimeoutError:
                    continue
                yield signal
            raise NoBusError("the connection was closed")
        finally:
            listening.stop()

    async def close(self) -> None:
        bus, self._bus = self._bus, None
        if bus is not None and not bus.con.is_closed():
            bus.con.close(None, None)

    async def _connected(self) -> Any:
        """pydbus's bus, made if need be. Not GLib's shared one: that ends the process when the bus goes away."""
        from gi.repository import Gio

        async with self._connecting:
            if self._bus is None or self._bus.con.is_closed():
                cancel = Gio.Cancellable()
                self._bus = await self._in_thread("connecting", lambda: _connect(self._address, cancel), cancel.cancel)
            return self._bus

    async def _in_thread(self, what: str, work: Callable[[], Any], give_up: Callable[[], None] | None = None) -> Any:
        """What ``work`` returns; its errors as ours. GLib keeps the deadline, except while it connects."""
        from gi.repository import GLib

        late = DeadlineError(f"no answer to {what} within {self.deadline:g} s")
        task = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            # Two calls in a row, each with the deadline, may lie behind one of ours.
            done, _ = await asyncio.wait([task], timeout=self.deadline * 2 + 1 if give_up is None else self.deadline)
            if not done:
                task.add_done_callback(_drop)
                raise late
            return task.result()
        except GLib.Error as error:
            raise _translated(error, late) from error
        finally:
            if give_up is not None and not task.done():
                give_up()


def _connect(address: str | None, cancel: Any) -> Any:
    from gi.repository import Gio
    from pydbus.bus import Bus as PydbusBus

    where = address or Gio.dbus_address_get_for_bus_sync(Gio.BusType.SYSTEM, cancel)
    flags = Gio.DBusConnectionFlags
    how = flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION
    return PydbusBus(Gio.DBusConnection.new_for_address_sync(where, how, None, cancel))


def _answer(bus: Any, call: Call, deadline: float) -> tuple[Any, ...]:
    """Make ``call`` and wait. pydbus would start a service that was stopped; so it is asked for first."""
    if call.destination != BUS:
        dbus = bus.get(BUS, BUS_PATH, timeout=deadline)[BUS]
        if not dbus.NameHasOwner(call.destination, timeout=deadline):
            raise RefusedError(_NO_OWNER, f"{call.destination} is not running")
    proxy = bus.get(call.destination, call.path, timeout=deadline)
    try:
        method = getattr(proxy[call.interface], call.member)
    except (KeyError, AttributeError) as error:
        raise RefusedError(_UNKNOWN_METHOD, f"{call.interface} has no {call.member}") from error
    result = method(*(_octets(part) for part in call.body), timeout=deadline)
    return () if result is None else (result,)


def _octets(part: Any) -> Any:
    """GLib takes octets as numbers."""
    if isinstance(part, bytes):
        return list(part)
    return [_octets(each) for each in part] if isinstance(part, list | tuple) else part


def _translated(error: Any, late: DeadlineError) -> BusError:
    from gi.repository import Gio

    name = Gio.DBusError.get_remote_error(error)
    if name:
        return RefusedError(name, error.message.partition(f"{name}: ")[2])
    return late if error.code == _TIMED_OUT else NoBusError(error.message)


def _drop(task: asyncio.Future[Any]) -> None:
    """Nobody waits for it any more."""
    if not task.cancelled():
        task.exception()


class _Listening:
    """A GLib main loop in a thread of its own, with the signals it is there for."""

    def __init__(self, bus: Any, matches: Sequence[Match], put: Callable[[Signal], None]) -> None:
        from gi.repository import GLib

        self._bus, self._matches, self._put = bus, matches, put
        self._context = GLib.MainContext()
        self._loop = GLib.MainLoop(self._context)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="signals", daemon=True)

    def start(self) -> None:
        """Returns when the bus has been told what is wanted."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        from gi.repository import GLib

        quitting = GLib.idle_source_new()
        quitting.set_callback(lambda *_: self._loop.quit())
        quitting.attach(self._context)

    def _run(self) -> None:
        self._context.push_thread_default()
        subscriptions = [
            self._bus.subscribe(
                sender=match.sender,
                iface=match.interface,
                signal=match.member,
                object=match.path,
                arg0=match.arg0 or None,
                signal_fired=lambda _sender, _path, _interface, member, body: self._put(Signal(member, tuple(body))),
            )
            for match in self._matches
        ]
        self._ready.set()
        self._loop.run()
        for subscription in subscriptions:
            subscription.unsubscribe()
        self._context.pop_thread_default()
