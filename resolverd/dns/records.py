"""Records as values, and names as the wire has them: tuples of labels that may hold any octet."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from resolverd.names import Address

Name = tuple[bytes, ...]
"""Labels, leftmost first; the root is ``()``."""

MAX_WIRE_NAME = 255
"""Octets, length octets and root included (RFC 1035 2.3.4)."""
MAX_LABEL = 63
CLASS_IN = 1


class Type(IntEnum):
    """Record and question types that mean something to us (IANA "Resource Record (RR) TYPEs")."""

    A = 1
    NS = 2
    CNAME = 5
    SOA = 6
    PTR = 12
    TXT = 16
    AAAA = 28
    SRV = 33
    OPT = 41
    IXFR = 251
    AXFR = 252
    ANY = 255


class Rcode(IntEnum):
    """Response codes (IANA "DNS RCODEs")."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


@dataclass(frozen=True, slots=True)
class Srv:
    """RFC 2782."""

    priority: int
    weight: int
    port: int
    target: Name


@dataclass(frozen=True, slots=True)
class Soa:
    """RFC 1035 3.3.13; times in seconds."""

    mname: Name
    rname: Name
    serial: int
    minimum: int
    refresh: int = 7200
    retry: int = 1800
    expire: int = 86400


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record of class IN."""

    owner: Name
    type: Type
    ttl: int
    """Seconds."""
    data: Address | Name | Srv | Soa | str
    """An address for A and AAAA, a name for NS, CNAME and PTR, text for TXT."""


def wire_length(name: Name) -> int:
    """Octets of ``name`` on the wire, uncompressed."""
    return sum(len(label) for label in name) + len(name) + 1


def wire_octets(name: Name) -> bytes:
    """``name`` on the wire, uncompressed."""
    return b"".join(bytes((len(label),)) + label for label in name) + b"\0"


def fold_name(name: Name) -> Name:
    """ASCII letters in lower case (RFC 4343); ``bytes.lower`` touches no other octet."""
    return tuple(label.lower() for label in name)


def text_labels(name: Name) -> tuple[str, ...]:
    """The labels of a wire name as folded text, one character an octet."""
    return tuple(label.lower().decode("latin-1") for label in name)


def wire_name(labels: tuple[str, ...]) -> Name | None:
    """``labels`` of cluster data as a wire name; None when they cannot be one (empty, too long, a dot inside)."""
    name = tuple(label.encode("ascii", "replace") for label in labels)
    fits = all(label.isascii() and 0 < len(label) <= MAX_LABEL and "." not in label for label in labels)
    return name if fits and wire_length(name) <= MAX_WIRE_NAME else None


def parse_name(text: str) -> Name | None:
    """A text name, with or without the final dot, as a wire name; letters keep their case."""
    return wire_name(tuple(text.removesuffix(".").split(".")))
