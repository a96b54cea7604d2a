"""What the tour of the demo shows, in order. The cluster is the one in ``objects/samples``."""

from __future__ import annotations

import json
import re
from typing import Any

from .internet import QUERIES
from .steps import Step

CONFIGURATION = """\
# .shop is a public top-level domain, too. Whoever wants a cluster's namespace of that name all the same says so:
dns:
  allow-collisions: [shop]
"""


def _domain(name: str) -> str:
    """What `resolvectl status` prints for a link domain."""
    return rf"~{re.escape(name)}(\s|$)"


def _post(path: str, body: dict[str, Any]) -> str:
    """The command that creates an object through the API."""
    how = r"-X POST -H 'Content-Type: application/json' -o /dev/null -w '%{http_code}\n'"
    return f"curl {how} $API/api/v1/{path} -d '{json.dumps(body)}'"


def _greeting(namespace: str) -> str:
    """What the pods behind the service ``web`` of ``namespace`` say."""
    return rf"pod web-\d in namespace {namespace}, port 8080,"


_HOST = "(ip -brief link; ip route; ip rule; resolvectl domain; resolvectl dns; resolvectl default-route)"
_NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "staging"}}
_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
}
_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web-1", "labels": {"app": "web"}},
    "spec": {"containers": [{"name": "web", "ports": [{"containerPort": 8080}]}]},
}

TOUR = (
    Step("What this host is like before", f"{_HOST} > $TMPDIR/before"),
    Step(
        "The only setting: a namespace to be routed although its name is a public top-level domain's",
        "cat $CONFIG",
        expect=(r"allow-collisions: \[shop\]",),
    ),
    Step(
        "Start the daemon; it is up when a name has been resolved and a connection made",
        "resolverd up",
        expect=("resolverd is up",),
        short=True,
    ),
    Step(
        "What systemd-resolved was told: these domains go to the cluster, everything else does not",
        "resolvectl status resolverd0",
        expect=("-DefaultRoute", "-LLMNR", "-mDNS", *map(_domain, ("default", "shop", "svc", "cluster.local"))),
        never=(_domain("rs"), _domain("dev")),
        short=True,
    ),
    Step("Names, as pods know them", "dig +short kubernetes.default", expect=(r"^10\.96\.0\.1$",), short=True),
    Step(
        "The full name of a service",
        "dig +short web.shop.svc.cluster.local",
        expect=(r"^(?P<address>10\.96\.\d+\.\d+)$",),
        short=True,
    ),
    Step(
        "Its port",
        "dig +short SRV _http._tcp.web.shop.svc.cluster.local",
        expect=(r"^\d+ \d+ 80 web\.shop\.svc\.cluster\.local\.$",),
    ),
    Step("And back", "dig +short -x {address}", expect=(r"^web\.shop\.svc\.cluster\.local\.$",)),
    Step(
        "The address answers, too: through a TUN device and the API server's port-forward",
        "curl http://web.shop.svc.cluster.local/",
        expect=(_greeting("shop"),),
        short=True,
    ),
    Step("By its short name", "curl http://web.shop/", expect=(_greeting("shop"),)),
    Step(
        "By a single label, as in a pod: the kubeconfig's context has namespace shop",
        "curl http://web/",
        expect=(_greeting("shop"),),
        short=True,
    ),
    Step("A namespace is created while all this runs", _post("namespaces", _NAMESPACE), expect=("^201$",)),
    Step("with a service", _post("namespaces/staging/services", _SERVICE), expect=("^201$",)),
    Step("and a pod", _post("namespaces/staging/pods", _POD), expect=("^201$",)),
    Step("A moment later its names work", "dig +short web.staging", expect=(r"^10\.96\.\d+\.\d+$",), within=10),
    Step("and its addresses", "curl http://web.staging/", expect=(_greeting("staging"),), within=10),
    Step(
        "What is in force, and what is not: the namespaces rs and dev have the names of public top-level domains",
        "resolverd status",
        expect=("is healthy", r"\brs \(icann-tld\)", r"\bdev \(icann-tld\)"),
        short=True,
    ),
    Step(
        "So docs.rs is not the cluster's: here the stand-in for the internet answers",
        "dig +short docs.rs",
        expect=(r"^203\.0\.113\.\d+$",),
    ),
    Step("", "curl http://docs.rs/", expect=(r"stand-in for the internet, answering for docs\.rs",), short=True),
    Step(
        "And a service in the namespace rs still has its long name",
        "curl http://web.rs.svc.cluster.local/",
        expect=(_greeting("rs"),),
    ),
    Step(
        "What the internet was asked meanwhile: nothing about the cluster's names",
        f"sort -u {QUERIES}",
        expect=(r"^A docs\.rs$",),
        never=(r"cluster\.local", "kubernetes", "shop"),
    ),
)

AFTERWARDS = (
    Step("Stop it", "resolverd down", expect=("resolverd is down",)),
    Step("What is left: no link", "ip link show resolverd0", expect=("does not exist",), code=1),
    Step("no difference to what was before", f"{_HOST} | diff $TMPDIR/before -"),
    Step(
        "no process",
        r"cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -o 'resolverd[a-z_.]*[w]orker'",
        code=1,
    ),
    Step("no file", "ls /run/resolverd", expect=("No such file or directory",), code=2),
    Step("The cluster's names are gone", "dig +short web.shop.svc.cluster.local", never=(r"\d",)),
    Step("and others are as they were", "curl http://docs.rs/", expect=("stand-in for the internet",)),
)
