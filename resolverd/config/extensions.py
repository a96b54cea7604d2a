"""Settings in the kubeconfig: the extensions ``resolverd.io`` and ``telepresence.io`` of the chosen context's cluster.

    clusters:
    - name: dev
      cluster:
        server: https://…
        extensions:
        - name: resolverd.io
          extension: {dns: {include-suffixes: [.corp.internal]}, never-proxy: [10.0.0.0/8]}

The files are read without the Kubernetes client, which takes half a second to import, and are merged as it merges
them: of two entries with one name, the first counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

import yaml

from resolverd.cluster import kubeconfig
from resolverd.config import document
from resolverd.config.known import KNOWN
from resolverd.config.mistakes import Mistake, unknown
from resolverd.config.nodes import Given, Nodes, is_null
from resolverd.errors import one_line

OURS = "resolverd.io"
THEIRS = "telepresence.io"
MAX_SIZE = 16 * 1024 * 1024
"""Octets of a kubeconfig; some hold the certificates of hundreds of clusters."""

_DNS = ("include-suffixes", "exclude-suffixes", "excludes", "mappings", "lookup-timeout")
KEYS: Mapping[str, str] = {
    **{f"dns.{key}": f"dns.{key}" for key in _DNS},
    "also-proxy": "tunnel.also-proxy",
    "never-proxy": "tunnel.never-proxy",
}
"""Key of the extension to setting."""
_THEIR_KEYS: Mapping[str, str] = {
    **KEYS,
    "routing.also-proxy-subnets": "tunnel.also-proxy",
    "routing.never-proxy-subnets": "tunnel.never-proxy",
}
"""Telepresence's newer versions take the keys of its own config file as well."""


@dataclass(frozen=True, slots=True)
class _Cluster:
    """The cluster of the chosen context."""

    name: str
    path: Path
    """The file with the entry that counts."""
    extensions: Mapping[str, yaml.Node]


def files(setting: str, environment: Mapping[str, str]) -> tuple[Path, ...]:
    """The kubeconfig files, whether they are there or not; ``setting`` is ``cluster.kubeconfig``."""
    if kubeconfig.in_cluster(setting, environment):
        return ()
    return kubeconfig.named(setting, kubeconfig.invoker(environment), environment)


def read(paths: Iterable[Path], context: str, mistakes: list[Mistake], notes: list[str]) -> Iterator[Given]:
    """What the extensions give, the less important first. ``context`` is ``cluster.context``.

    A kubeconfig that is not there, or has no such context, has no extensions: whoever needs the cluster will say so.
    """
    texts = dict(_texts(paths, notes))
    if not any(OURS in text or THEIRS in text for text in texts.values()):
        return  # most kubeconfigs, and parsing a large one takes long
    roots = {path: document.parse(path, text, mistakes) for path, text in texts.items()}
    cluster = _chosen(roots, context)
    for name in (THEIRS, OURS):
        if cluster and name in cluster.extensions:
            yield from _given(name, cluster, mistakes, notes)


def _texts(paths: Iterable[Path], notes: list[str]) -> Iterator[tuple[Path, str]]:
    for path in paths:
        try:
            yield path, document.read_text(path, MAX_SIZE)
        except document.AbsentError:
            continue
        except document.UnreadableError as error:
            notes.append(f"kubeconfig {path} is not looked at for settings: {error}")


def _chosen(roots: Mapping[Path, yaml.Node | None], context: str) -> _Cluster | None:
    def first(section: str, name: str) -> tuple[Path, yaml.Node] | None:
        """The first entry of that name."""
        found = ((path, _named(_at(root, section), name)) for path, root in roots.items())
        return next(((path, entry) for path, entry in found if entry), None)

    current = context or next(filter(None, (_scalar(_at(root, "current-context")) for root in roots.values())), "")
    chosen = first("contexts", current)
    name = _scalar(_at(chosen[1], "context", "cluster")) if chosen else ""
    entry = first("clusters", name)
    if entry is None:
        return None
    path, node = entry
    listed = _at(node, "cluster", "extensions")
    found = ((name, _at(_named(listed, name), "extension")) for name in (OURS, THEIRS))
    return _Cluster(name, path, {name: extension for name, extension in found if extension})


def _given(name: str, cluster: _Cluster, mistakes: list[Mistake], notes: list[str]) -> Iterator[Given]:
    theirs = name == THEIRS
    nodes = Nodes(cluster.path, mistakes, _kebab if theirs else str)
    settings = _THEIR_KEYS if theirs else KEYS
    origin = one_line(f"kubeconfig extension {name} of cluster {cluster.name}")
    for key, at, node in _leaves(nodes, cluster.extensions[name], settings):
        if key not in settings:
            if theirs:
                notes.append(one_line(f"{nodes.place(at)}: key {key[:100]} of extension {name} means nothing here"))
            else:
                nodes.wrong(at, f"extension {name}: {unknown(key, settings)}")
        elif not (theirs and _says_nothing(node)):
            networks = settings[key].startswith("tunnel.")
            value = nodes.given(
                settings[key], KNOWN[settings[key]].check, _masked(node) if theirs and networks else node
            )
            if value:
                yield Given(value.name, value.value, origin)


def _leaves(
    nodes: Nodes, node: yaml.Node, settings: Mapping[str, str]
) -> Iterator[tuple[str, yaml.ScalarNode, yaml.Node]]:
    """The entries of an extension, with those one level below as ``dns.excludes``."""
    groups = {key.partition(".")[0] for key in settings if "." in key}
    for key, at, value in nodes.entries(node, "the extension"):
        if key in groups:
            yield from ((f"{key}.{inner}", below, leaf) for inner, below, leaf in nodes.entries(value, key))
        else:
            yield key, at, value


# What Telepresence takes and we do not.


def _kebab(key: str) -> str:
    """``includeSuffixes`` as ``include-suffixes``."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda match: "-" + match[1].lower(), key)


def _says_nothing(node: yaml.Node) -> bool:
    """Telepresence keeps its default where an extension has an empty list, or nothing."""
    return is_null(node) or (isinstance(node, yaml.SequenceNode) and not node.value)


def _masked(node: yaml.Node) -> yaml.Node:
    """Telepresence takes ``10.0.0.1/8`` and means ``10.0.0.0/8``."""
    if isinstance(node, yaml.SequenceNode):
        items = [_masked(item) if isinstance(item, yaml.ScalarNode) else item for item in node.value]
        return yaml.SequenceNode(node.tag, items, node.start_mark, node.end_mark)
    try:
        return yaml.ScalarNode(node.tag, str(ip_network(node.value, strict=False)), node.start_mark, node.end_mark)
    except ValueError:
        return node


# The parts of a kubeconfig, whose shape nobody has checked.


def _at(node: yaml.Node | None, *keys: str) -> yaml.Node | None:
    """The node below ``keys``, or None."""
    for key in keys:
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        node = next((value for name, value in pairs if _scalar(name) == key), None)
    return node


def _named(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """The item with that ``name`` of a list of mappings."""
    items = node.value if isinstance(node, yaml.SequenceNode) else ()
    return next((item for item in items if _scalar(_at(item, "name")) == name), None)


def _scalar(node: yaml.Node | None) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""
