"""Who answers for a name: we ourselves, the cluster's DNS service, an upstream. Settings and zones in, one value out.

The most specific rule wins, whatever the order of the lists: of two suffixes the longer one, of an include and an
exclude of equal length the include. A mapping is above all of them, and ``wpad.*`` is never the cluster's: whoever
may create a service of that name would choose the proxy of every browser that searches the cluster.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import Enum

from .rules import DnsConfig, Kind, Labels, Zone, zone_of

WPAD = "wpad"


class Elsewhere(Enum):
    """Who is asked for what we do not have."""

    UPSTREAM = "an upstream"
    CLUSTER = "the cluster's DNS service"


@dataclass(frozen=True, slots=True)
class Claim:
    """Who answers for a name."""

    zone: Zone | None = None
    """Where we look ourselves, before anybody is asked."""
    elsewhere: Elsewhere | None = Elsewhere.UPSTREAM
    """Who is asked for what ``zone`` does not have; None: that does not exist."""
    is_settled: bool = False
    """Whether the settings alone say so, so that the cluster need not have been listed."""


def claim_of(name: Labels, config: DnsConfig) -> Claim:
    """Who answers for ``name``."""
    if name in config.mappings:
        return Claim(Zone(Kind.MAPPED, len(name)), None, is_settled=True)
    zone = zone_of(name, config)
    included = longest_suffix(name, config.includes)
    if _is_excluded(name, zone, included, config):
        return Claim(is_settled=True)
    if zone is not None and not _is_watched(zone, config):
        return Claim(zone if zone.kind is Kind.REVERSE else None, Elsewhere.CLUSTER)
    if zone is not None and zone.is_whole and (not included or _is_known_whole(name, zone)):
        return Claim(zone, None)
    return Claim(zone, Elsewhere.CLUSTER if included else Elsewhere.UPSTREAM)


def longest_suffix(name: Labels, suffixes: Container[Labels]) -> int:
    """How many labels the longest of ``suffixes`` that ``name`` lies in has; 0: it lies in none."""
    for start in range(len(name)):
        if name[start:] in suffixes:
            return len(name) - start
    return 0


def _is_excluded(name: Labels, zone: Zone | None, included: int, config: DnsConfig) -> bool:
    if name[:1] == (WPAD,) or name in config.excludes:
        return True
    excluded = longest_suffix(name, config.excluded_suffixes)
    return excluded > included and excluded >= (zone.depth if zone else 0)


def _is_watched(zone: Zone, config: DnsConfig) -> bool:
    """Whether all that may be in ``zone`` is known to us: somebody may have rights in a few namespaces only."""
    if config.watched is None or zone.kind is Kind.MAPPED:
        return True
    if zone.kind is Kind.REVERSE:
        return not zone.is_whole
    return len(zone.rest) < 2 or zone.rest[-1] not in ("svc", "pod") or zone.rest[-2] in config.watched


def _is_known_whole(name: Labels, zone: Zone) -> bool:
    """Whether the watch knows everything below ``zone``, so that an include inside it adds nothing."""
    return zone.kind is Kind.CLUSTER or name[-1:] == ("svc",)
