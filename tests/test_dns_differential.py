"""The server and a second reading of the rules agree about every name of random clusters."""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_network
from typing import Any

from dns_cluster import ask, index_of, shown, shown_name
from dns_oracle import LABEL, Name, Row, Said, World, Zone, expected
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resolverd.cluster.objects import (
    ClusterObject,
    Namespace,
    PodList,
    parse_endpoint_slice,
    parse_pod,
    parse_service,
)
from resolverd.dns.records import Record, Soa, Type
from resolverd.dns.rules import DnsConfig

Raw = dict[str, Any]

NAMESPACES = ("shop", "dev", "svc", "pod")
NAMES = ("web", "db", "tcp", "pod")
KINDS = ("A", "AAAA", "SRV", "PTR", "CNAME", "TXT", "SOA", "NS")
RANGES = ("10.96.0.0/16", "10.244.0.0/22", "fd00:10:96::/112")
CLUSTER_IPS = ("10.96.0.1", "10.96.0.2", "10.96.1.1", "10.244.0.1")
CLUSTER_IPS_6 = ("fd00:10:96::1", "fd00:10:96::a:0")
POD_IPS = ("10.244.0.1", "10.244.0.2", "10.244.1.1", "192.0.2.7", "10.244.0.1")
POD_IPS_6 = ("fd00:244::", "fd00:244::1", "fd00:10:96::1", "fd00:244::1:0:0")


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


def fields(**each: st.SearchStrategy[Any]) -> st.SearchStrategy[Raw]:
    """A mapping in which every key may be missing."""
    return st.fixed_dictionaries({}, optional=each)


PORT_NAMES = st.sampled_from(("http", "dns", "tcp", ""))
PROTOCOLS = st.sampled_from(("TCP", "UDP", "SCTP"))
NUMBERS = st.sampled_from((53, 80, 65535))
SERVICE_PORTS = maybe(
    st.lists(st.fixed_dictionaries({"port": NUMBERS}, optional={"name": PORT_NAMES, "protocol": PROTOCOLS}), max_size=3)
)
SLICE_PORTS = maybe(st.lists(fields(name=maybe(PORT_NAMES), protocol=PROTOCOLS, port=maybe(NUMBERS)), max_size=2))
TARGETS = st.one_of(
    st.builds(
        lambda name, namespace, end: f"{name}.{namespace}.svc.cluster.local{end}",
        st.sampled_from(NAMES),
        st.sampled_from(NAMESPACES),
        st.sampled_from(("", ".")),
    ),
    st.sampled_from(
        ("db.Example.com", "WEB.shop.svc.Cluster.local", "web.shop", "web.dev", "192.0.2.1", "fd00::1", "")
    ),
    st.sampled_from(("10-0-0-1.shop.pod.cluster.local", "cluster.local", "_http._tcp.web.shop.svc.cluster.local")),
)
CLUSTER_IP: st.SearchStrategy[Raw] = st.one_of(
    st.sampled_from(CLUSTER_IPS).map(lambda ip: {"clusterIP": ip}),
    st.sampled_from(CLUSTER_IPS).map(lambda ip: {"clusterIP": ip, "clusterIPs": [ip]}),
    st.tuples(st.sampled_from(CLUSTER_IPS), st.sampled_from(CLUSTER_IPS_6)).map(
        lambda both: {"clusterIP": both[0], "clusterIPs": list(both)}
    ),
    st.just({"type": "LoadBalancer", "clusterIP": "10.96.0.9", "externalIPs": ["203.0.113.1"]}),
    st.just({"clusterIP": ""}),
)
HEADLESS: st.SearchStrategy[Raw] = st.sampled_from(
    (
        {"clusterIP": "None"},
        {"clusterIP": "None", "clusterIPs": ["None"]},
        {"clusterIP": "None", "publishNotReadyAddresses": True},
    )
)
EXTERNAL: st.SearchStrategy[Raw] = TARGETS.map(lambda target: {"type": "ExternalName", "externalName": target})
SPECS = st.one_of(CLUSTER_IP, HEADLESS, HEADLESS, EXTERNAL).flatmap(
    lambda spec: SERVICE_PORTS.map(lambda ports: {**spec, "ports": ports})
)
META = st.fixed_dictionaries({"name": st.sampled_from(NAMES), "namespace": st.sampled_from(NAMESPACES)})
SERVICES = st.builds(lambda meta, spec: {"metadata": meta, "spec": spec}, META, SPECS)
ENDPOINTS = st.builds(
    lambda addresses, rest: {"addresses": addresses, **rest},
    st.one_of(
        st.lists(st.sampled_from(POD_IPS), min_size=1, max_size=2),
        st.lists(st.sampled_from(POD_IPS_6), min_size=1, max_size=2),
    ),
    fields(
        hostname=maybe(st.sampled_from(("db-0", "db-1", "tcp", "10-244-0-9", ""))),
        conditions=maybe(fields(ready=maybe(st.booleans()), serving=st.just(True), terminating=st.booleans())),
        targetRef=st.sampled_from(({"kind": "Pod", "name": "pod-1"}, {"kind": "Node", "name": "n"})),
    ),
)
SLICES = st.builds(
    lambda meta, owned, endpoints, ports: {
        "metadata": {**meta, "labels": {LABEL: meta["name"]} if owned else None},
        "endpoints": endpoints,
        "ports": ports,
    },
    META,
    st.sampled_from((True, True, True, True, False)),
    maybe(st.lists(ENDPOINTS, max_size=3)),
    SLICE_PORTS,
)
PODS = st.builds(
    lambda meta, status: {"metadata": meta, "status": status}, META, fields(podIP=st.sampled_from(POD_IPS + POD_IPS_6))
)


def _keyed(items: list[Raw]) -> tuple[Raw, ...]:
    """One object of each name."""
    return tuple({(raw["metadata"]["namespace"], raw["metadata"]["name"]): raw for raw in items}.values())


def _numbered(items: list[Raw]) -> tuple[Raw, ...]:
    """Slices get names of their own."""
    return tuple(
        {**raw, "metadata": {**raw["metadata"], "name": f"{raw['metadata']['name']}-{n}"}}
        for n, raw in enumerate(items)
    )


WORLDS = st.builds(
    World,
    namespaces=st.lists(st.sampled_from(NAMESPACES), unique=True, min_size=1).map(tuple),
    services=st.lists(SERVICES, max_size=6).map(_keyed),
    slices=st.lists(SLICES, max_size=5).map(_numbered),
    pods=st.lists(PODS, max_size=3).map(_keyed),
    short=st.sampled_from((frozenset[str](), frozenset({"shop"}))),
    ranges=st.sampled_from((RANGES, RANGES[:1], ())),
    pod_records=st.sampled_from(("insecure", "verified", "disabled")),
    pod_names=st.booleans(),
)


def objects(world: World) -> list[ClusterObject]:
    return [
        *(Namespace(name) for name in world.namespaces),
        *map(parse_service, world.services),
        *map(parse_endpoint_slice, world.slices),
        *map(parse_pod, world.pods),
        PodList(""),
    ]


def config(world: World) -> DnsConfig:
    return DnsConfig(
        domain=".".join(world.domain),
        namespaces=world.short,
        ranges=tuple(map(ip_network, world.ranges)),
        pod_records=world.pod_records,
        endpoint_pod_names=world.pod_names,
        own_addresses=(ip_address(world.server),),
    )


WORDS = (
    *("x", "_tcp", "tcp", "_", "_http", "web", "svc", "pod", "shop", "nope", "1", "0", "10-0-0-1", "10-244-0-1"),
    *("fd00-244--1", "10-0-0-256", "cluster", "local", "any", "*"),
)


def names(zone: Zone, chance: random.Random) -> list[Name]:
    """Names that exist, their neighbours, and their parents."""
    world = zone.world
    found: list[Name] = [("web", "shop"), (), ("local",), ("example", "com"), ("10", "in-addr", "arpa")]
    found += [
        tuple(ip_address(ip).reverse_pointer.split(".")) for ip in (*CLUSTER_IPS, *CLUSTER_IPS_6, *POD_IPS, *POD_IPS_6)
    ]
    for known in (*zone.records, *zone.aliases):
        if known[-1:] == ("arpa",):
            found.append(known)
            continue
        found += [(*known, *world.domain), known]
        if known[-1:] == ("svc",):
            found.append(known[:-1])
    chosen = chance.sample(found, min(len(found), 25))
    return [*chosen, *(_near(name, chance) for name in chosen)]


def _near(name: Name, chance: random.Random) -> Name:
    place = chance.randrange(len(name) + 1)
    match chance.randrange(4):
        case 0:
            return name[chance.randrange(3) :]
        case 1:
            return (*name[:place], chance.choice(WORDS), *name[place:])
        case 2:
            return (*name[:place], chance.choice(WORDS), *name[place + 1 :])
    return (chance.choice(WORDS), *name)


def _rows(records: tuple[Record, ...]) -> set[Row]:
    """Owners without their capitals, of which an alias's target may have some: to DNS they are the same (RFC 4343)."""
    return {
        (shown_name(each.owner).lower(), each.type.name, "" if isinstance(each.data, Soa) else shown(each))
        for each in records
    }


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(WORLDS, st.integers(0, 2**32))
def test_two_readings_of_the_rules_agree(world: World, seed: int) -> None:
    chance = random.Random(seed)
    zone, index, settled = Zone(world), index_of(objects(world)), config(world)
    for name in names(zone, chance):
        for kind in chance.sample(KINDS, 4):
            spelled = ".".join(label.upper() if chance.random() < 0.2 else label for label in name)
            found = ask(spelled, kind, index, settled)
            soa = [shown_name(record.owner) for record in found.authority]
            said = Said(found.rcode.name, _rows(found.answer), _rows(found.additional), "".join(soa))
            assert said == expected(zone, name, kind), (spelled, kind)
            aliases = [record.type == Type.CNAME for record in found.answer]
            assert aliases == sorted(aliases, reverse=True), "aliases come first"
