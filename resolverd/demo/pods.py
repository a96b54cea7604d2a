"""Pods: what their annotations ask for, and the status that a kubelet would report."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

Raw = dict[str, Any]

STATE = "demo.resolverd.io/state"
"""Annotation: ``ready`` (the default), ``unready`` (serves, but is not ready), ``crashing`` (listens to nothing) or
``finished`` (has ended well; its status keeps its address)."""
SERVE = "demo.resolverd.io/serve"
"""Annotation: ``http`` or ``tcp-echo`` for all ports of the pod."""


class Serve(StrEnum):
    """What listens on a container port."""

    HTTP = "http"
    ECHO = "tcp-echo"


def state(pod: Raw) -> str:
    return str(pod["metadata"].get("annotations", {}).get(STATE, "ready"))


def listening(pod: Raw) -> dict[int, Serve]:
    """The TCP ports on which ``pod`` listens, and what is there.

    Without the annotation, ports without a name or with one that begins with ``http``, ``web`` or ``metrics`` are
    HTTP, others echo.
    """
    if state(pod) in ("crashing", "finished"):
        return {}
    asked = pod["metadata"].get("annotations", {}).get(SERVE)
    found: dict[int, Serve] = {}
    for container in pod["spec"]["containers"]:
        for port in container.get("ports", []):
            name = port.get("name", "")
            is_http = not name or name.startswith(("http", "web", "metrics"))
            if port["protocol"] == "TCP":
                guess = Serve.HTTP if is_http else Serve.ECHO
                found[port["containerPort"]] = Serve(asked) if asked in tuple(Serve) else guess
    return found


def running_status(pod: Raw, addresses: list[str], node: Raw, moment: str) -> Raw:
    """The status of a pod that has been started, since ``moment`` unless it says otherwise already.

    ``addresses``: one, or one of each family; ``node`` is the Node it runs on.
    """
    old = pod["status"]
    host = next((entry["address"] for entry in node["status"].get("addresses", [])), "127.0.0.1")
    ready = state(pod) == "ready"
    return {
        "phase": "Succeeded" if state(pod) == "finished" else "Running",
        "conditions": _conditions(old, ready=ready, moment=moment),
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "podIP": addresses[0],
        "podIPs": [{"ip": address} for address in addresses],
        "startTime": old.get("startTime", moment),
        "containerStatuses": [
            _container_status(pod, container, old.get("startTime", moment)) for container in pod["spec"]["containers"]
        ],
        "qosClass": "BestEffort",
    }


def _conditions(old: Raw, *, ready: bool, moment: str) -> list[Raw]:
    before = {entry["type"]: entry for entry in old.get("conditions", [])}
    made: list[Raw] = []
    for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"):
        holds = "False" if kind in ("Ready", "ContainersReady") and not ready else "True"
        same = kind in before and before[kind]["status"] == holds
        since = before[kind]["lastTransitionTime"] if same else moment
        entry: Raw = {"type": kind, "status": holds, "lastProbeTime": None, "lastTransitionTime": since}
        if holds == "False":
            entry |= {"reason": "ContainersNotReady", "message": "containers with unready status: not ready"}
        made.append(entry)
    return made


def _container_status(pod: Raw, container: Raw, started: str) -> Raw:
    crashing = state(pod) == "crashing"
    name, image = container["name"], container["image"]
    waiting = {"reason": "CrashLoopBackOff", "message": f"back-off 5m0s restarting failed container={name}"}
    return {
        "name": name,
        "state": {"waiting": waiting} if crashing else {"running": {"startedAt": started}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}} if crashing else {},
        "ready": state(pod) == "ready",
        "started": not crashing,
        "restartCount": 3 if crashing else 0,
        "image": image,
        "imageID": image,
        "containerID": f"demo://{pod['metadata']['uid']}/{name}",
    }
