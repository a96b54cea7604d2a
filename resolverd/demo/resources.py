"""The resources that the demo cluster serves, in one table; everything that asks "which" reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

_ALWAYS = frozenset({"metadata.name", "metadata.namespace"})
_EVERY_VERB = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """One row of API discovery."""

    group: str
    """Empty for the core group."""
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    in_all: bool = False
    """Whether ``kubectl get all`` shows it."""
    verbs: tuple[str, ...] = _EVERY_VERB
    selectable: frozenset[str] = field(default=_ALWAYS)
    """Fields that a field selector may name."""
    subresources: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """(name, kind, verbs) of each."""
    generation: bool = False
    """Whether ``metadata.generation`` counts changes of the specification."""
    returns_deleted: bool = False
    """Whether a delete answers with the object rather than with a Status."""

    @property
    def version(self) -> str:
        return "v1"

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def qualified(self) -> str:
        """As messages name it: ``services``, ``endpointslices.discovery.k8s.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


def _selectable(*fields: str) -> frozenset[str]:
    return _ALWAYS | frozenset(fields)


NAMESPACES = Resource(
    "", "namespaces", "Namespace", namespaced=False, short=("ns",), selectable=_selectable("status.phase"),
    verbs=tuple(verb for verb in _EVERY_VERB if verb != "deletecollection"), returns_deleted=True,
)  # fmt: skip
SERVICES = Resource(
    "", "services", "Service", short=("svc",), in_all=True,
    selectable=_selectable("spec.clusterIP", "spec.type"), returns_deleted=True,
)  # fmt: skip
PODS = Resource(
    "", "pods", "Pod", short=("po",), in_all=True, generation=True, returns_deleted=True,
    selectable=_selectable(
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
        "status.phase", "status.podIP",
    ),
    subresources=(("portforward", "PodPortForwardOptions", ("create", "get")),),
)  # fmt: skip
NODES = Resource(
    "", "nodes", "Node", namespaced=False, short=("no",), selectable=_selectable("spec.unschedulable")
)  # fmt: skip
EVENTS = Resource(
    "", "events", "Event", short=("ev",),
    selectable=_selectable(
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
        "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath",
        "reason", "reportingComponent", "source", "type",
    ),
)  # fmt: skip
CONFIGMAPS = Resource("", "configmaps", "ConfigMap", short=("cm",))
ENDPOINT_SLICES = Resource("discovery.k8s.io", "endpointslices", "EndpointSlice", generation=True)
SERVICE_CIDRS = Resource("networking.k8s.io", "servicecidrs", "ServiceCIDR", namespaced=False)
ACCESS_REVIEWS = Resource(
    "authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False, verbs=("create",)
)
RULES_REVIEWS = Resource(
    "authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview", namespaced=False, verbs=("create",)
)

STORED = (NAMESPACES, SERVICES, PODS, NODES, EVENTS, CONFIGMAPS, ENDPOINT_SLICES, SERVICE_CIDRS)
"""Resources whose objects are kept; the reviews are answered and forgotten."""
ALL = (*STORED, ACCESS_REVIEWS, RULES_REVIEWS)

_BY_PATH = {(resource.group, resource.plural): resource for resource in ALL}
_BY_KIND = {(resource.api_version, resource.kind): resource for resource in STORED}


def by_path(group: str, plural: str) -> Resource | None:
    return _BY_PATH.get((group, plural))


def by_kind(api_version: object, kind: object) -> Resource | None:
    """The stored resource whose objects say ``apiVersion`` and ``kind`` so."""
    return _BY_KIND.get((api_version, kind)) if isinstance(api_version, str) and isinstance(kind, str) else None


@dataclass(frozen=True, slots=True)
class Target:
    """What a request path names."""

    resource: Resource
    namespace: str = ""
    """Empty: the whole cluster."""
    name: str = ""
    subresource: str = ""


def parse_path(path: str) -> Target | None:
    """The resource that ``/api/v1/...`` or ``/apis/GROUP/v1/...`` names; None when we have no such thing."""
    parts = path.strip("/").split("/")
    match parts:
        case ["api", "v1", *rest]:
            group = ""
        case ["apis", group, "v1", *rest]:
            pass
        case _:
            return None
    namespace = ""
    match rest:
        case ["namespaces", namespace, plural, *tail]:
            pass
        case [plural, *tail]:
            pass
        case _:
            return None
    resource = by_path(group, plural)
    if resource is None or len(tail) > 2 or (namespace and not resource.namespaced) or "" in parts:
        return None
    name, subresource = (*tail, "", "")[:2]
    if resource.namespaced and name and not namespace:
        return None
    if subresource and subresource not in {known for known, _, _ in resource.subresources}:
        return None
    return Target(resource, namespace, name, subresource)
