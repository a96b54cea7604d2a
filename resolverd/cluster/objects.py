"""Kubernetes objects, slim and frozen: parsed at the door, never trusted before.

The API's JSON becomes these values or :class:`MalformedObjectError`; unknown fields are dropped. Everything the
API may leave out or set to null (``endpoints``, ``ports``, ``clusterIPs``, ``ready``) is settled here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from sys import intern
from typing import Any, NamedTuple, TypeVar

from .endpoints import Endpoint, Endpoints

Raw = Mapping[str, Any]
T = TypeVar("T")

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
CLUSTER_DNS_LABEL = ("k8s-app", "kube-dns")
"""Whatever it is called: CoreDNS kept the label of its predecessor."""


AFFINITY_SECONDS = 10800
"""What the API server fills in when a service with session affinity names no time."""


class MalformedObjectError(ValueError):
    """An object that cannot be what it says it is; skipped and counted, never fatal."""


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str


class ServicePort(NamedTuple):
    name: str
    """Empty when unnamed."""
    protocol: str
    """As the API spells it: ``TCP``, ``UDP``, ``SCTP``."""
    port: int
    target_port: int | str
    """A number, or the name of a container port."""


@dataclass(frozen=True, slots=True)
class Service:
    namespace: str
    name: str
    type: str
    cluster_ips: tuple[str, ...]
    """Empty for headless and ExternalName services."""
    headless: bool
    external_name: str
    """The target of an ExternalName service as written, else empty."""
    ports: tuple[ServicePort, ...]
    session_affinity: str = "None"
    is_cluster_dns: bool = False
    """Whether it carries the label of the cluster's own DNS service."""
    affinity_seconds: int = AFFINITY_SECONDS
    """How long after its last connection a client keeps its pod, where the session affinity is ``ClientIP``."""
    external_addresses: tuple[str, ...] = ()
    """``externalIPs``, and the load balancer's addresses that the cluster itself serves, too."""

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """There may be ten thousand: pickled several times faster than a dataclass by itself, and smaller after it."""
        return _service_of, (
            self.namespace,
            self.name,
            self.type,
            self.cluster_ips,
            self.headless,
            self.external_name,
            self.ports,
            self.session_affinity,
            self.is_cluster_dns,
            self.affinity_seconds,
            self.external_addresses,
        )


class EndpointPort(NamedTuple):
    name: str
    protocol: str
    port: int | None
    """None: the API gave no number."""


@dataclass(frozen=True, slots=True)
class EndpointSlice:
    namespace: str
    name: str
    service: str
    """Value of the label ``kubernetes.io/service-name``; empty when there is none."""
    endpoints: Endpoints
    ports: tuple[EndpointPort, ...]

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name

    @property
    def service_key(self) -> tuple[str, str]:
        return self.namespace, self.service

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """As :class:`Service` does."""
        return _slice_of, (self.namespace, self.name, self.service, self.endpoints, self.ports)


@dataclass(frozen=True, slots=True)
class Pod:
    namespace: str
    name: str
    address: str
    """As the API spells it; empty until there is one."""
    terminating: bool = False

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class PodList:
    """Not an object of the API: says that every pod of ``namespace``, or (empty) of every one, is known."""

    namespace: str


ClusterObject = Namespace | Service | EndpointSlice | Pod | PodList


@lru_cache(maxsize=1024)
def _shared(value: T) -> T:
    """One object for equal values: most services have the ports of another."""
    return value


def _service_of(namespace: str, name: str, kind: str, *rest: Any) -> Service:
    cluster_ips, headless, external_name, ports, session_affinity, *more = rest
    names = intern(namespace), name, intern(kind)
    return Service(*names, cluster_ips, headless, external_name, _shared(ports), intern(session_affinity), *more)


def _slice_of(
    namespace: str, name: str, service: str, endpoints: Endpoints, ports: tuple[EndpointPort, ...]
) -> EndpointSlice:
    return EndpointSlice(intern(namespace), name, service, endpoints, _shared(ports))


def parse_namespace(raw: Raw) -> Namespace:
    return Namespace(name=_text(_metadata(raw), "name"))


def parse_service(raw: Raw) -> Service:
    metadata, spec = _metadata(raw), _mapping(raw, "spec")
    kind = _text(spec, "type", "ClusterIP")
    addresses = _texts(spec, "clusterIPs") or tuple(filter(None, [_text(spec, "clusterIP", "")]))
    external = kind == "ExternalName"
    headless = not external and addresses[:1] == ("None",)
    return Service(
        namespace=intern(_text(metadata, "namespace")),
        name=_text(metadata, "name"),
        type=intern(kind),
        cluster_ips=() if external or headless else addresses,
        headless=headless,
        external_name=_text(spec, "externalName", "") if external else "",
        ports=_shared(_each(spec, "ports", _service_port)),
        session_affinity=intern(_text(spec, "sessionAffinity", "None")),
        is_cluster_dns=_mapping(metadata, "labels").get(CLUSTER_DNS_LABEL[0]) == CLUSTER_DNS_LABEL[1],
        affinity_seconds=_affinity_seconds(spec),
        external_addresses=_texts(spec, "externalIPs") + _balanced(raw),
    )


def parse_endpoint_slice(raw: Raw) -> EndpointSlice:
    metadata = _metadata(raw)
    namespace = intern(_text(metadata, "namespace"))
    return EndpointSlice(
        namespace=namespace,
        name=_text(metadata, "name"),
        service=_text(_mapping(metadata, "labels"), SERVICE_NAME_LABEL, ""),
        endpoints=Endpoints(_each(raw, "endpoints", lambda item: _endpoint(item, namespace))),
        ports=_shared(_each(raw, "ports", _endpoint_port)),
    )


def parse_pod(raw: Raw) -> Pod:
    metadata = _metadata(raw)
    return Pod(
        namespace=_text(metadata, "namespace"),
        name=_text(metadata, "name"),
        address=_text(_mapping(raw, "status"), "podIP", ""),
        terminating=bool(metadata.get("deletionTimestamp")),
    )


def _service_port(raw: Raw) -> ServicePort:
    port = _number(raw, "port")
    if port is None:
        raise MalformedObjectError("a service port without a number")
    target = raw.get("targetPort") or port
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise MalformedObjectError("targetPort is neither a number nor a name")
    return ServicePort(
        name=intern(_text(raw, "name", "")),
        protocol=intern(_text(raw, "protocol", "TCP")),
        port=port,
        target_port=int(target) if isinstance(target, str) and target.isascii() and target.isdigit() else target,
    )


def _affinity_seconds(spec: Raw) -> int:
    value = _mapping(_mapping(spec, "sessionAffinityConfig"), "clientIP").get("timeoutSeconds")
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else AFFINITY_SECONDS


def _balanced(raw: Raw) -> tuple[str, ...]:
    """The load balancer's addresses, but for those that even pods reach through it (``ipMode: Proxy``, KEP-1860)."""
    ingress = _each(_mapping(_mapping(raw, "status"), "loadBalancer"), "ingress", lambda item: item)
    return tuple(_text(item, "ip", "") for item in ingress if item.get("ip") and item.get("ipMode") != "Proxy")


def _endpoint(raw: Raw, namespace: str) -> Endpoint:
    conditions, target = _mapping(raw, "conditions"), _mapping(raw, "targetRef")
    is_pod = target.get("kind") == "Pod" and target.get("namespace", namespace) == namespace
    return Endpoint(
        addresses=_texts(raw, "addresses"),
        hostname=_text(raw, "hostname", ""),
        ready=conditions.get("ready") is not False,
        terminating=conditions.get("terminating") is True,
        pod=_text(target, "name", "") if is_pod else "",
        serving=conditions.get("serving") is not False,
    )


def _endpoint_port(raw: Raw) -> EndpointPort:
    return EndpointPort(
        name=intern(_text(raw, "name", "")),
        protocol=intern(_text(raw, "protocol", "TCP")),
        port=_number(raw, "port"),
    )


def _metadata(raw: Raw) -> Raw:
    metadata = _mapping(raw, "metadata")
    if not metadata:
        raise MalformedObjectError("no metadata")
    return metadata


def _mapping(raw: Raw, key: str) -> Raw:
    value = raw.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedObjectError(f"{key} is no object")
    return value


def _text(raw: Raw, key: str, default: str | None = None) -> str:
    value = raw.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or (default is None and not value):
        raise MalformedObjectError(f"{key} is no text")
    return value


def _number(raw: Raw, key: str) -> int | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise MalformedObjectError(f"{key} is no port number")
    return value


def _texts(raw: Raw, key: str) -> tuple[str, ...]:
    value = raw.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise MalformedObjectError(f"{key} is no list of text")
    return tuple(value)


def _each(raw: Raw, key: str, parse: Callable[[Raw], T]) -> tuple[T, ...]:
    value = raw.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise MalformedObjectError(f"{key} is no list of objects")
    return tuple(parse(item) for item in value)
