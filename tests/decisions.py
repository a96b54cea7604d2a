"""Deciders for tests: a config file, a cluster and a host in, as the daemon has them."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path

from resolverd import config, plan, why
from resolverd.cluster.objects import Namespace
from resolverd.cluster.snapshot import Snapshot
from resolverd.config import Loaded
from resolverd.decision import Decider, Policy
from resolverd.dns_policy import make_dns_config
from resolverd.host import Capabilities, Server
from resolverd.plan import ClusterFacts
from resolverd.settings import DnsSettings, Settings

SUFFIXES = frozenset({"com", "dev", "io", "net", "org", "rs", "ru", "web", "co.uk"})
SERVER = Server(ip_address("198.18.53.1"))
HOST = Capabilities("systemd-resolved")
RANGE = ip_network("10.96.0.0/16")


def decider(
    settings: Settings,
    *namespaces: str,
    origins: Mapping[str, str] | None = None,
    host: Capabilities = HOST,
    namespace: str = "shop",
) -> Decider:
    """Of a cluster with ``namespaces``; ``namespace`` is the context's."""
    snapshot = Snapshot(namespaces={name: Namespace(name) for name in namespaces}, synced=True)
    facts = ClusterFacts("cluster.local", (RANGE,), namespace, SERVER, "resolverd0")
    made = plan.make(settings, snapshot, host, facts, SUFFIXES)
    dns = make_dns_config(settings.dns, made, host, domain="cluster.local", ranges=(RANGE,), server=SERVER)
    known = frozenset(namespaces)
    source = "ConfigMap kube-system/coredns"
    return Decider(Policy(dns, settings, made, origins or {}, known=known, domain_source=source, context="dev-cluster"))


def by_dns(*namespaces: str, namespace: str = "", **dns: object) -> Decider:
    return decider(Settings(dns=DnsSettings(**dns)), *namespaces, namespace=namespace)  # type: ignore[arg-type]


def loaded(folder: Path, file: str, kubeconfig: str = "", **flags: object) -> Loaded:
    """Settings of a config file with the text ``file``, and of a kubeconfig; no others of this machine."""
    (folder / "config.yaml").write_text(file)
    (folder / "kubeconfig").write_text(kubeconfig)
    environment = {"HOME": str(folder), "KUBECONFIG": str(folder / "kubeconfig")}
    return config.load(str(folder / "config.yaml"), flags, environment)


def explained(name: str, one: Decider, host: Capabilities = HOST) -> dict[str, object]:
    """What ``resolverd why`` shows of a host that is as it should be."""
    told = one.policy.plan.dns
    return why.document(why.question_of(name), one, why.HostSide(host.backend, told, told, host, str(SERVER)))
