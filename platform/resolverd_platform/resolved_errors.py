"""systemd-resolved's refusals as lines a user can act on."""

from __future__ import annotations

from resolverd.errors import HostError, NoPermissionError, ResolverdError

from .dbus import BusError, DeadlineError, NoBusError, RefusedError

_DBUS = "org.freedesktop.DBus.Error."
_RESOLVE = "org.freedesktop.resolve1."

MISSING_NAMES = frozenset({_DBUS + "UnknownMethod"})
LINK_GONE_NAMES = frozenset({_RESOLVE + "NoSuchLink", _DBUS + "UnknownObject"})
LIMIT_NAMES = frozenset({"System.Error.E2BIG", _DBUS + "LimitsExceeded"})
_ABSENT_NAMES = frozenset({_DBUS + "ServiceUnknown", _DBUS + "NameHasNoOwner", _DBUS + "NoReply"})
_DENIED_NAMES = frozenset(
    {_DBUS + "AccessDenied", _DBUS + "InteractiveAuthorizationRequired", _DBUS + "AuthFailed", "System.Error.EPERM"}
)


def no_bus(error: BusError) -> HostError:
    return HostError("system bus", f"not reachable: {error}", "start dbus, or use --backend none")


def not_running() -> HostError:
    return HostError("systemd-resolved", "not running", "systemctl start systemd-resolved, or use --backend none")


def no_link(link: str) -> HostError:
    return HostError(f"link {link}", "it does not exist", "it comes and goes with the tunnel: is that running?")


def explain(error: BusError, link: str) -> ResolverdError:
    """What a failed call means for the user."""
    match error:
        case NoBusError():
            return no_bus(error)
        case DeadlineError():
            return HostError("systemd-resolved", str(error), "systemctl restart systemd-resolved")
        case RefusedError(name=name) if name in _ABSENT_NAMES:
            return not_running()
        case RefusedError(name=name) if name in LINK_GONE_NAMES:
            return no_link(link)
        case RefusedError(name=name) if name in _DENIED_NAMES:
            fix = "run as root, or allow org.freedesktop.resolve1.set-* by polkit"
            return NoPermissionError("systemd-resolved", f"may not change link {link}: {error.text}", fix)
        case RefusedError(name=name) if name == _RESOLVE + "LinkBusy":
            fix = "tell systemd-networkd to leave it alone: Unmanaged=yes"
            return HostError(f"link {link}", f"another program manages it: {error.text}", fix)
        case RefusedError():
            return HostError("systemd-resolved", f"{error.text or 'refused'} [{error.name}]")
    return HostError("systemd-resolved", str(error))
