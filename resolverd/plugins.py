"""Parts that other packages bring, as entry points: they stand after our own, and a broken one harms nobody.

A package is trusted as soon as it is installed beside us: loading it runs its code with the daemon's rights.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from resolverd.errors import HostError

BACKENDS = "resolverd.backends"
"""Each is a ``resolverd_platform.detect.Candidate``."""
TRANSPORTS = "resolverd.transports"
"""Each makes a ``resolverd_tunnel.transport.Transport``."""


class PluginError(HostError):
    """An installed part that cannot be used."""

    def __init__(self, what: str, why: str, fix: str = "update its package, or uninstall it") -> None:
        super().__init__(what, why, fix)


def names(group: str) -> tuple[str, ...]:
    """The names of the parts of ``group`` that are installed, in order; nothing is loaded."""
    return tuple(_installed(group))


def load(group: str, name: str) -> Any:
    """The part called ``name``. Raises PluginError in one line, whatever the package does."""
    entry = _installed(group).get(name)
    if entry is None:
        raise PluginError(f"plugin {name}", f"no package has it in {group}", "install the package that does")
    try:
        return entry.load()
    except Exception as error:  # a stranger's module: anything may happen while it is imported
        raise broken(name, error) from error


def broken(name: str, error: Exception) -> PluginError:
    """What went wrong in the plugin called ``name``, with the module that has it."""
    module = next((entry.value for group in (BACKENDS, TRANSPORTS) for entry in _having(group, name)), "")
    return PluginError(f"plugin {name}", f"{module}: {type(error).__name__}: {error}")


def _having(group: str, name: str) -> Iterator[EntryPoint]:
    if name in _installed(group):
        yield _installed(group)[name]


@cache
def _installed(group: str) -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group=group), key=lambda entry: entry.name)}
