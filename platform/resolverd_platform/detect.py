"""Which back end programs this host's resolver: a visible chain of facts, and the reason for the choice.

Back ends of other packages, entry points of the group ``resolverd.backends``, are looked at after all of ours.
"""

from __future__ import annotations

import itertools
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from resolverd import plugins
from resolverd.errors import HostError, one_line
from resolverd.host import ResolverBackend

from . import etc_resolver, host_facts, nft, resolv_owner
from .dbus import BUS, BUS_PATH, Bus, BusError, Call, FastBus, NoBusError
from .etc_resolver import EtcResolverBackend
from .none import NoneBackend
from .override import OverrideBackend
from .redirect import MARK
from .resolv_conf import Original, nameservers_of
from .resolv_file import ResolvFile
from .resolved import ResolvedBackend
from .resolved_wire import SERVICE
from .undo import take_back

log = logging.getLogger(__name__)

CONTAINERS = "RESOLVERD_OVERRIDE_CONTAINERS"
"""The environment's variable: 1 has ``override`` answer this host's containers, too."""
_FIX = "use --backend none, and ask the DNS server directly"


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at the host says about one back end."""

    suits: bool
    what: str
    """A fact, in words: ``systemd-resolved answers on the system bus``."""
    only_if_asked: bool = False
    """Whether it suits nobody who did not ask for it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    look: Callable[[Bus, str], Awaitable[Found]]
    make: Callable[[Bus, str, Path], ResolverBackend]
    """From the bus, the link and the state directory."""
    automatic: bool
    system: str = ""
    """The only one it is for, as ``sys.platform`` calls it: elsewhere only who asks for it hears of it."""
    undo: Callable[[Path], list[str]] | None = None
    """Takes back what a killed daemon with that state directory left; what was done, in words. None: it leaves
    nothing, because kernel and resolver forget what belonged to it."""


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
    what = "systemd-resolved is on the system bus"
    file = ResolvFile(host_facts.RESOLV_CONF)
    if not resolv_owner.uses_resolved(nameservers_of(Original(file.read()))):
        return Found(True, f"{what}, but it is not asked: {resolv_owner.describe(file)}", only_if_asked=True)
    return Found(True, what)


def _wants_containers() -> bool:
    """Whether the user wants what this host's containers ask redirected, too."""
    return os.environ.get(CONTAINERS, "") == "1"


async def _look_for_override(bus: Bus, link: str) -> Found:
    if sys.platform != "linux":
        return Found(False, "the overriding resolver is for Linux")
    file = ResolvFile(host_facts.RESOLV_CONF)
    what = resolv_owner.describe(file)
    no_nft = await nft.why_not(MARK)
    if not no_nft:
        return Found(True, f"{what}; nftables redirects what is asked there")
    if no_file := file.why_not_writable():
        return Found(False, f"{what}; {no_nft}; {no_file}")
    return Found(True, f"{what}; our server is put there, since {no_nft}")


async def _look_for_etc_resolver(bus: Bus, link: str) -> Found:
    return Found(*etc_resolver.look())


async def _look_for_nothing(bus: Bus, link: str) -> Found:
    return Found(True, "nothing on this host is to be changed")


CHAIN = (
    Candidate("systemd-resolved", _look_for_resolved, lambda bus, link, _: ResolvedBackend(link, bus), True, "linux"),
    Candidate(
        EtcResolverBackend.name,
        _look_for_etc_resolver,
        lambda _, link, __: EtcResolverBackend(link),
        automatic=True,
        system="darwin",
        undo=lambda _: etc_resolver.take_back(),
    ),
    Candidate(
        OverrideBackend.name,
        _look_for_override,
        lambda _, link, state: OverrideBackend(link, state, host_facts.RESOLV_CONF, containers=_wants_containers()),
        automatic=True,
        system="linux",
        undo=lambda state: take_back(state, host_facts.RESOLV_CONF),
    ),
    Candidate("none", _look_for_nothing, lambda _, link, __: NoneBackend(link), automatic=False),
)
"""In the order in which ``auto`` looks; doing nothing is a choice only the user makes."""


def plugged_in() -> Iterator[Candidate]:
    """The candidates of other packages, by their names; one that cannot be used is logged and passed over."""
    for name in plugins.names(plugins.BACKENDS):
        try:
            yield _candidate(name)
        except plugins.PluginError as error:
            log.warning("%s; passed over", error)


def _candidate(name: str) -> Candidate:
    """The other package's candidate called ``name``. PluginError."""
    found = plugins.load(plugins.BACKENDS, name)
    if not isinstance(found, Candidate):
        raise plugins.broken(name, TypeError(f"it is a {type(found).__name__} and no Candidate"))
    if name in {candidate.name for candidate in CHAIN}:
        raise plugins.broken(name, ValueError("the name is taken by one of resolverd's own"))
    return replace(found, name=name, look=_guarded_look(found), undo=_guarded_undo(name, found))


def _guarded_look(candidate: Candidate) -> Callable[[Bus, str], Awaitable[Found]]:
    async def look(bus: Bus, link: str) -> Found:
        try:
            return await candidate.look(bus, link)
        except Exception as error:  # noqa: BLE001  # a stranger's code must not keep the next one from being tried
            return Found(False, one_line(f"it failed with {type(error).__name__}: {error}"))

    return look


def _guarded_undo(name: str, candidate: Candidate) -> Callable[[Path], list[str]] | None:
    def undo(state: Path) -> list[str]:
        try:
            return candidate.undo(state) if candidate.undo else []
        except Exception as error:  # noqa: BLE001  # nor what others left from being taken back
            log.warning("%s", plugins.broken(name, error))
            return []

    return undo if candidate.undo else None


def undo_leftovers(state: Path) -> list[str]:
    """Take back what a killed daemon with the state directory ``state`` left; what was done, in words. Idempotent.

    ResolverdError when that cannot be, or when another daemon that runs has put it there.
    """
    ours = (candidate for candidate in (*CHAIN, *plugged_in()) if candidate.system in ("", sys.platform))
    return [done for candidate in ours if candidate.undo for done in candidate.undo(state)]


async def choose(
    requested: str, link: str, bus: Bus | None = None, state: Path = Path(), system: str = sys.platform
) -> tuple[ResolverBackend, str]:
    """The back end for ``link`` (empty: there is no tunnel) and the reason, one line.

    ``state`` is the state directory. Each step is logged. HostError when what was asked for, or with ``auto`` all
    there is, does not suit this host; it names what was found.
    """
    chain = _chain(requested)
    bus = FastBus() if bus is None else bus
    found: list[str] = []
    for candidate in chain:
        is_tried = candidate.automatic and candidate.system in ("", system)
        if requested == candidate.name or (requested == "auto" and is_tried):
            look = await candidate.look(bus, link)
            if look.suits and not (requested == "auto" and look.only_if_asked):
                if candidate.name != ResolvedBackend.name:
                    await bus.close()
                return candidate.make(bus, link, state), _reason(requested, look, found)
            log.info("not %s: %s", candidate.name, look.what)
            found.append(look.what)
    await bus.close()
    what = "host resolver" if requested == "auto" else requested
    raise HostError(what, "; ".join(found), _FIX)


def _chain(requested: str) -> Iterable[Candidate]:
    """Who is looked at, in order. HostError when nobody has the name that was asked for."""
    built_in, others = [candidate.name for candidate in CHAIN], plugins.names(plugins.BACKENDS)
    if requested == "auto":
        return itertools.chain(CHAIN, plugged_in())  # others are loaded only when none of ours suits
    if requested in built_in:
        return CHAIN
    if requested in others:
        return (_candidate(requested),)
    known = " or ".join(["auto", *built_in, *others])
    raise HostError(f"back end {requested}", "there is none of that name for this host", f"--backend {known}")


def _reason(requested: str, look: Found, passed_over: list[str]) -> str:
    return "; ".join([*passed_over, look.what]) if requested == "auto" else f"asked for; {look.what}"
