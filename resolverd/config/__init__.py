"""Settings and where each comes from: defaults < kubeconfig extensions < config file < flags."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resolverd.config import document, extensions, mistakes
from resolverd.config.known import KNOWN, SECTIONS, replaced
from resolverd.config.mistakes import Mistake
from resolverd.config.nodes import Given, Nodes
from resolverd.settings import Settings

DEFAULT = "default"
"""The origin of what nobody gave."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings, and where they come from."""

    settings: Settings
    origins: Mapping[str, str]
    """Of every setting (``dns.ttl``) and of every item of a list (``dns.search[0]``): ``default``,
    ``FILE:LINE:COLUMN``, ``kubeconfig extension resolverd.io of cluster NAME`` or ``flag --backend``."""
    path: Path | None
    """The config file that was read."""
    looked_at: tuple[Path, ...]
    """The places of a config file, in order."""
    kubeconfigs: tuple[Path, ...] = ()
    """Looked at for extensions, most important first; not all of them need to exist."""
    notes: tuple[str, ...] = ()
    """What was passed over, and is no mistake."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All on which the settings depend."""
        return (*self.looked_at, *self.kubeconfigs)


def search_path(named: str, environment: Mapping[str, str] = os.environ) -> tuple[Path, ...]:
    """The files looked at, in order; the first that exists is read. ``named`` must exist."""
    if named:
        return (Path(named),)
    home = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME") or "/root") / ".config")
    return Path(home) / "resolverd" / "config.yaml", Path("/etc/resolverd/config.yaml")


def load(named: str, flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Loaded:
    """The settings. Raises UsageError that names every mistake found; the rest is as :func:`read` has it."""
    loaded, found = read(named, flags, environment)
    if found:
        raise mistakes.error(found)
    return loaded


def read(
    named: str, flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ
) -> tuple[Loaded, tuple[Mistake, ...]]:
    """The settings as far as they are without mistakes, and the mistakes.

    ``flags`` maps ``section.key`` to a value, without those not given.
    """
    found: list[Mistake] = []
    notes: list[str] = []
    looked_at = search_path(named, environment)
    path = next((path for path in looked_at if named or os.path.lexists(path)), None)
    given = [*(_from_file(path, found) if path else ()), *_from_flags(flags, found)]
    cluster = _merged(given).settings.cluster
    kubeconfigs = extensions.files(cluster.kubeconfig, environment)
    merged = _merged([*extensions.read(kubeconfigs, cluster.context, found, notes), *given])
    return Loaded(merged.settings, merged.origins, path, looked_at, kubeconfigs, tuple(notes)), tuple(found)


@dataclass(frozen=True, slots=True)
class _Merged:
    settings: Settings
    origins: Mapping[str, str]


def _merged(given: Iterable[Given]) -> _Merged:
    """The last that was given of each setting, over the defaults; lists are replaced as a whole."""
    last = {item.name: item for item in given}
    settings = replaced(Settings(), {name: item.value for name, item in last.items()})
    origins: dict[str, str] = {}
    for name, known in KNOWN.items():
        item = last.get(name)
        origins[name] = item.origin if item else DEFAULT
        value = known.of(settings)
        for number in range(len(value) if isinstance(value, tuple) else 0):
            origins[f"{name}[{number}]"] = item.items[number] if item and item.items else origins[name]
    return _Merged(settings, origins)


def _from_file(path: Path, found: list[Mistake]) -> Iterator[Given]:
    nodes = Nodes(path, found)
    for section, at, node in nodes.entries(document.compose(path, found), "the file"):
        if section not in SECTIONS:
            nodes.wrong(at, mistakes.unknown(section, SECTIONS, KNOWN))
            continue
        for key, at_key, value in nodes.entries(node, section):
            if key not in SECTIONS[section]:
                nodes.wrong(at_key, mistakes.unknown(key, SECTIONS[section], KNOWN))
            elif given := nodes.given(f"{section}.{key}", SECTIONS[section][key].check, value):
                yield given


def _from_flags(flags: Mapping[str, Any], found: list[Mistake]) -> Iterator[Given]:
    for setting, value in flags.items():
        known = KNOWN[setting.replace("_", "-")]
        origin = f"flag {flag_of(known.name, value)}"
        try:
            yield Given(known.name, known.check(value), origin)
        except ValueError as error:
            found.append(Mistake(origin, f"{known.name}: {error}"))


def flag_of(setting: str, value: Any) -> str:
    """The flag of ``run`` that gives ``setting`` (``tunnel.enabled``) this value."""
    if setting == "tunnel.enabled":
        return "--tunnel" if value else "--no-tunnel"
    if setting == "cluster.namespaces":
        return "--namespace"
    return f"--{setting.partition('.')[2]}"
