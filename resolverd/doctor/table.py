"""Every check, in the order in which they are shown; and how they are run. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from . import cluster_checks as cluster
from . import daemon_checks as daemon
from . import host_checks as host
from . import kubeconfig_checks as kubeconfig
from . import macos_hints as macos
from . import resolver_checks as resolver
from .facts import Facts, Part
from .verdict import Examination, Finding, Severity, skipped

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO
CONFIG, HOST, RESOLVER = (Part.CONFIG,), (Part.HOST, Part.CONFIG), (Part.RESOLVER, Part.CONFIG)
KUBECONFIG, CLUSTER = (Part.KUBECONFIG,), (Part.KUBECONFIG, Part.CLUSTER)
DAEMON = (Part.DAEMON,)
LINUX, MACOS = ("linux",), ("darwin",)

CHECKS = (
    Examination("config", ERROR, kubeconfig.config, CONFIG),
    Examination("tun-device", ERROR, host.tun_device, HOST, LINUX),
    Examination("tun-right", ERROR, host.tun_right, (*HOST, *DAEMON), LINUX),
    Examination("port-53", ERROR, host.port_53, (*HOST, *DAEMON), LINUX),
    Examination("firewall", ERROR, host.firewall, (*HOST, *DAEMON), LINUX),
    Examination("ipv6", WARNING, host.ipv6, (*HOST, *CLUSTER), LINUX),
    Examination("inotify-watches", WARNING, host.inotify_watches, HOST, LINUX),
    Examination("inotify-instances", WARNING, host.inotify_instances, HOST, LINUX),
    Examination("file-descriptors", WARNING, host.file_descriptors, HOST),
    Examination("system-clock", ERROR, host.system_clock, HOST),
    Examination("proxy", WARNING, host.proxy, HOST),
    Examination("suffix-list", WARNING, host.suffix_list, HOST),
    Examination("bus", WARNING, resolver.bus, RESOLVER, LINUX),
    Examination("resolved-running", WARNING, resolver.resolved_running, RESOLVER, LINUX),
    Examination("resolved-used", WARNING, resolver.resolved_used, RESOLVER, LINUX),
    Examination("stub-listener", ERROR, resolver.stub_listener, (*RESOLVER, *HOST), LINUX),
    Examination("resolv-conf", ERROR, resolver.resolv_conf, RESOLVER, LINUX),
    Examination("resolv-conf-ndots", WARNING, resolver.ndots, RESOLVER),
    Examination("resolv-conf-search", WARNING, resolver.search_list, RESOLVER),
    Examination("nsswitch-dns", ERROR, resolver.nsswitch_dns, RESOLVER, LINUX),
    Examination("nsswitch-files", WARNING, resolver.nsswitch_files, RESOLVER, LINUX),
    Examination("nsswitch-mdns", ERROR, resolver.nsswitch_mdns, RESOLVER, LINUX),
    Examination("nsswitch-myhostname", INFO, resolver.nsswitch_myhostname, RESOLVER, LINUX),
    Examination("networkmanager-dns", WARNING, resolver.network_manager, RESOLVER, LINUX),
    Examination("other-link-domains", ERROR, resolver.other_links, RESOLVER),
    Examination("overlapping-routes", WARNING, resolver.overlapping_routes, (*RESOLVER, *CLUSTER)),
    Examination("kubeconfig", ERROR, kubeconfig.kubeconfig, KUBECONFIG),
    Examination("kubeconfig-permissions", WARNING, kubeconfig.kubeconfig_permissions, KUBECONFIG),
    Examination("kubeconfig-context", ERROR, kubeconfig.context, KUBECONFIG),
    Examination("kubeconfig-cluster", ERROR, kubeconfig.cluster_entry, KUBECONFIG),
    Examination("kubeconfig-user", ERROR, kubeconfig.user_entry, KUBECONFIG),
    Examination("exec-plugin", ERROR, kubeconfig.exec_plugin, KUBECONFIG),
    Examination("credentials", ERROR, kubeconfig.credentials, CLUSTER),
    Examination("credentials-expiry", ERROR, kubeconfig.expiry, CLUSTER),
    Examination("api-server", ERROR, cluster.server, CLUSTER),
    Examination("api-tls", ERROR, cluster.tls, CLUSTER),
    Examination("api-login", ERROR, cluster.login, CLUSTER),
    Examination("api-version", ERROR, cluster.version, CLUSTER),
    Examination("clock-skew", WARNING, cluster.clock_skew, CLUSTER),
    Examination("rights-namespaces", WARNING, cluster.namespaces, CLUSTER),
    Examination("rights-services", ERROR, cluster.services, CLUSTER),
    Examination("rights-endpointslices", ERROR, cluster.slices, CLUSTER),
    Examination("rights-portforward", ERROR, cluster.port_forward, CLUSTER),
    Examination("rights-pods", WARNING, cluster.pods, CLUSTER),
    Examination("cluster-dns", WARNING, cluster.cluster_dns, CLUSTER),
    Examination("daemon", WARNING, daemon.running, DAEMON),
    Examination("daemon-version", WARNING, daemon.version, DAEMON),
    Examination("daemon-healthy", ERROR, daemon.healthy, DAEMON),
    Examination("restart-pending", WARNING, daemon.restart_pending, DAEMON),
    Examination("domain-limit", WARNING, daemon.domain_limit, DAEMON),
    Examination("other-daemon", WARNING, daemon.other_daemon, DAEMON),
    Examination("leftovers", WARNING, daemon.leftovers, DAEMON),
    Examination("daemon-answers", ERROR, daemon.own_answer, DAEMON),
    Examination("host-answers", ERROR, daemon.host_answer, (*DAEMON, *RESOLVER)),
    Examination("macos-dig", INFO, macos.dig, (), MACOS),
    Examination("macos-go", INFO, macos.go, (), MACOS),
    Examination("macos-jvm", INFO, macos.jvm, (), MACOS),
)


def judge(facts: Facts) -> Iterator[Finding]:
    """What every check that makes sense on this system says."""
    for check in CHECKS:
        if check.systems and facts.host.system not in check.systems:
            continue
        unknown = next((facts.unknown[part] for part in check.parts if part in facts.unknown), "")
        yield Finding(check.id, check.severity, skipped(unknown) if unknown else check.judge(facts))
