"""What each check of ``doctor`` says, by facts alone: nothing of a healthy host, of each fault that one alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from resolverd.cli.doctor import table
from resolverd.doctor.facts import (
    ClusterFacts,
    ConfigFacts,
    DaemonFacts,
    Facts,
    HostFacts,
    KubeconfigFacts,
    Part,
    ResolverFacts,
    Running,
    Tun,
)
from resolverd.doctor.table import CHECKS, judge
from resolverd.doctor.verdict import Finding, State
from resolverd.host import OtherLink, Subnet
from resolverd.settings import ClusterSettings, DaemonSettings, DnsSettings, HostSettings, Settings, TunnelSettings

NOW = 1_800_000_000.0
STUB = ip_address("127.0.0.53")
DEVICE = ip_address("198.18.53.1")
STATUS: dict[str, Any] = {
    "version": "1.2.3",
    "waiting": [],
    "host": {"backend": "systemd-resolved", "domains": ["~cluster.local"], "search": [], "withheld": []},
    "cluster": {"domain": "cluster.local"},
    "tunnel": {"data-path": "namespace", "device": "resolverd0"},
    "checks": [{"id": "cluster", "ok": True, "detail": "followed", "fix": ""}],
}
HEALTHY = Facts(
    host=HostFacts(
        now=NOW,
        installed=NOW - 100,
        inotify_watches=65536,
        inotify_instances=128,
        most_files=4096,
        taken=(STUB, DEVICE),
        device=(DEVICE,),
        suffix_list="/usr/share/list.dat",
        suffix_list_day="2026-12-01",
    ),
    resolver=ResolverFacts(
        nameservers=(STUB,),
        search=("corp.example",),
        hosts=("files", "resolve", "[!UNAVAIL=return]", "dns"),
        network_manager="systemd-resolved",
        links=(OtherLink("eth0", routing=("corp.example",)),),
        subnets=(Subnet(ip_network("192.168.1.0/24"), "eth0"),),
    ),
    kubeconfig=KubeconfigFacts(
        files=("/home/ada/.kube/config",), context="dev", contexts=("dev",), cluster="c", user="u"
    ),
    cluster=ClusterFacts(
        expires=NOW + 86400,
        server="https://api.example:6443",
        version=(1, 30),
        skew=0.2,
        dns="10.96.0.10",
        nets=(ip_network("10.96.0.0/16"),),
    ),
    daemon=DaemonFacts(running=Running.YES, version="1.2.3", status=STATUS, probe="web.shop.svc.cluster.local"),
)
STOPPED = replace(HEALTHY, daemon=DaemonFacts(version="1.2.3"), host=replace(HEALTHY.host, taken=(STUB,)))


def host(facts: Facts = HEALTHY, **changed: Any) -> Facts:
    return replace(facts, host=replace(facts.host, **changed))


def resolver(facts: Facts = HEALTHY, **changed: Any) -> Facts:
    return replace(facts, resolver=replace(facts.resolver, **changed))


def kubeconfig(**changed: Any) -> Facts:
    return replace(HEALTHY, kubeconfig=replace(HEALTHY.kubeconfig, **changed))


def cluster(**changed: Any) -> Facts:
    return replace(HEALTHY, cluster=replace(HEALTHY.cluster, **changed))


def daemon(facts: Facts = HEALTHY, **changed: Any) -> Facts:
    return replace(facts, daemon=replace(facts.daemon, **changed))


def told(facts: Facts = HEALTHY, **changed: Any) -> Facts:
    return daemon(facts, status={**STATUS, **changed})


def settings(facts: Facts = HEALTHY, **changed: Any) -> Facts:
    return replace(facts, config=ConfigFacts(replace(Settings(), **changed)))


def check(name: str) -> dict[str, Any]:
    return {"checks": [{"id": name, "ok": False, "detail": "it is broken", "fix": "mend it"}]}


def readdressing(drops: tuple[str, ...] | None) -> Facts:
    return host(told(tunnel={"data-path": "readdress", "device": "resolverd0"}), drops=drops)


VERIFIED = settings(dns=DnsSettings(pod_records="verified"))
FAULTS: dict[str, list[Facts]] = {
    "config": [replace(HEALTHY, config=ConfigFacts(path="/c.yaml", mistakes=("/c.yaml:1:1: unknown key", "another")))],
    "tun-device": [host(STOPPED, tun=Tun.MISSING)],
    "tun-right": [host(STOPPED, tun=Tun.DENIED), host(STOPPED, may_administer=False)],
    "port-53": [host(STOPPED, taken=(STUB, ip_address("0.0.0.0"))), host(STOPPED, taken=(STUB, DEVICE))],
    "firewall": [readdressing(("inet filter input",))],
    "ipv6": [host(cluster(nets=(ip_network("fd00:10:96::/112"),)), has_ipv6=False)],
    "inotify-watches": [host(inotify_watches=1000)],
    "inotify-instances": [host(inotify_instances=10)],
    "file-descriptors": [host(most_files=256)],
    "system-clock": [host(now=NOW - 1000)],
    "proxy": [host(proxy="http://proxy.corp.example:3128")],
    "suffix-list": [
        host(suffix_list="", suffix_list_day=""),
        host(suffix_list_day="2019-12-21"),
        settings(host(suffix_list="", suffix_list_day=""), dns=DnsSettings(suffix_list="/none.dat")),
    ],
    "bus": [resolver(bus="Connection refused", is_running=False)],
    "resolved-running": [resolver(is_running=False, is_used=False, nameservers=(ip_address("9.9.9.9"),))],
    "resolved-used": [resolver(is_used=False, owner="names 9.9.9.9", nameservers=(ip_address("9.9.9.9"),))],
    "stub-listener": [host(taken=(DEVICE,))],
    "resolv-conf": [resolver(has_resolv_conf=False, nameservers=())],
    "resolv-conf-ndots": [resolver(ndots=5)],
    "resolv-conf-search": [resolver(search=tuple(f"d{n}.example" for n in range(7))), resolver(search=("a" * 300,))],
    "nsswitch-dns": [resolver(hosts=("files", "myhostname"))],
    "nsswitch-files": [resolver(hosts=("dns", "files")), resolver(hosts=("dns",))],
    "nsswitch-mdns": [resolver(hosts=("files", "mdns4", "[NOTFOUND=return]", "dns"))],
    "nsswitch-myhostname": [resolver(hosts=("myhostname", "files", "dns"))],
    "networkmanager-dns": [resolver(network_manager="dnsmasq"), resolver(network_manager="default")],
    "other-link-domains": [
        resolver(links=(OtherLink("vpn0", routing=("cluster.local",)),)),
        resolver(links=(OtherLink("vpn0", search=("shop.svc.cluster.local",)),)),
    ],
    "overlapping-routes": [resolver(subnets=(Subnet(ip_network("10.0.0.0/8"), "vpn0"),))],
    "kubeconfig": [
        kubeconfig(files=(), missing=("/home/ada/.kube/config",)),
        kubeconfig(files=(), unreadable=("/k: Permission denied",)),
        kubeconfig(malformed="/k: not YAML"),
        kubeconfig(files=(), malformed="/k: not YAML"),
    ],
    "kubeconfig-permissions": [kubeconfig(exposed=("/home/ada/.kube/config",))],
    "kubeconfig-context": [kubeconfig(context="prod"), kubeconfig(context="")],
    "kubeconfig-cluster": [kubeconfig(has_cluster=False)],
    "kubeconfig-user": [kubeconfig(has_user=False)],
    "exec-plugin": [kubeconfig(plugin="aws", plugin_path="")],
    "credentials": [cluster(credentials="the plugin failed", credentials_fix="log in")],
    "credentials-expiry": [
        cluster(expires=NOW - 60, unauthorized="Unauthorized"),
        cluster(expires=NOW + 60),
    ],
    "api-server": [cluster(unreachable="Connection refused")],
    "api-tls": [cluster(bad_tls="certificate verify failed")],
    "api-login": [cluster(unauthorized="Unauthorized", dns=None)],
    "api-version": [cluster(version=(1, 20))],
    "clock-skew": [cluster(skew=120.0), cluster(skew=-120.0)],
    "rights-namespaces": [cluster(lacking={"namespaces": ("watch",)})],
    "rights-services": [cluster(lacking={"services": ("list", "watch")})],
    "rights-endpointslices": [cluster(lacking={"endpointslices": ("list",)})],
    "rights-portforward": [cluster(lacking={"pods/portforward": ("create",)})],
    "rights-pods": [replace(cluster(lacking={"pods": ("list",)}), config=VERIFIED.config)],
    "cluster-dns": [cluster(dns="")],
    "daemon": [daemon(STOPPED, running=Running.DENIED), daemon(STOPPED, running=Running.SILENT)],
    "daemon-version": [daemon(version="1.2.4")],
    "daemon-healthy": [told(**check("dns-process")), told(**check("cluster")), told(**check("host-resolver"))],
    "restart-pending": [told(waiting=["tunnel.device"])],
    "domain-limit": [told(host={**STATUS["host"], "withheld": [{"name": "z", "reason": "domain-limit"}]})],
    "other-daemon": [daemon(others=("/run/user/1000/resolverd",))],
    "leftovers": [daemon(STOPPED, left=("/run/resolverd/lock",))],
    "daemon-answers": [daemon(own_answer="SERVFAIL", own_ok=False)],
    "host-answers": [daemon(host_answer="192.0.2.99", host_ok=False)],
}


def failed(facts: Facts) -> list[Finding]:
    return [finding for finding in judge(facts) if finding.verdict.state is State.FAILED]


def skipped(facts: Facts) -> list[str]:
    return [finding.id for finding in judge(facts) if finding.verdict.state is State.SKIPPED]


def test_a_kubeconfig_that_cannot_be_read_as_yaml_is_not_said_to_be_missing() -> None:
    (finding,) = [each for each in judge(kubeconfig(files=(), malformed="/k: not YAML")) if each.id == "kubeconfig"]
    assert finding.verdict.detail == "/k: not YAML"


def test_every_check_has_a_fault_here_and_an_id_of_its_own() -> None:
    ids = [one.id for one in CHECKS]
    assert len(set(ids)) == len(ids) >= 30
    assert {one.id for one in CHECKS if one.systems != ("darwin",)} == set(FAULTS)


@pytest.mark.parametrize("facts", [HEALTHY, STOPPED, VERIFIED], ids=["running", "stopped", "verified"])
def test_a_healthy_host_has_no_fault_and_no_secrets(facts: Facts) -> None:
    assert [(finding.id, finding.verdict) for finding in judge(facts) if finding.verdict.state is not State.OK] == []


@pytest.mark.parametrize(
    ("name", "facts"),
    [(name, facts) for name, each in FAULTS.items() for facts in each],
    ids=lambda each: str(each)[:30],
)
def test_a_fault_is_named_and_nothing_else(name: str, facts: Facts) -> None:
    (finding,) = failed(facts)
    assert finding.id == name
    assert finding.verdict.detail
    assert finding.verdict.fix


def test_the_age_of_the_public_suffix_list_is_said() -> None:
    (said,) = [finding.verdict for finding in judge(HEALTHY) if finding.id == "suffix-list"]
    days = (datetime.fromtimestamp(NOW, UTC).date() - date(2026, 12, 1)).days
    assert said.detail == f"{max(0, days)} days old: /usr/share/list.dat of 2026-12-01"


FINE: dict[str, Callable[[], Facts]] = {
    "a limit that does not exist": lambda: host(inotify_watches=None, inotify_instances=None, most_files=None),
    "no tunnel": lambda: settings(host(STOPPED, tun=Tun.MISSING), tunnel=TunnelSettings(enabled=False)),
    "a tunnel that is not needed": lambda: settings(
        host(STOPPED, tun=Tun.DENIED), tunnel=TunnelSettings(transport="direct")
    ),
    "not root": lambda: host(STOPPED, is_root=False, may_administer=False, tun=Tun.DENIED),
    "another port": lambda: settings(
        host(STOPPED, taken=(STUB, ip_address("0.0.0.0"))), daemon=DaemonSettings(dns_listen="127.0.0.1:5300")
    ),
    "another back end": lambda: settings(
        resolver(STOPPED, bus="no bus", is_running=False), host=HostSettings(backend="override")
    ),
    "IPv6 that nobody needs": lambda: host(has_ipv6=False),
    "mdns of two labels": lambda: resolver(hosts=("files", "mdns4_minimal", "[NOTFOUND=return]", "dns")),
    "mdns that goes on": lambda: resolver(hosts=("files", "mdns4", "dns")),
    "no nsswitch": lambda: resolver(hosts=None),
    "myhostname": lambda: resolver(hosts=("files", "myhostname", "resolve")),
    "a default route for names": lambda: resolver(links=(OtherLink("vpn0", routing=("",)),)),
    "a link's domain above the cluster's": lambda: resolver(links=(OtherLink("vpn0", routing=("local",)),)),
    "a link's domain that is taken all the same": lambda: settings(
        resolver(links=(OtherLink("vpn0", routing=("cluster.local",)),)),
        dns=DnsSettings(include_suffixes=(".cluster.local",)),
    ),
    "readdressing, and a firewall that lets it": lambda: readdressing(()),
    "credentials that are renewed": lambda: replace(
        cluster(expires=NOW + 60), kubeconfig=replace(HEALTHY.kubeconfig, plugin="aws", plugin_path="/usr/bin/aws")
    ),
    "credentials without an end": lambda: cluster(expires=None),
    "plain http": lambda: cluster(server="http://127.0.0.1:8001"),
    "a named DNS service": lambda: replace(
        cluster(dns=""), config=ConfigFacts(replace(Settings(), cluster=ClusterSettings(dns_service="10.96.0.10")))
    ),
    "rights in the namespaces that are wanted": lambda: replace(
        cluster(lacking={"namespaces": ("list",), "pods": ("list",)}),
        config=ConfigFacts(replace(Settings(), cluster=ClusterSettings(namespaces=("shop",)))),
    ),
    "a pod": lambda: replace(HEALTHY, kubeconfig=KubeconfigFacts(in_cluster=True)),
    "what is withheld for other reasons": lambda: told(
        host={**STATUS["host"], "withheld": [{"name": "rs", "reason": "icann-tld"}]}
    ),
    "a cluster that is not listed yet": lambda: daemon(probe="", own_ok=False, host_ok=False),
    "a host that is told nothing": lambda: told(
        daemon(host_ok=False), host={**STATUS["host"], "domains": [], "search": []}
    ),
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_no_fault(name: str) -> None:
    assert failed(FINE[name]()) == []


def test_what_cannot_be_known_is_skipped_with_the_reason() -> None:
    assert skipped(readdressing(None)) == ["firewall"]
    assert skipped(cluster(version=None, skew=None, dns=None)) == ["api-version", "clock-skew", "cluster-dns"]
    facts = replace(HEALTHY, unknown={Part.CLUSTER: "looking took more than 30 s"})
    cluster_ids = {one.id for one in CHECKS if Part.CLUSTER in one.parts}
    assert set(skipped(facts)) == cluster_ids
    assert all("30 s" in finding.verdict.detail for finding in judge(facts) if finding.id in cluster_ids)


def test_a_missing_kubeconfig_leaves_nothing_to_say_of_the_cluster() -> None:
    facts = kubeconfig(files=(), missing=("/k",), context="", contexts=())
    assert {"kubeconfig-context", "credentials", "api-server", "rights-services"} <= set(skipped(facts))


def test_what_the_daemon_complains_of_is_not_said_twice() -> None:
    broken = check("cluster")
    facts = replace(told(**broken), cluster=replace(HEALTHY.cluster, unreachable="Connection refused"))
    assert [finding.id for finding in failed(facts)] == ["api-server"]
    facts = resolver(told(**check("host-resolver")), is_running=False, is_used=False, nameservers=())
    assert [finding.id for finding in failed(facts)] == ["resolved-running"]


def test_hints_for_macos_are_shown_there_only() -> None:
    ids = {finding.id for finding in judge(host(system="darwin"))}
    assert {"macos-dig", "macos-go", "macos-jvm"} <= ids
    assert "tun-device" not in ids
    assert not any(finding.id.startswith("macos") for finding in judge(HEALTHY))


def test_worth_knowing_is_no_failure() -> None:
    (finding,) = failed(resolver(hosts=("myhostname", "files", "dns")))
    assert not finding.is_grave
    (finding,) = failed(resolver(ndots=5))
    assert finding.is_grave


def test_the_page_names_every_check() -> None:
    page = (Path(__file__).parents[1] / "docs" / "operating.md").read_text()
    section = page.split("## `resolverd doctor`", 1)[1].split("\n## ", 1)[0]
    named = re.findall(r"`([a-z0-9-]+)`", "\n".join(row.split("|")[1] for row in re.findall(r"(?m)^\| .*$", section)))
    assert sorted(named) == sorted(one.id for one in CHECKS)


@pytest.mark.parametrize("columns", [80, 100, 140])
def test_of_what_is_well_no_line_is_wider_than_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    path = "/opt/resolverd/lib/python3.11/site-packages/publicsuffixlist/public_suffix_list.dat"
    facts = replace(HEALTHY, host=replace(HEALTHY.host, suffix_list=path))
    lines = list(table(list(judge(facts)), colour=False))
    assert max(map(len, lines)) <= columns
    assert any("…/publicsuffixlist/public_suffix_list.dat" in line or path in line for line in lines)
    (found,) = [each for each in judge(facts) if each.id == "suffix-list"]
    assert path in found.to_json()["detail"]
    old = replace(facts, host=replace(facts.host, suffix_list_day="2020-01-01"))
    assert any(path in line for line in table(list(judge(old)), colour=False)), (
        "of what is not, it is there to be copied"
    )
