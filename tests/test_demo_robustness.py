"""Objects with anything in any field: refused with a Status, or taken, and the controllers go on either way."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from resolverd.demo import tables
from resolverd.demo.bootstrap import SAMPLES, SYSTEM
from resolverd.demo.cluster import DemoCluster
from resolverd.demo.manifests import read_directory
from resolverd.demo.resources import by_kind
from resolverd.demo.status import StatusError

MANIFESTS = [item for part in (SYSTEM, SAMPLES) for item in read_directory(part)]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from(["", "None", "web", "10.96.0.77", "ExternalName", "UDP"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "ip", "port"]), inner),
    max_leaves=4,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything within ``value``."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """One of the built-in objects under a new name, with some fields replaced by anything."""
    raw = copy.deepcopy(draw(st.sampled_from(MANIFESTS)).object)
    raw["metadata"]["name"] = "damaged"
    for path in draw(st.lists(st.sampled_from(list(places(raw))), min_size=1, max_size=3)):
        where = raw
        try:
            for step in path[:-1]:
                where = where[step]
            where[path[-1]] = draw(ANYTHING)
        except (TypeError, KeyError, IndexError):
            continue
    return raw


def populated() -> DemoCluster:
    """A cluster that is not served."""
    cluster = DemoCluster()
    for item in sorted(MANIFESTS, key=lambda item: item.resource.namespaced):
        cluster.create(item.object)
    return cluster


CLUSTER = populated()


@contextmanager
def refused_properly() -> Iterator[None]:
    """What is refused is refused because of what was sent."""
    try:
        yield
    except StatusError as error:
        if not 400 <= error.code < 500:
            raise


@given(damaged(), damaged())
def test_nothing_that_is_sent_breaks_the_cluster(raw: dict[str, Any], patch: dict[str, Any]) -> None:
    resource = by_kind(raw.get("apiVersion"), raw.get("kind"))
    if resource is None:
        return
    made = None
    with refused_properly():
        made = CLUSTER.create(raw)
    if made is None:
        return
    where = resource.kind, made["metadata"]["name"], made["metadata"].get("namespace", "")
    with refused_properly():
        changed: dict[str, Any] = {key: patch[key] for key in ("metadata", "spec") if key in patch}
        CLUSTER.patch(where[0], where[1], changed, where[2])
    assert tables.table(resource, CLUSTER.get(*where), "")["rows"]
    with refused_properly():
        CLUSTER.delete(*where)
