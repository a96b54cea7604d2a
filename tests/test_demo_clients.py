"""The official Python client and kubectl work against the demo cluster, which runs as a process of its own."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes
import pytest
from kubernetes.stream import portforward

official: Any = kubernetes
"""The client has no types."""

needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")

MANIFEST = """\
apiVersion: v1
kind: Namespace
metadata: {name: fresh}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: fresh}
spec: {selector: {app: api}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: fresh, labels: {app: api}}
spec: {containers: [{name: api, ports: [{name: http, containerPort: 8080}]}]}
"""


@pytest.fixture(scope="module")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of a cluster that ends, with exit code 0, after the last test."""
    path = tmp_path_factory.mktemp("demo") / "kubeconfig"
    command = [sys.executable, "-m", "resolverd.demo.cluster", "--kubeconfig", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        yield path
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.fixture
def api(kubeconfig: Path) -> Iterator[Any]:
    with official.config.new_client_from_config(str(kubeconfig)) as client:
        yield official.client.CoreV1Api(client)


@pytest.fixture
def kubectl(kubeconfig: Path, tmp_path: Path) -> Callable[..., str]:
    """Run kubectl; its standard output."""

    def run(*arguments: str, stdin: str = "") -> str:
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(tmp_path)}
        done = subprocess.run(
            ["kubectl", *arguments],
            input=stdin,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_client_lists_reads_and_writes(api: Any) -> None:
    names = [item.metadata.name for item in api.list_namespaced_service("shop").items]
    assert names == sorted(names)
    assert "web" in names
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mine"}, "spec": {"ports": [{"port": 80}]}}
    made = api.create_namespaced_service("shop", body)
    assert made.spec.cluster_ip.startswith("10.96.")
    changed = api.patch_namespaced_service("mine", "shop", {"metadata": {"labels": {"a": "b"}}})
    assert changed.metadata.labels == {"a": "b"}
    with pytest.raises(official.client.ApiException) as refused:
        api.create_namespaced_service("shop", body)
    assert (refused.value.status, refused.value.reason) == (409, "Conflict")
    api.delete_namespaced_service("mine", "shop")
    with pytest.raises(official.client.ApiException):
        api.read_namespaced_service("mine", "shop")


def test_the_client_watches(api: Any) -> None:
    version = api.list_namespace().metadata.resource_version
    api.create_namespace({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "watched"}})
    threading.Timer(0.2, api.delete_namespace, ["watched"]).start()
    seen = []
    for event in official.watch.Watch().stream(api.list_namespace, resource_version=version, timeout_seconds=20):
        seen.append((event["type"], event["object"].metadata.name, event["object"].status.phase))
        if event["type"] == "DELETED":
            break
    assert (seen[0], seen[1]) == (("ADDED", "watched", "Active"), ("MODIFIED", "watched", "Terminating"))
    assert seen[-1] == ("DELETED", "watched", "Terminating")


def test_the_client_forwards_ports(api: Any) -> None:
    forward = portforward(api.connect_get_namespaced_pod_portforward, "web-2", "shop", ports="8080")
    connection = http.client.HTTPConnection("web-2", timeout=30)
    connection.sock = forward.socket(8080)
    try:
        connection.request("GET", "/hello")
        assert connection.getresponse().read() == b"pod web-2 in namespace shop, port 8080, got GET /hello\n"
    finally:
        connection.close()
        forward.close()
    assert forward.error(8080) is None


@needs_kubectl
def test_kubectl_gets_with_the_usual_columns(kubectl: Callable[..., str]) -> None:
    lines = kubectl("get", "services", "--namespace", "shop").splitlines()
    assert lines[0].split() == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]
    web = next(line.split() for line in lines if line.startswith("web "))
    assert (web[1], web[4]) == ("ClusterIP", "80/TCP")
    pods = kubectl("get", "pods", "--all-namespaces", "--output", "wide")
    assert "CrashLoopBackOff" in pods
    assert kubectl("get", "svc", "web", "--output", "jsonpath={.spec.clusterIP}") == web[2]
    for kind in ("ns", "nodes", "endpointslices", "events", "servicecidrs", "configmaps", "all"):
        kubectl("get", kind, "--all-namespaces")


@needs_kubectl
def test_kubectl_describes(kubectl: Callable[..., str]) -> None:
    def described(*what: str) -> str:
        """With single spaces: versions differ in their columns."""
        return " ".join(kubectl("describe", *what).split())

    assert "TargetPort: 8080/TCP" in described("service", "web", "--namespace", "shop")
    assert "<none>" in described("service", "empty", "--namespace", "shop")
    assert "Status: Running" in described("pod", "db-0")
    assert "Status: Active" in described("namespace", "shop")
    if '"v1.20.' not in kubectl("version", "--client"):  # it asks for slices of v1beta1 only
        assert "TargetRef: Pod/web-1" in described("endpointslices")
    assert "node0" in described("node")


@needs_kubectl
def test_kubectl_creates_changes_and_deletes(kubectl: Callable[..., str]) -> None:
    assert "service/api created" in kubectl("create", "--validate=false", "-f", "-", stdin=MANIFEST)
    kubectl("label", "service", "api", "--namespace", "fresh", "team=blue")
    kubectl("patch", "service", "api", "--namespace", "fresh", "-p", '{"spec":{"ports":[{"port":80,"name":"web"}]}}')
    shown = kubectl("get", "endpointslices", "--namespace", "fresh", "--output", "jsonpath={.items[*].ports[*].name}")
    assert shown == "web"
    assert "service/api configured" in kubectl("apply", "--validate=false", "-f", "-", stdin=MANIFEST)
    kubectl("wait", "--for=condition=Ready", "pod/api-1", "--namespace", "fresh", "--timeout=30s")
    deleted = kubectl("delete", "-f", "-", stdin=MANIFEST)
    assert 'namespace "fresh" deleted' in deleted
    assert "fresh" not in kubectl("get", "namespaces", "--output", "name")


def test_a_mistake_in_the_objects_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n")
    command = [sys.executable, "-m", "resolverd.demo.cluster", "--objects", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"resolverd: {tmp_path / 'a.yaml'}:1: kind Secret (v1) is not served")
    assert done.stderr.count("\n") == 1
