"""Every option: type, default, check, help; once. Reading files and flags is :mod:`resolverd.config`'s work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from resolverd import options
from resolverd.options import Check
from resolverd.plugins import BACKENDS, TRANSPORTS


@dataclass(frozen=True, slots=True)
class Mapping:
    """A name of the user's own: another name's records, or an address."""

    name: str
    alias_for: str


_MAPPING = options.record(Mapping, {"name": options.name, "alias-for": options.name_or_address})


def _option(default: Any, check: Check, text: str) -> Any:
    """A setting: its default, its check, and its line of help."""
    return field(default=default, metadata={"check": check, "help": text})


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    kubeconfig: str = _option("", options.text, "kubeconfig files, joined by colons")
    context: str = _option("", options.text, "the kubeconfig's context; empty: its current one")
    namespaces: tuple[str, ...] = _option(
        (), options.each(options.namespace), "namespaces to watch; empty: every one you may list"
    )
    domain: str = _option("auto", options.domain_or_auto, "the cluster's DNS domain; auto: found out")
    ranges: tuple[str, ...] | None = _option(
        None, options.auto_or_each(options.network), "the cluster's own networks; auto: found out"
    )
    dns_service: str = _option("auto", options.address_or_auto, "the cluster IP of its DNS service; auto: found out")


@dataclass(frozen=True, slots=True)
class DnsSettings:
    include_suffixes: tuple[str, ...] = _option((), options.each(options.suffix), "names that are always the cluster's")
    exclude_suffixes: tuple[str, ...] = _option(
        (".com", ".io", ".net", ".org", ".ru"), options.each(options.suffix), "names that are never the cluster's"
    )
    excludes: tuple[str, ...] = _option((), options.each(options.name), "exact names that are never the cluster's")
    mappings: tuple[Mapping, ...] = _option((), options.each(_MAPPING, key="name"), "names of your own")
    search: tuple[str, ...] | None = _option(
        None, options.auto_or_each(options.namespace), "namespaces tried for single labels; auto: the context's"
    )
    allow_collisions: tuple[str, ...] = _option(
        (), options.each(options.namespace), "namespaces to route although they collide with other names"
    )
    suffix_list: str = _option("auto", options.text, "a public_suffix_list.dat; auto: the newest one found")
    ttl: int = _option(5, options.whole_seconds(0, 3600), "TTL of cluster records")
    lookup_timeout: float = _option(2.0, options.seconds(0.1, 30), "longest time until a query is answered")
    upstreams: tuple[str, ...] | None = _option(
        None, options.auto_or_each(options.upstream), "DNS servers for names that are not the cluster's"
    )
    pod_records: str = _option(
        "insecure", options.choice("insecure", "verified", "disabled"), "records of the form a-b-c-d.NS.pod.DOMAIN"
    )
    endpoint_pod_names: bool = _option(False, options.boolean, "name endpoints after their pods")


@dataclass(frozen=True, slots=True)
class HostSettings:
    backend: str = _option(
        "auto",
        options.choice_or_plugin(BACKENDS, "auto", "systemd-resolved", "etc-resolver", "override", "none"),
        "how the host is told which names are ours",
    )
    route_namespaces: bool = _option(True, options.boolean, "false: take only the cluster domain and the includes")


@dataclass(frozen=True, slots=True)
class TunnelSettings:
    enabled: bool = _option(True, options.boolean, "make the addresses reachable, too")
    device: str = _option("resolverd0", options.device, "name of the TUN device")
    routes: str = _option("resolved", options.choice("resolved", "cidrs"), "what is routed into the tunnel")
    also_proxy: tuple[str, ...] = _option((), options.each(options.network), "more networks that may be routed")
    never_proxy: tuple[str, ...] = _option((), options.each(options.network), "networks that are never routed")
    transport: str = _option(
        "auto", options.choice_or_plugin(TRANSPORTS, "auto", "port-forward", "direct"), "the way into the cluster"
    )

    @property
    def carries(self) -> bool:
        """Whether there is anything to carry: not when the addresses are reachable without us."""
        return self.enabled and self.transport != "direct"

    @property
    def is_direct(self) -> bool:
        """Whether the addresses are reachable without us."""
        return self.enabled and self.transport == "direct"


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    state_dir: str = _option("", options.text, "folder of the control socket; empty: the usual one")
    log_level: str = _option("info", options.choice("debug", "info", "warning", "error"), "what is logged")
    metrics: str = _option("", options.loopback_endpoint, "ADDR:PORT on loopback for metrics")
    dns_listen: str = _option("", options.endpoint, "ADDR:PORT of the DNS server; empty: the device's own address")


@dataclass(frozen=True, slots=True)
class Settings:
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    dns: DnsSettings = field(default_factory=DnsSettings)
    host: HostSettings = field(default_factory=HostSettings)
    tunnel: TunnelSettings = field(default_factory=TunnelSettings)
    daemon: DaemonSettings = field(default_factory=DaemonSettings)
