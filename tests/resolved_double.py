"""A stand-in for systemd-resolved's bus interface, for what the real one here cannot show: old versions, refusals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from resolverd_platform.dbus import BusError, Call, Match, RefusedError, Signal

METHODS = ("SetLinkDNSEx", "SetLinkDefaultRoute", "SetLinkDNSOverTLS")
"""What versions before 246, 240 and 239 lack."""


@dataclass
class ResolvedDouble:
    """One link's settings behind the Bus seam; whatever is set can be read back."""

    binding: str = "double"
    deadline: float = 1.0
    missing: frozenset[str] = frozenset()
    limit: int = 256
    owned: bool = True
    refuse: dict[str, BusError] = field(default_factory=dict)
    """Member -> what is raised instead of an answer."""
    link: dict[str, Any] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    closed: bool = False
    to_signal: list[Signal] = field(default_factory=list)

    async def call(self, call: Call) -> tuple[Any, ...]:
        self.calls.append(call.member)
        if call.member in self.refuse:
            raise self.refuse[call.member]
        if call.member in self.missing:
            raise RefusedError("org.freedesktop.DBus.Error.UnknownMethod", f"Unknown method {call.member}")
        return self._answer(call)

    async def signals(self, matches: Sequence[Match]) -> AsyncGenerator[Signal, None]:
        for signal in self.to_signal:
            yield signal
        await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True

    def _answer(self, call: Call) -> tuple[Any, ...]:
        match call.member:
            case "NameHasOwner":
                return (self.owned,)
            case "Introspect":
                known = (name for name in METHODS if name not in self.missing)
                return ("".join(f'<method name="{name}"/>' for name in known),)
            case "GetLink":
                return ("/org/freedesktop/resolve1/link/_31",)
            case "GetAll":
                return (dict(self.link),)
            case "RevertLink":
                self.link = {}
            case member if member.startswith("SetLink"):
                self._set(member.removeprefix("SetLink"), call.body[1])
        return ()

    def _set(self, name: str, value: Any) -> None:
        if name == "Domains" and len(value) > self.limit:
            raise RefusedError("System.Error.E2BIG", "Argument list too long")
        self.link[name] = value
