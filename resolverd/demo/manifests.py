"""Objects from YAML files: several documents, ``List`` kinds, and errors that name file and line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from resolverd.errors import UsageError

from .resources import STORED, Resource, by_kind

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object to create, and where it is written."""

    resource: Resource
    object: Raw
    where: str
    """``file:line``."""

    @property
    def namespace(self) -> str:
        metadata: Raw = self.object["metadata"]
        return str(metadata.get("namespace", "default")) if self.resource.namespaced else ""


def read_directory(directory: Path) -> list[Manifest]:
    """The objects of every ``*.yaml`` and ``*.yml`` in ``directory``, in the order of the files. UsageError."""
    if not directory.is_dir():
        raise UsageError(str(directory), "no such directory", "name a directory of YAML files")
    files = sorted(path for path in directory.iterdir() if path.suffix in (".yaml", ".yml"))
    if not files:
        raise UsageError(str(directory), "no *.yaml or *.yml in it", "put manifests there")
    return [manifest for path in files for manifest in _read_file(path)]


def _read_file(path: Path) -> Iterator[Manifest]:
    try:
        text = path.read_text(encoding="utf-8")
        for node in list(yaml.compose_all(text, Loader=yaml.SafeLoader)):
            yield from _read_node(path, node)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(str(path), str(error), "make it readable") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UsageError(f"{path}:{line}", error.problem or "no YAML", "correct the YAML") from error


def _read_node(path: Path, node: yaml.Node) -> Iterator[Manifest]:
    where = f"{path}:{node.start_mark.line + 1}"
    raw = _plain(node)
    if raw is None:
        return
    if not isinstance(raw, dict) or not isinstance(node, yaml.MappingNode):
        raise UsageError(where, "no Kubernetes object: not a mapping", "write apiVersion, kind and metadata")
    if str(raw.get("kind", "")).endswith("List") and "items" in raw:
        for key, value in node.value:
            if key.value == "items" and isinstance(value, yaml.SequenceNode):
                for item in value.value:
                    yield from _read_node(path, item)
        return
    yield Manifest(_resource(where, raw), raw, where)


def _plain(node: yaml.Node) -> Any:
    """The value of a composed node."""
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _resource(where: str, raw: Raw) -> Resource:
    version, kind = raw.get("apiVersion"), raw.get("kind")
    resource = by_kind(version, kind)
    if resource is None:
        known = ", ".join(f"{known.kind} ({known.api_version})" for known in STORED)
        raise UsageError(where, f"kind {kind} ({version}) is not served by the demo cluster", f"it serves {known}")
    metadata = raw.get("metadata")
    if not isinstance(metadata, dict) or metadata.get("name") in (None, ""):
        raise UsageError(where, f"{kind} without a metadata.name", "name it")
    for field in ("name", "namespace"):
        if not isinstance(metadata.get(field, ""), str):
            raise UsageError(where, f"metadata.{field} is no text: {metadata[field]!r}", "put it into quotes")
    return resource
