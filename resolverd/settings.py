"""Every option: type and default, once. Reading them from files and flags is :mod:`resolverd.config`'s work."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    kubeconfig: str = ""
    """Files joined by ``:``; empty: ``$KUBECONFIG``, else ``~/.kube/config``."""
    context: str = ""
    """Empty: the kubeconfig's current one."""
    namespaces: tuple[str, ...] = ()
    """Empty: every namespace the user may list."""
    domain: str = "auto"


@dataclass(frozen=True, slots=True)
class Mapping:
    """A name of the user's own: another name's records, or an address."""

    name: str
    alias_for: str


@dataclass(frozen=True, slots=True)
class DnsSettings:
    include_suffixes: tuple[str, ...] = ()
    exclude_suffixes: tuple[str, ...] = (".com", ".io", ".net", ".org", ".ru")
    excludes: tuple[str, ...] = ()
    mappings: tuple[Mapping, ...] = ()
    search: tuple[str, ...] | None = None
    """Namespaces for single labels, in order; None: the context's namespace."""
    allow_collisions: tuple[str, ...] = ()
    suffix_list: str = "auto"
    ttl: int = 5
    """Seconds, 0 to 3600."""
    lookup_timeout: float = 2.0
    """Seconds."""
    upstreams: tuple[str, ...] | None = None
    """None: found on the host."""
    pod_records: str = "insecure"
    endpoint_pod_names: bool = False


@dataclass(frozen=True, slots=True)
class HostSettings:
    backend: str = "auto"
    route_namespaces: bool = True


@dataclass(frozen=True, slots=True)
class TunnelSettings:
    enabled: bool = True
    device: str = "resolverd0"
    routes: str = "resolved"
    also_proxy: tuple[str, ...] = ()
    never_proxy: tuple[str, ...] = ()
    transport: str = "auto"


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    state_dir: str = ""
    """Empty: ``/run/resolverd`` for root, ``$XDG_RUNTIME_DIR/resolverd`` for others."""
    log_level: str = "info"
    metrics: str = ""
    dns_listen: str = ""
    """``ADDR:PORT``; empty: port 53 on the tunnel device's own address. A flag only."""


@dataclass(frozen=True, slots=True)
class Settings:
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    dns: DnsSettings = field(default_factory=DnsSettings)
    host: HostSettings = field(default_factory=HostSettings)
    tunnel: TunnelSettings = field(default_factory=TunnelSettings)
    daemon: DaemonSettings = field(default_factory=DaemonSettings)
