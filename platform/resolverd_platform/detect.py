"""Which back end programs this host's resolver: a visible chain of facts, and the reason for the choice.

The entry point group ``resolverd.backends`` is reserved for back ends from other packages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from resolverd.errors import HostError
from resolverd.host import ResolverBackend

from . import etc_resolver
from .dbus import BUS, BUS_PATH, Bus, BusError, Call, FastBus, NoBusError
from .etc_resolver import EtcResolverBackend
from .none import NoneBackend
from .resolved import ResolvedBackend
from .resolved_wire import SERVICE

_FIX = "use --backend none, and ask the DNS server directly"


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at the host says about one back end."""

    suits: bool
    what: str
    """A fact, in words: ``systemd-resolved answers on the system bus``."""


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    look: Callable[[Bus, str], Awaitable[Found]]
    make: Callable[[Bus, str], ResolverBackend]
    automatic: bool


async def _look_for_resolved(bus: Bus, link: str) -> Found:
    if not link:
        return Found(False, "systemd-resolved is set up for a link, and without a tunnel there is none")
    try:
        (owned,) = await bus.call(Call(BUS, BUS_PATH, BUS, "NameHasOwner", "s", (SERVICE,)))
    except NoBusError as error:
        return Found(False, f"the system bus is not reachable: {error}")
    except BusError as error:
        return Found(False, f"the system bus does not answer: {error}")
    except ModuleNotFoundError as error:  # it is installed on Linux only
        return Found(False, f"there is no {error.name} to reach a system bus with")
    if not owned:
        return Found(False, "systemd-resolved is not running")
    return Found(True, "systemd-resolved is on the system bus")


async def _look_for_etc_resolver(bus: Bus, link: str) -> Found:
    return Found(*etc_resolver.look())


async def _look_for_nothing(bus: Bus, link: str) -> Found:
    return Found(True, "nothing on this host is to be changed")


CHAIN = (
    Candidate("systemd-resolved", _look_for_resolved, lambda bus, link: ResolvedBackend(link, bus), automatic=True),
    Candidate("etc-resolver", _look_for_etc_resolver, lambda bus, link: EtcResolverBackend(link), automatic=True),
    Candidate("none", _look_for_nothing, lambda bus, link: NoneBackend(link), automatic=False),
)
"""In the order in which ``auto`` looks; doing nothing is a choice only the user makes."""


async def choose(requested: str, link: str, bus: Bus | None = None) -> tuple[ResolverBackend, str]:
    """The back end for ``link`` (empty: there is no tunnel) and the reason, one line.

    HostError when what was asked for, or with ``auto`` all there is, does not suit this host; it names what was found.
    """
    if requested != "auto" and requested not in {candidate.name for candidate in CHAIN}:
        known = " or ".join(["auto", *(candidate.name for candidate in CHAIN)])
        raise HostError(f"back end {requested}", "there is none of that name for this host", f"--backend {known}")
    bus = FastBus() if bus is None else bus
    found: list[str] = []
    for candidate in CHAIN:
        if requested == candidate.name or (requested == "auto" and candidate.automatic):
            look = await candidate.look(bus, link)
            if look.suits:
                return candidate.make(bus, link), _reason(requested, look)
            found.append(look.what)
    await bus.close()
    what = "host resolver" if requested == "auto" else requested
    raise HostError(what, "; ".join(found), _FIX)


def _reason(requested: str, look: Found) -> str:
    return look.what if requested == "auto" else f"asked for; {look.what}"
