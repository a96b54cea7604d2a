"""Writing: validation, defaults, addresses, versions — what stands between a request and the store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from .addresses import generated_name
from .defaults import with_defaults
from .resources import NAMESPACES, SERVICES, Resource
from .service_addresses import ServiceAddresses
from .shapes import fitted
from .status import already_exists, bad_request, conflict, forbidden, not_found
from .store import Store
from .validation import validate, validate_name

Raw = dict[str, Any]

_KEPT = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
_PERMANENT = ("default", "kube-system", "kube-public")


def now() -> str:
    """The time as Kubernetes writes it: RFC 3339, UTC, whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Registry:
    """The one way to change the cluster; requests, controllers and tests all go through it."""

    def __init__(self, store: Store, services: ServiceAddresses) -> None:
        self.store = store
        self._services = services

    def get(self, resource: Resource, namespace: str, name: str) -> Raw:
        """StatusError 404."""
        found = self.store.get(resource, namespace, name)
        if found is None:
            raise not_found(resource, name)
        return found

    def create(self, resource: Resource, namespace: str, given: Raw) -> Raw:
        """Create the object that ``given`` describes; in the namespace that it names, when ``namespace`` is empty.

        StatusError 400, 403, 404, 409, 422.
        """
        raw = self._identified(resource, namespace, given)
        name = raw["metadata"].get("name", "")
        validate_name(resource, name)
        if resource.namespaced:
            self._check_namespace(resource, raw["metadata"]["namespace"], name)
        if self.store.get(resource, raw["metadata"].get("namespace", ""), name):
            raise already_exists(resource, name)
        raw = with_defaults(resource, raw)
        validate(resource, raw)
        if resource is SERVICES:
            raw = self._services.assign(raw)
        return self.store.put(resource, raw)

    def replace(self, resource: Resource, namespace: str, name: str, given: Raw) -> Raw:
        """Put ``given`` in the place of the object of that name. StatusError 400, 404, 409, 422."""
        before = self.get(resource, namespace, name)
        given = fitted(resource, given)
        metadata = given.get("metadata", {})
        if metadata.get("name", name) != name:
            raise bad_request("the name of the object does not match the name on the URL")
        if metadata.get("namespace", namespace) != namespace:
            raise bad_request("the namespace of the object does not match the namespace on the URL")
        if metadata.get("resourceVersion") not in (None, "", before["metadata"]["resourceVersion"]):
            raise conflict(resource, name)
        kept = {key: before["metadata"][key] for key in _KEPT if key in before["metadata"]}
        metadata = {**metadata, **kept, "name": name, "namespace": namespace}
        raw = _shaped(resource, {**given, "metadata": metadata})
        raw = with_defaults(resource, {**raw, **({"status": before["status"]} if "status" in before else {})})
        validate(resource, raw)
        if resource is SERVICES:
            raw = self._services.assign(raw, before)
        return self._update(resource, before, raw)

    def set_status(self, resource: Resource, raw: Raw, **fields: Any) -> Raw:
        """What controllers write: top-level ``fields`` of an object they just read; no change makes no event."""
        after = {**raw, **fields}
        return raw if after == raw else self.store.put(resource, after)

    def delete(self, resource: Resource, namespace: str, name: str) -> Raw:
        """Delete; namespaces only begin to go, and the controllers finish them. StatusError 403, 404."""
        found = self.get(resource, namespace, name)
        if resource is not NAMESPACES:
            if resource is SERVICES:
                self._services.release(found)
            return self.store.remove(resource, namespace, name)
        if name in _PERMANENT:
            raise forbidden(resource, name, "this namespace may not be deleted")
        if "deletionTimestamp" in found["metadata"]:
            return found
        metadata = {**found["metadata"], "deletionTimestamp": now()}
        return self.store.put(resource, {**found, "metadata": metadata, "status": {"phase": "Terminating"}})

    def _identified(self, resource: Resource, namespace: str, given: Raw) -> Raw:
        """A copy with name, namespace, uid and time of birth."""
        if (given.get("apiVersion"), given.get("kind")) != (resource.api_version, resource.kind):
            said = f"{given.get('apiVersion')}, Kind={given.get('kind')}"
            raise bad_request(f"the object provided is unrecognized: {said}, but expected {resource.kind}")
        given = fitted(resource, given)
        metadata = given.get("metadata", {})
        own = metadata.pop("namespace", "")
        if resource.namespaced:
            if own and namespace and own != namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request"
                )
            metadata["namespace"] = namespace or own or "default"
        prefix = metadata.get("generateName")
        if not metadata.get("name") and prefix:
            metadata["name"] = generated_name(prefix, prefix, str(self.store.version))
        identity = f"{resource.qualified}/{metadata.get('namespace')}/{metadata.get('name')}@{self.store.version}"
        metadata |= {"uid": str(uuid5(NAMESPACE_URL, identity)), "creationTimestamp": now()}
        metadata |= {"generation": 1} if resource.generation else {}
        return _shaped(resource, {**given, "metadata": metadata})

    def _check_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        found = self.store.get(NAMESPACES, "", namespace)
        if found is None:
            raise not_found(NAMESPACES, namespace)
        if found["status"]["phase"] == "Terminating":
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            raise forbidden(resource, name, why)

    def _update(self, resource: Resource, before: Raw, after: Raw) -> Raw:
        metadata = {**after["metadata"], "resourceVersion": before["metadata"]["resourceVersion"]}
        if resource.generation:
            metadata["generation"] = before["metadata"]["generation"] + int(_content(before) != _content(after))
        after = {**after, "metadata": metadata}
        return before if after == before else self.store.put(resource, after)


def _content(raw: Raw) -> Raw:
    """What ``metadata.generation`` counts the changes of."""
    return {key: value for key, value in raw.items() if key not in ("metadata", "status")}


def _shaped(resource: Resource, raw: Raw) -> Raw:
    """``kind``, ``apiVersion`` and ``metadata`` first, and the metadata in the order of the API."""
    order = (
        "name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
        "deletionTimestamp", "deletionGracePeriodSeconds", "labels", "annotations", "ownerReferences", "finalizers",
    )  # fmt: skip
    metadata = {key: raw["metadata"][key] for key in order if raw["metadata"].get(key) not in (None, "", {}, [])}
    rest = {key: value for key, value in raw.items() if key not in ("kind", "apiVersion", "metadata")}
    return {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata, **rest}
