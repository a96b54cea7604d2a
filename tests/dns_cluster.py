"""A small cluster with everything that its names can be about, and questions to it."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from resolverd.cluster.objects import (
    ClusterObject,
    EndpointSlice,
    Namespace,
    Pod,
    PodList,
    Service,
    parse_endpoint_slice,
    parse_service,
)
from resolverd.cluster.snapshot import Change, Kind, Snapshot, Touched, fold, key_of
from resolverd.dns.answer import Answer, answer
from resolverd.dns.index import RecordIndex
from resolverd.dns.records import Name, Record, Soa, Srv, Type
from resolverd.dns.rules import DnsConfig

NAMESPACES = ("shop", "empty", "svc", "pod", "local", "any", "dev")
CONFIG = DnsConfig(
    namespaces=frozenset({"shop", "empty", "any"}),
    ranges=(ip_network("10.96.0.0/12"), ip_network("10.244.0.0/16"), ip_network("fd00:10:96::/112")),
    own_addresses=(ip_address("198.18.53.1"),),
)
SERIAL = 1_700_000_000


def service(name: str, namespace: str = "shop", **spec: object) -> Service:
    """A Service as the API gives it."""
    return parse_service({"metadata": {"name": name, "namespace": namespace}, "spec": spec})


def port(name: str, number: int | None, protocol: str = "TCP") -> dict[str, object]:
    return {"name": name, "port": number, "protocol": protocol}


def endpoint(*addresses: str, **more: object) -> dict[str, object]:
    return {"addresses": list(addresses), **more}


def slice_of(
    owner: str,
    endpoints: list[dict[str, object]] | None,
    ports: list[dict[str, object]] | None,
    suffix: str = "1",
    namespace: str = "shop",
) -> EndpointSlice:
    """An EndpointSlice as the API gives it; without an owner, without the label."""
    labels = {"kubernetes.io/service-name": owner} if owner else {}
    metadata = {"name": f"{owner}-{suffix}", "namespace": namespace, "labels": labels}
    return parse_endpoint_slice({"metadata": metadata, "endpoints": endpoints, "ports": ports})


HTTP, HTTP_POD, PG = port("http", 80), port("http", 8080), port("pg", 5432)
NOT_READY = {"conditions": {"ready": False, "serving": True}}

OBJECTS: tuple[ClusterObject, ...] = (
    *(Namespace(name) for name in NAMESPACES),
    service("web", clusterIPs=["10.96.0.7"], ports=[HTTP, port("metrics", 9090)]),
    slice_of("web", [endpoint("10.244.0.11"), endpoint("10.244.0.12", conditions={"ready": None})], [HTTP_POD]),
    service("old", clusterIP="10.96.0.8", ports=[port("", 80)]),
    service("dual", clusterIPs=["10.96.0.9", "fd00:10:96::9"], ports=[HTTP]),
    service("dns", clusterIPs=["10.96.0.10"], ports=[port("dns", 53, "UDP"), port("dns-tcp", 53), HTTP]),
    service("bare", clusterIPs=["10.96.0.11"], ports=[HTTP]),
    service("db", clusterIPs=["None"], clusterIP="None", ports=[PG]),
    slice_of(
        "db",
        [
            endpoint("10.244.0.21", hostname="db-0"),
            endpoint("10.244.0.22", hostname="db-1", conditions={}),
            endpoint("10.244.0.23", hostname="db-2", **NOT_READY),
            endpoint("10.244.0.24", targetRef={"kind": "Pod", "name": "db-pod"}),
        ],
        [port("pg", 15432)],
    ),
    slice_of("db", [endpoint("10.244.0.21", hostname="db-0")], [port("pg", 15432)], "2"),
    service("six", clusterIP="None", ports=[HTTP]),
    slice_of("six", [endpoint("fd00:244::"), endpoint("fd00:244::1")], [port("http", 8080)]),
    service("down", clusterIP="None", ports=[PG]),
    slice_of("down", [endpoint("10.244.0.31", **NOT_READY)], [PG]),
    service("nothing", clusterIP="None", ports=[PG]),
    slice_of("nothing", None, [PG]),
    service("portless", clusterIP="None"),
    slice_of("portless", [endpoint("10.244.0.41")], None),
    service("portnull", clusterIP="None"),
    slice_of("portnull", [endpoint("10.244.0.42")], [port("x", None)]),
    service("twins", clusterIP="None", ports=[PG]),
    slice_of(
        "twins",
        [
            endpoint("10.244.0.51", hostname="one"),
            endpoint("10.244.0.51", hostname="two"),
            endpoint("10.244.0.52", "fd00:244::52", hostname="both"),
        ],
        [PG],
    ),
    slice_of("gone", [endpoint("10.244.0.61", hostname="left")], [PG]),
    slice_of("", [endpoint("10.244.0.62"), endpoint("10.244.98.1")], [PG]),
    slice_of("idle", [endpoint("10.244.97.1", **NOT_READY)], [PG]),
    slice_of("stray", [endpoint("192.0.2.9", hostname="far")], [PG]),
    service("outside", type="ExternalName", externalName="db.Example.com."),
    service("inside", type="ExternalName", externalName="web.shop.svc.cluster.local"),
    service("twice", type="ExternalName", externalName="inside.shop.svc.cluster.local"),
    service("far", type="ExternalName", externalName="outside.shop.svc.cluster.local"),
    service("dangling", type="ExternalName", externalName="nope.shop.svc.cluster.local"),
    service("itself", type="ExternalName", externalName="itself.shop.svc.cluster.local"),
    service("ping", type="ExternalName", externalName="pong.shop.svc.cluster.local"),
    service("pong", type="ExternalName", externalName="ping.shop.svc.cluster.local"),
    service("literal", type="ExternalName", externalName="192.0.2.1"),
    *(service(f"hop{n}", type="ExternalName", externalName=f"hop{n + 1}.shop.svc.cluster.local") for n in range(12)),
    service("hop12", clusterIPs=["10.96.0.12"], ports=[HTTP]),
    service("web", "svc", clusterIPs=["10.96.1.1"], ports=[HTTP]),
    service("web", "pod", clusterIPs=["10.96.1.2"], ports=[HTTP]),
    service("cluster", "local", clusterIPs=["10.96.1.3"], ports=[HTTP]),
    service("any", "any", clusterIPs=["10.96.1.4"], ports=[HTTP]),
    service("web", "dev", clusterIPs=["10.96.1.5"], ports=[HTTP]),
    service("lost", "deleted", clusterIPs=["10.96.1.6"], ports=[HTTP]),
)

_KINDS = {
    Namespace: Kind.NAMESPACE,
    Service: Kind.SERVICE,
    EndpointSlice: Kind.SLICE,
    Pod: Kind.POD,
    PodList: Kind.POD_LIST,
}


def put(item: ClusterObject) -> Change:
    return Change(_KINDS[type(item)], key_of(item), item)


def gone(item: ClusterObject) -> Change:
    return Change(_KINDS[type(item)], key_of(item), None)


def index_of(objects: Iterable[ClusterObject] = OBJECTS, *, synced: bool = True) -> RecordIndex:
    index = RecordIndex()
    snapshot, touched = fold(Snapshot(), map(put, objects), synced=synced, serial=SERIAL)
    index.update(snapshot, touched)
    return index


def apply(index: RecordIndex, *changes: Change) -> Touched:
    snapshot, touched = fold(index.snapshot, changes)
    index.update(snapshot, touched)
    return touched


def name_of(text: str) -> Name:
    """``text`` as a wire name, its case kept."""
    return tuple(label.encode() for label in text.removesuffix(".").split(".")) if text not in ("", ".") else ()


def shown_name(name: Name) -> str:
    return b".".join(name).decode() + "."


def shown(record: Record) -> str:
    """The data of a record as dig shows it."""
    match record.data:
        case tuple():
            return shown_name(record.data)
        case Srv(priority, weight, number, target):
            return f"{priority} {weight} {number} {shown_name(target)}"
        case Soa(mname, rname, serial, minimum):
            return f"{shown_name(mname)} {shown_name(rname)} {serial} {minimum}"
    return str(record.data)


def ask(name: str, kind: int | str, index: RecordIndex, config: DnsConfig = CONFIG) -> Answer:
    return answer(name_of(name), Type[kind] if isinstance(kind, str) else kind, index, config)


def short(found: Answer) -> str:
    """The records' data, or why there are none."""
    if found.answer:
        return ", ".join(shown(record) for record in found.answer)
    return "NODATA" if found.rcode == 0 else found.rcode.name
