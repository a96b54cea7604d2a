"""The settings by the names people write: ``dns.include-suffixes``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from resolverd.options import Check
from resolverd.settings import Settings


class Known(NamedTuple):
    """One setting."""

    section: str
    key: str
    check: Check
    default: Any
    help: str

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"

    @property
    def field(self) -> str:
        return self.key.replace("-", "_")

    def of(self, settings: Settings) -> Any:
        """Its value in ``settings``."""
        return getattr(getattr(settings, self.section), self.field)


def _known() -> Iterator[Known]:
    usual = Settings()
    for section in dataclasses.fields(Settings):
        part = getattr(usual, section.name)
        for option in dataclasses.fields(part):
            key, meta = option.name.replace("_", "-"), option.metadata
            yield Known(section.name, key, meta["check"], getattr(part, option.name), meta["help"])


KNOWN: Mapping[str, Known] = {known.name: known for known in _known()}
"""Every setting, in the order of :mod:`resolverd.settings`."""
SECTIONS: Mapping[str, Mapping[str, Known]] = {
    section.name: {known.key: known for known in KNOWN.values() if known.section == section.name}
    for section in dataclasses.fields(Settings)
}


def replaced(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """``settings`` with the settings named in ``values`` replaced."""
    sections: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        known = KNOWN[name]
        sections.setdefault(known.section, {})[known.field] = value
    parts = {name: dataclasses.replace(getattr(settings, name), **part) for name, part in sections.items()}
    return dataclasses.replace(settings, **parts)


def written(value: Any) -> Any:
    """A setting's value as people write it: what its check takes, and makes the same value of again."""
    if value is None:
        return "auto"
    if isinstance(value, tuple):
        return [written(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {key.replace("_", "-"): part for key, part in dataclasses.asdict(value).items()}
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.12g}s"  # every number is a duration
    return value
