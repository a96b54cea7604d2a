"""Checks of how programs here resolve names: the bus, systemd-resolved, nsswitch, resolv.conf, other links. Pure."""

from __future__ import annotations

from ipaddress import ip_address

from resolverd.names import is_under, labels

from .facts import Facts
from .verdict import Verdict, failed, ok, skipped

STUB = ip_address("127.0.0.53")
MOST_SEARCH, LONGEST_SEARCH = 6, 256
"""Domains and characters that older libraries read (resolv.conf(5))."""
_DNS_MODULES = ("dns", "resolve")
_WHOLE_MDNS = ("mdns", "mdns4", "mdns6")
"""Modules that claim every name below .local, and not those of two labels only."""


def _wants_resolved(facts: Facts) -> bool:
    return facts.config.settings.host.backend in ("auto", "systemd-resolved")


def bus(facts: Facts) -> Verdict:
    if not _wants_resolved(facts):
        return ok(f"not needed: the back end is {facts.config.settings.host.backend}")
    if facts.resolver.bus:
        return failed(
            f"the system bus cannot be used: {facts.resolver.bus}",
            "sudo systemctl start dbus   # or --backend override",
        )
    return ok("reachable")


def resolved_running(facts: Facts) -> Verdict:
    resolver = facts.resolver
    if not _wants_resolved(facts):
        return ok(f"not needed: the back end is {facts.config.settings.host.backend}")
    if resolver.bus:
        return skipped("the system bus cannot be used")
    if not resolver.is_running:
        return failed(
            "systemd-resolved is not running" + (", yet /etc/resolv.conf names it" if resolver.is_used else ""),
            "sudo systemctl enable --now systemd-resolved   # or --backend override",
        )
    return ok("systemd-resolved is on the bus")


def resolved_used(facts: Facts) -> Verdict:
    resolver = facts.resolver
    if not _wants_resolved(facts):
        return ok(f"not needed: the back end is {facts.config.settings.host.backend}")
    if resolver.bus or not resolver.is_running:
        return skipped("systemd-resolved does not run")
    if not resolver.is_used:
        return failed(
            f"systemd-resolved runs, and nobody asks it: {resolver.owner}",
            "sudo ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
        )
    return ok("/etc/resolv.conf names its stub")


def stub_listener(facts: Facts) -> Verdict:
    resolver = facts.resolver
    if not (resolver.is_running and resolver.is_used) or STUB not in resolver.nameservers:
        return ok("not needed: /etc/resolv.conf does not name it, or systemd-resolved does not run")
    if STUB not in facts.host.taken:
        return failed(
            f"/etc/resolv.conf names {STUB}, and nothing listens there: DNSStubListener=no, or dnsmasq was first",
            "sudo ss -lnup 'sport = :53'; sudo systemctl restart systemd-resolved",
        )
    return ok(f"listens on {STUB}")


def resolv_conf(facts: Facts) -> Verdict:
    if not facts.resolver.has_resolv_conf:
        return failed(
            "there is no /etc/resolv.conf: programs ask 127.0.0.1",
            "sudo ln -sf /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf",
        )
    return ok(f"names {', '.join(map(str, facts.resolver.nameservers)) or 'no server, so 127.0.0.1'}")


def ndots(facts: Facts) -> Verdict:
    if facts.resolver.ndots > 1:
        return failed(
            f"ndots:{facts.resolver.ndots} in /etc/resolv.conf: public names are tried below every search domain first",
            r"sudo sed -i 's/\bndots:[0-9]*/ndots:1/' /etc/resolv.conf",
        )
    return ok(f"ndots:{facts.resolver.ndots}")


def search_list(facts: Facts) -> Verdict:
    search = facts.resolver.search
    if len(search) > MOST_SEARCH or len(" ".join(search)) > LONGEST_SEARCH:
        return failed(
            f"{len(search)} search domains, {len(' '.join(search))} characters: older programs read only the first 6",
            "sudoedit /etc/resolv.conf   # or, in the config file, dns.search: [ONE-NAMESPACE]",
        )
    return ok(f"{len(search)} domains")


def nsswitch_dns(facts: Facts) -> Verdict:
    hosts = facts.resolver.hosts
    if hosts is not None and not any(module in hosts for module in _DNS_MODULES):
        return failed(
            f"hosts: {' '.join(hosts)} in /etc/nsswitch.conf: programs ask no DNS server",
            "sudo sed -i 's/^hosts:.*/hosts: files resolve [!UNAVAIL=return] dns/' /etc/nsswitch.conf",
        )
    return ok("DNS is asked")


def nsswitch_files(facts: Facts) -> Verdict:
    hosts = facts.resolver.hosts
    if hosts is None:
        return ok("no line hosts: files, then dns")
    asked = min((hosts.index(module) for module in _DNS_MODULES if module in hosts), default=len(hosts))
    if "files" not in hosts[:asked]:
        return failed(
            f"hosts: {' '.join(hosts)} in /etc/nsswitch.conf: DNS is asked before /etc/hosts is read",
            "sudo sed -i 's/^hosts:.*/hosts: files resolve [!UNAVAIL=return] dns/' /etc/nsswitch.conf",
        )
    return ok("/etc/hosts comes first")


def nsswitch_mdns(facts: Facts) -> Verdict:
    hosts = facts.resolver.hosts or ()
    asked = min((hosts.index(module) for module in _DNS_MODULES if module in hosts), default=len(hosts))
    before = [module for module in hosts[:asked] if module in _WHOLE_MDNS]
    ends = any(word.startswith("[") and "return" in word.lower() for word in hosts[:asked])
    if before and ends and facts.domain.endswith(".local"):
        return failed(
            f"{before[0]} in /etc/nsswitch.conf keeps names below .local, so those of {facts.domain}, from DNS",
            rf"sudo sed -i '/^hosts:/s/\b{before[0]}\b/mdns4_minimal/' /etc/nsswitch.conf",
        )
    return ok(f"keeps no name of {facts.domain} from DNS")


def nsswitch_myhostname(facts: Facts) -> Verdict:
    hosts = facts.resolver.hosts or ()
    if "myhostname" in hosts and "files" in hosts and hosts.index("myhostname") < hosts.index("files"):
        return failed(
            "myhostname comes before files in /etc/nsswitch.conf: what /etc/hosts says of this host is not heard",
            "sudo sed -i 's/^hosts:.*/hosts: files myhostname resolve [!UNAVAIL=return] dns/' /etc/nsswitch.conf",
        )
    return ok("myhostname does not come before files")


def network_manager(facts: Facts) -> Verdict:
    mode, resolver = facts.resolver.network_manager, facts.resolver
    if mode is None:
        return ok("NetworkManager does not run")
    if resolver.is_running and resolver.is_used and mode not in ("systemd-resolved", "none"):
        return failed(
            f"NetworkManager's DNS mode is {mode}: it may take /etc/resolv.conf away from systemd-resolved",
            "printf '[main]\\ndns=systemd-resolved\\n' | sudo tee /etc/NetworkManager/conf.d/dns.conf; "
            "sudo systemctl reload NetworkManager",
        )
    return ok(f"DNS mode {mode}")


def other_links(facts: Facts) -> Verdict:
    """A domain above ours is no matter: the longer one counts."""
    domain = facts.domain
    if f".{domain}" in facts.config.settings.dns.include_suffixes:
        return ok(f"{domain} is taken in any case: dns.include-suffixes has it")
    for link in facts.resolver.links:
        for name in (*link.routing, *link.search):
            if is_under(labels(name), labels(domain)):
                return failed(
                    f"link {link.name} has the domain {name}: the host does not ask us for {domain} then",
                    f"resolvectl domain {link.name} ''   # or, in the config file, dns.include-suffixes: [.{domain}]",
                )
    return ok(f"no other link has {domain}")


def overlapping_routes(facts: Facts) -> Verdict:
    for subnet in facts.resolver.subnets:
        for net in facts.cluster.nets:
            if subnet.network.version == net.version and subnet.network.overlaps(net):
                return failed(
                    f"{subnet.network} of link {subnet.link} overlaps {net} of the cluster: those addresses stay here",
                    f"ip route show {subnet.network}   # or, if they are the cluster's: tunnel.also-proxy: [{net}]",
                )
    return ok("none known" if not facts.cluster.nets else "no link has addresses of the cluster's networks")
