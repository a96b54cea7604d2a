"""Objects from YAML files, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from resolverd.demo.bootstrap import SAMPLES, SYSTEM
from resolverd.demo.cluster import DemoCluster
from resolverd.demo.manifests import read_directory
from resolverd.errors import UsageError

LIST = """\
# several documents, and a list among them
apiVersion: v1
kind: Namespace
metadata: {name: mine}
---
---
apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Service
    metadata: {name: web, namespace: shop}
    spec: {clusterIP: 10.96.1.2, ports: [{port: 80}]}
  - apiVersion: v1
    kind: Service
    metadata: {name: web, namespace: mine}
    spec: {ports: [{port: 80}]}
"""


def test_documents_and_lists_are_read_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(LIST)
    (tmp_path / "b.yml").write_text("{apiVersion: v1, kind: Namespace, metadata: {name: other}}")
    (tmp_path / "notes.txt").write_text("not read")
    found = [(item.where, item.object["kind"], item.namespace) for item in read_directory(tmp_path)]
    first = tmp_path / "a.yaml"
    assert found == [
        (f"{first}:2", "Namespace", ""),
        (f"{first}:10", "Service", "shop"),
        (f"{first}:14", "Service", "mine"),
        (f"{tmp_path / 'b.yml'}:1", "Namespace", ""),
    ]


async def test_they_are_added_and_replace_built_in_ones(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(LIST)
    async with DemoCluster(tmp_path) as cluster:
        assert cluster.get("services", "web", "shop")["spec"]["clusterIP"] == "10.96.1.2"
        assert cluster.get("services", "web", "mine")["spec"]["clusterIP"].startswith("10.96.")
        assert cluster.get("services", "db", "shop")["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a: [1", 1, "expected"),
        ("\n\n- 1", 3, "not a mapping"),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}", 1, r"kind Deployment \(apps/v1\) is not served"),
        ("---\napiVersion: v1\nkind: Service", 2, "without a metadata.name"),
        ("kind: List\nitems:\n  - {apiVersion: v1, kind: Secret}", 3, r"kind Secret \(v1\) is not served"),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: nowhere}\nspec: {ports: [{port: 1}]}",
            1,
            "not found",
        ),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: no}", 1, "metadata.name is no text: False"),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: x, labels: {a: 1}}", 1, "metadata.labels.a is no text"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: x}", 1, "spec.ports: Required value"),
        ("a: !!python/object:os.system {}", 1, "could not determine a constructor"),
    ],
)
async def test_mistakes_name_file_and_line(tmp_path: Path, text: str, line: int, why: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=why) as refused:
        async with DemoCluster(tmp_path):
            pass
    assert refused.value.what == f"{path}:{line}"


def test_directories_without_manifests_are_refused(tmp_path: Path) -> None:
    for directory, why in ((tmp_path, "no \\*.yaml"), (tmp_path / "missing", "no such directory")):
        with pytest.raises(UsageError, match=why):
            read_directory(directory)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"a\.yaml"):
        read_directory(tmp_path)


def test_the_built_in_objects_have_no_name_twice() -> None:
    found = [item for part in (SYSTEM, SAMPLES) for item in read_directory(part)]
    keys = [(item.resource, item.namespace, item.object["metadata"]["name"]) for item in found]
    assert len(keys) == len(set(keys))
