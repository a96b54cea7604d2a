"""Checks of this machine: the TUN device, limits, clocks, port 53, the firewall. Pure."""

from __future__ import annotations

from datetime import UTC, date, datetime

from .facts import Facts, Tun
from .verdict import Verdict, failed, ok, skipped

LEAST_WATCHES = 8192
"""What kernels before 5.11 have, and what one editor alone may use up."""
LEAST_INSTANCES = 64
LEAST_FILES = 1024
"""Descriptors: a stream through the tunnel takes two."""
OLD_LIST = 400
"""Days after which a public suffix list lacks new top-level domains."""
READDRESS = "readdress"


def tun_device(facts: Facts) -> Verdict:
    if not facts.config.settings.tunnel.carries:
        return ok("not needed: no tunnel is wanted")
    if facts.host.tun is Tun.MISSING:
        return failed("/dev/net/tun is not there: the kernel module tun is not loaded", "sudo modprobe tun")
    return ok("/dev/net/tun is there")


def tun_right(facts: Facts) -> Verdict:
    host = facts.host
    if not facts.config.settings.tunnel.carries:
        return ok("not needed: no tunnel is wanted")
    if facts.daemon.is_there:
        return ok("the daemon has it")
    if not host.is_root:
        return ok("not looked at for this user: the daemon is started by root (sudo resolverd up)")
    if host.tun is Tun.DENIED or not host.may_administer:
        lacking = "CAP_NET_ADMIN" if not host.may_administer else "the right to open /dev/net/tun"
        return failed(
            f"root lacks {lacking} here, as in a container", "docker run --cap-add NET_ADMIN --device /dev/net/tun ..."
        )
    return ok("root, with CAP_NET_ADMIN")


def ipv6(facts: Facts) -> Verdict:
    networks = [str(net) for net in facts.cluster.nets if net.version == 6]
    if facts.host.has_ipv6 or not networks:
        return ok("on" if facts.host.has_ipv6 else "off, and the cluster has no address of it")
    return failed(
        f"IPv6 is off here, and the cluster has {', '.join(networks)}",
        "sudo sysctl -w net.ipv6.conf.all.disable_ipv6=0",
    )


def inotify_watches(facts: Facts) -> Verdict:
    found = facts.host.inotify_watches
    if found is not None and found < LEAST_WATCHES:
        return failed(
            f"{found} files may be watched: changes of the config file may go unnoticed for a while",
            "sudo sysctl -w fs.inotify.max_user_watches=524288",
        )
    return ok("not limited" if found is None else f"{found} files may be watched")


def inotify_instances(facts: Facts) -> Verdict:
    found = facts.host.inotify_instances
    if found is not None and found < LEAST_INSTANCES:
        return failed(f"{found} programs of a user may watch files", "sudo sysctl -w fs.inotify.max_user_instances=512")
    return ok("not limited" if found is None else f"{found} programs of a user may watch files")


def file_descriptors(facts: Facts) -> Verdict:
    most = facts.host.most_files
    if most is not None and most < LEAST_FILES:
        return failed(
            f"a process may open {most} files: enough for {max(0, most // 2 - 128)} streams", "ulimit -Hn 65536"
        )
    return ok("not limited" if most is None else f"a process may open {most}")


def system_clock(facts: Facts) -> Verdict:
    host = facts.host
    if host.now < host.installed:
        return failed(
            f"this host's clock says {_moment(host.now)}, before this program was installed: no certificate is valid",
            "sudo timedatectl set-ntp true",
        )
    return ok(f"{_moment(host.now)}")


def proxy(facts: Facts) -> Verdict:
    if facts.host.proxy:
        suffixes = f".svc,.{facts.domain}"
        return failed(
            f"programs send requests for the cluster's names to the proxy {facts.host.proxy}",
            f'export NO_PROXY="$NO_PROXY,{suffixes}" no_proxy="$no_proxy,{suffixes}"',
        )
    return ok("none for the cluster's names")


def port_53(facts: Facts) -> Verdict:
    host = facts.host
    if facts.daemon.is_there:
        return ok("the daemon's")
    if facts.config.settings.daemon.dns_listen:
        return ok(f"not needed: the server listens on {facts.config.settings.daemon.dns_listen}")
    conflicts = [str(each) for each in host.taken if each.is_unspecified or each in host.device]
    if conflicts:
        return failed(
            f"another DNS server listens on {', '.join(conflicts)}, port 53; our device's address is then taken, too",
            "sudo ss -lnup 'sport = :53'   # have it bind to the addresses it needs, as dnsmasq does by bind-dynamic",
        )
    return ok("free on the device's address")


def firewall(facts: Facts) -> Verdict:
    host, tunnel = facts.host, facts.daemon.status.get("tunnel", {})
    if not facts.daemon.is_running:
        return ok("not looked at: no daemon runs")
    if tunnel.get("data-path") != READDRESS:
        return ok("no matter: connections end in a private namespace, or there is no tunnel")
    if host.drops is None:
        return skipped("the rules may not be listed by this user; try sudo resolverd doctor")
    if host.drops:
        link = tunnel.get("device", "resolverd0")
        where = host.drops[0]
        return failed(
            f"chain {where} drops by default, and connections through the tunnel with it",
            f"sudo nft insert rule {where} iifname {link} accept",
        )
    return ok("nothing drops by default")


def suffix_list(facts: Facts) -> Verdict:
    host = facts.host
    named = facts.config.settings.dns.suffix_list
    if not host.suffix_list and named != "auto":
        return failed(f"dns.suffix-list names {named}, which is no such list", "set it to a public_suffix_list.dat")
    if not host.suffix_list:
        return failed("there is no public suffix list on this machine", "pip install publicsuffixlist")
    day, today = date.fromisoformat(host.suffix_list_day), datetime.fromtimestamp(host.now, UTC).date()
    age = max(0, (today - day).days)
    if age > OLD_LIST:
        return failed(
            f"{host.suffix_list} is {age} days old: a namespace may take a newer top-level domain's name",
            "pip install --upgrade publicsuffixlist",
        )
    return ok(f"{age} days old: {host.suffix_list} of {host.suffix_list_day}")


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
