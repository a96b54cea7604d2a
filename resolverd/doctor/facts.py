"""What is looked at before anything is judged: one value, so that every check can be tried without a host. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from resolverd.host import OtherLink, Subnet
from resolverd.names import Address, Network
from resolverd.settings import Settings


class Part(StrEnum):
    """What is gathered by itself, with a deadline of its own."""

    CONFIG = "config"
    HOST = "host"
    RESOLVER = "resolver"
    KUBECONFIG = "kubeconfig"
    CLUSTER = "cluster"
    DAEMON = "daemon"


@dataclass(frozen=True, slots=True)
class ConfigFacts:
    settings: Settings = field(default_factory=Settings)
    path: str = ""
    """Empty: there is no config file."""
    mistakes: tuple[str, ...] = ()
    """A line for each, with its place."""


class Tun(StrEnum):
    """What opening /dev/net/tun says."""

    USABLE = "usable"
    DENIED = "denied"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class HostFacts:
    system: str = "linux"
    """As Python names systems."""
    is_root: bool = True
    may_administer: bool = True
    """CAP_NET_ADMIN is in force."""
    tun: Tun = Tun.USABLE
    has_ipv6: bool = True
    now: float = 0.0
    """Unix time, in seconds, by this host's clock."""
    installed: float = 0.0
    """Unix time at which this program's files were made: it cannot be earlier now."""
    inotify_watches: int | None = None
    """None: this system has no such limit."""
    inotify_instances: int | None = None
    most_files: int | None = None
    """Descriptors a process may open (hard limit); None: any number."""
    proxy: str = ""
    """The proxy that programs here use for names of the cluster; empty: none."""
    taken: tuple[Address, ...] = ()
    """Addresses at which something listens on port 53, UDP or TCP."""
    device: tuple[Address, ...] = ()
    """Addresses our device has, or would have."""
    drops: tuple[str, ...] | None = ()
    """nftables chains that drop input by default and do not name our device; None: they may not be listed."""
    suffix_list: str = ""
    """The newest public suffix list's path; empty: there is none."""
    suffix_list_day: str = ""
    """As in 2026-10-22."""


@dataclass(frozen=True, slots=True)
class ResolverFacts:
    bus: str = ""
    """Why the system bus cannot be used; empty: it can."""
    is_running: bool = True
    """systemd-resolved is on the bus."""
    is_used: bool = True
    """/etc/resolv.conf names its stub."""
    owner: str = ""
    """Who looks after /etc/resolv.conf, in words."""
    has_resolv_conf: bool = True
    nameservers: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    """Of the options of resolv.conf(5)."""
    hosts: tuple[str, ...] | None = None
    """The words of ``hosts:`` in nsswitch.conf(5), actions in brackets included; None: no such line."""
    network_manager: str | None = None
    """Its DNS mode; None: it does not run."""
    links: tuple[OtherLink, ...] = ()
    subnets: tuple[Subnet, ...] = ()
    """Networks that other links are on, or route."""


@dataclass(frozen=True, slots=True)
class KubeconfigFacts:
    files: tuple[str, ...] = ()
    """Those that are there and can be read."""
    missing: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    """With the reason."""
    exposed: tuple[str, ...] = ()
    """Readable, or writable, by others than their owner."""
    malformed: str = ""
    context: str = ""
    """The one that is to be followed; empty: none is named."""
    contexts: tuple[str, ...] = ()
    cluster: str = ""
    """Which the context names."""
    has_cluster: bool = True
    user: str = ""
    has_user: bool = True
    plugin: str = ""
    """The exec plugin's command; empty: the user has none."""
    plugin_path: str = ""
    """Where that is; empty: nowhere in PATH."""
    in_cluster: bool = False
    """Whether a pod's service account takes the kubeconfig's place."""


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    credentials: str = ""
    """Why there are none; empty: there are."""
    credentials_fix: str = ""
    expires: float | None = None
    """Unix time at which they end; None: not known."""
    server: str = ""
    unreachable: str = ""
    """Why the API server gives no answer."""
    bad_tls: str = ""
    """Why its certificate is not taken."""
    unauthorized: str = ""
    """Why it does not know us."""
    version: tuple[int, int] | None = None
    skew: float | None = None
    """Seconds its clock is ahead of this host's."""
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Verbs that are refused, by resource."""
    dns: str | None = None
    """Address of the cluster's DNS service; empty: there is none; None: that could not be found out."""
    nets: tuple[Network, ...] = ()
    """The cluster's own networks, as far as they are known."""


class Running(StrEnum):
    """Whether a daemon is there."""

    YES = "yes"
    NO = "no"
    DENIED = "denied"
    """It is, and this user may not ask it."""
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class DaemonFacts:
    running: Running = Running.NO
    folder: str = "/run/resolverd"
    version: str = ""
    """This command's."""
    status: Mapping[str, Any] = field(default_factory=dict)
    """The status document."""
    others: tuple[str, ...] = ()
    """State directories of other daemons that run."""
    left: tuple[str, ...] = ()
    """What a killed daemon left."""
    probe: str = ""
    """The name of the cluster that was asked for; empty: none was."""
    own_answer: str = ""
    """What the daemon's DNS server says: an address, or why there is none."""
    own_ok: bool = True
    host_answer: str = ""
    """What the host's resolver says."""
    host_ok: bool = True

    @property
    def is_running(self) -> bool:
        """Whether one runs, and has said how it is."""
        return self.running is Running.YES

    @property
    def is_there(self) -> bool:
        return self.running is not Running.NO


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything the checks know."""

    config: ConfigFacts = field(default_factory=ConfigFacts)
    host: HostFacts = field(default_factory=HostFacts)
    resolver: ResolverFacts = field(default_factory=ResolverFacts)
    kubeconfig: KubeconfigFacts = field(default_factory=KubeconfigFacts)
    cluster: ClusterFacts = field(default_factory=ClusterFacts)
    daemon: DaemonFacts = field(default_factory=DaemonFacts)
    unknown: Mapping[Part, str] = field(default_factory=dict)
    """Parts that could not be looked at, and why."""

    @property
    def domain(self) -> str:
        """The cluster's domain, as far as it is known."""
        named = self.config.settings.cluster.domain
        told = self.daemon.status.get("cluster", {}).get("domain", "")
        return named if named != "auto" else told or "cluster.local"
