"""What looking a name up brings to light, and what it is looked up with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from resolverd.names import Address, labels

from .claims import Elsewhere
from .index import Dependency, RecordIndex
from .records import Name, Record, Type, wire_name
from .rules import DnsConfig


@dataclass(frozen=True, slots=True)
class Found:
    """The records of one name and type. A name without records may still exist: NODATA, not NXDOMAIN."""

    exists: bool
    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    depends: frozenset[Dependency] = frozenset()
    elsewhere: Elsewhere | None = None
    """Who knows where the last alias leads."""
    is_known: bool = True
    """False while what would decide it has not been listed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a name of ours, with all that its answer is computed from."""

    owner: Name
    """The name as asked, folded: the owner of the records."""
    type: int
    index: RecordIndex
    config: DnsConfig

    def record(self, kind: Type, data: Address | Name | str) -> Record:
        """A record of the asked name."""
        return Record(self.owner, kind, self.config.ttl, data)

    def full_name(self, *relative: str) -> Name | None:
        """The name ``relative`` in the cluster domain; None when cluster data cannot be a name."""
        return wire_name((*relative, *labels(self.config.domain)))


def address_records(owner: Name, ttl: int, addresses: Iterable[Address], kind: int | None = None) -> tuple[Record, ...]:
    """One record for each different address, of type ``kind`` only when it is given, in the order given."""
    typed = ((Type.A if address.version == 4 else Type.AAAA, address) for address in dict.fromkeys(addresses))
    return tuple(Record(owner, found, ttl, address) for found, address in typed if kind in (None, found))
