"""From a question to its answer: a pure function of the question, the index and the configuration."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .claims import Claim, Elsewhere, claim_of
from .found import Asked, Found, address_records
from .index import Dependency, RecordIndex
from .pods import find_pod
from .records import Name, Rcode, Record, Soa, Type, fold_name, text_labels, wire_name
from .reverse import find_reverse
from .rules import DnsConfig, Kind, Labels, Zone
from .services import find_service

VERSION = "1.1.0"
"""Of the Kubernetes DNS specification that is followed."""
VERSION_TTL = 28800
"""Seconds, as CoreDNS has it."""
MAX_SOA_TTL = 300
"""Seconds."""
MAX_ALIASES = 11
"""Aliases in a row; CoreDNS gives up there too."""


@dataclass(frozen=True, slots=True)
class ExtendedError:
    """Why, in words (RFC 8914)."""

    code: int
    text: str


NOT_READY = ExtendedError(14, "the cluster has not been listed yet")
NO_PODS = ExtendedError(14, "the pods have not been listed; resolverd status says why")
NOT_AUTHORITATIVE = ExtendedError(20, "not a name of the cluster")
NOT_REACHABLE = ExtendedError(22, "the cluster's DNS service cannot be reached")
NOT_SUPPORTED = ExtendedError(21, "only class IN, and no transfers")


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say, and what would change it."""

    rcode: Rcode
    authoritative: bool = True
    answer: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    error: ExtendedError | None = None
    depends: frozenset[Dependency] = frozenset()
    lasting: bool = True
    """Whether it holds until something in ``depends``, the configuration or being in step changes."""
    elsewhere: Elsewhere | None = None
    """Who has the answer, or what follows its last alias; this one is for when nobody can be asked."""


NOBODYS = Answer(Rcode.REFUSED, authoritative=False, error=NOT_AUTHORITATIVE, lasting=False)
"""To a question that is not ours to answer."""
UNREACHABLE = Answer(Rcode.SERVFAIL, authoritative=False, error=NOT_REACHABLE, lasting=False)
"""To a question that only the cluster's own DNS service can answer."""


def answer(name: Name, kind: int, index: RecordIndex, config: DnsConfig) -> Answer:
    """The answer to a question of class IN for ``name``, spelled in any case, and type ``kind``.

    Until the cluster has been listed nothing is denied, and nobody's names are not known to be nobody's; unless the
    settings have its namespaces already, as when this process was started again.
    """
    claim = claim_of(text_labels(name), config)
    zone, synced = claim.zone, index.snapshot.synced
    if zone is None:
        nobodys = claim.is_settled or (claim.elsewhere is Elsewhere.UPSTREAM and bool(config.namespaces))
        return _ask_others(claim, config) if synced or nobodys else _NOT_YET
    asked = Asked(fold_name(name), kind, index, config)
    if not synced and not _is_constant(zone, asked):
        return replace(_NOT_YET, authoritative=True, authority=(_soa(zone, asked),))
    found = _find(zone, asked)
    if kind != Type.CNAME:
        found = _follow(found, asked)
    if not found.is_known:
        return replace(_NOT_YET, authoritative=True, authority=(_soa(zone, asked),), error=NO_PODS)
    if not found.exists:
        if claim.elsewhere is not None:
            return replace(_ask_others(claim, config), depends=found.depends)
        return Answer(Rcode.NXDOMAIN, authority=(_soa(zone, asked),), depends=found.depends)
    authority = () if found.records else (_soa(zone, asked),)
    beyond = _reachable(found.elsewhere, config)
    known = Answer(Rcode.NOERROR, True, found.records, authority, found.additional, None, found.depends)
    return replace(known, lasting=False, elsewhere=beyond) if beyond else known


_NOT_YET = Answer(Rcode.SERVFAIL, authoritative=False, error=NOT_READY, lasting=False)


def _ask_others(claim: Claim, config: DnsConfig) -> Answer:
    """Not ours to say: whom to ask, and what to say when nobody can be asked."""
    failure = UNREACHABLE if claim.elsewhere is Elsewhere.CLUSTER else NOBODYS
    return replace(failure, elsewhere=_reachable(claim.elsewhere, config))


def _reachable(elsewhere: Elsewhere | None, config: DnsConfig) -> Elsewhere | None:
    return None if elsewhere is Elsewhere.UPSTREAM and not config.upstreams else elsewhere


def _is_constant(zone: Zone, asked: Asked) -> bool:
    """Whether the name is answered the same in every cluster, so that it need not have been listed."""
    if zone.kind is Kind.MAPPED:
        mapped = asked.config.mappings[text_labels(asked.owner)]
        return not isinstance(mapped, tuple) or claim_of(mapped, asked.config) == Claim(is_settled=True)
    return zone.kind is not Kind.REVERSE and zone.rest in ((), ("svc",), ("pod",), ("dns-version",))


def _find(zone: Zone, asked: Asked) -> Found:
    at_apex = len(asked.owner) == zone.depth
    if at_apex and asked.type == Type.SOA:
        return Found(True, (_soa(zone, asked),))
    if zone.kind is Kind.REVERSE:
        found = find_reverse(zone.network, asked)
        return replace(found, exists=found.exists or at_apex)
    if zone.kind is Kind.MAPPED:
        return _mapped(asked)
    if at_apex and zone.kind is Kind.CLUSTER:
        return _name_server(asked) if asked.type == Type.NS else Found(True)
    return _in_cluster(zone.rest, asked)


def _in_cluster(rest: Labels, asked: Asked) -> Found:
    """Look up a name relative to the cluster domain, read from the right."""
    match rest:
        case () | ("svc",) | ("dns",):
            return Found(True)
        case (namespace, "svc"):
            return Found(namespace in asked.index.snapshot.namespaces, depends=frozenset({namespace}))
        case (*front, service, namespace, "svc"):
            return find_service(tuple(front), (namespace, service), asked)
        case (*front, "pod"):
            return find_pod(tuple(front), asked)
        case ("dns-version",):
            version = Record(asked.owner, Type.TXT, VERSION_TTL, VERSION)
            return Found(True, (version,) if asked.type == Type.TXT else ())
        case ("ns", "dns"):
            return Found(True, _own_addresses(asked.owner, asked, asked.type))
    return Found(False)


def _name_server(asked: Asked) -> Found:
    """NS at the apex: this server, when it has an address that means something to others."""
    name = asked.full_name("ns", "dns")
    if name is None or not (addresses := _own_addresses(name, asked)):
        return Found(True)
    return Found(True, (asked.record(Type.NS, name),), addresses)


def _own_addresses(owner: Name, asked: Asked, kind: int | None = None) -> tuple[Record, ...]:
    shown = (address for address in asked.config.own_addresses if not (address.is_loopback or address.is_unspecified))
    return address_records(owner, asked.config.ttl, shown, kind)


def _follow(found: Found, asked: Asked) -> Found:
    """Append what an alias leads to. A target that others answer for stays a lone CNAME.

    An alias that leads to no record of the type inside the zone, or round in circles, is left out: NODATA.
    """
    chain: list[Record] = []
    depends = found.depends
    while found.records and found.records[0].type == Type.CNAME:
        alias = found.records[0]
        chain.append(alias)
        target = alias.data if isinstance(alias.data, tuple) else ()
        if len(chain) > MAX_ALIASES or any(fold_name(target) == fold_name(one.owner) for one in chain):
            return Found(True, depends=depends)
        claim = claim_of(text_labels(target), asked.config)
        found = _find(claim.zone, replace(asked, owner=target)) if claim.zone else Found(False)
        depends |= found.depends
        if not found.is_known:
            return found
        if not found.exists and claim.elsewhere is not None:
            return Found(True, tuple(chain), (), depends, claim.elsewhere)
    if not chain:
        return found
    records = (*chain, *found.records) if found.records else ()
    return Found(True, records, found.additional, depends)


def _mapped(asked: Asked) -> Found:
    """A name of the user's own."""
    mapped = asked.config.mappings[text_labels(asked.owner)]
    if not isinstance(mapped, tuple):
        kind = asked.type if asked.type in (Type.A, Type.AAAA) else 0
        return Found(True, address_records(asked.owner, asked.config.ttl, (mapped,), kind))
    target = wire_name(mapped)
    return Found(True, (asked.record(Type.CNAME, target),) if target else ())


def _soa(zone: Zone, asked: Asked) -> Record:
    """The SOA of ``zone``, with the zone as its owner in the spelling of the question."""
    owner = asked.owner[len(asked.owner) - zone.depth :]
    domain = owner if zone.kind is not Kind.SHORT else (asked.full_name() or owner)
    ttl, serial = asked.config.ttl, asked.index.snapshot.serial if asked.index.snapshot.synced else 0
    soa = Soa((b"ns", b"dns", *domain), (b"hostmaster", *domain), serial, ttl)
    return Record(owner, Type.SOA, min(ttl, MAX_SOA_TTL), soa)
