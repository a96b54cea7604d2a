"""A host without systemd-resolved inside a stage: a LAN with name servers of both IP versions that know every type.

``python tests/lan_double.py ADDRESS...`` is those name servers. Everything else needs a stage: it changes the stage's
own /etc and network, and refuses to run anywhere else.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from socketserver import ThreadingTCPServer, ThreadingUDPServer
from typing import Any, NoReturn

import pytest

from resolverd.host import HostDns, Server

NAMESERVERS = ("192.0.2.53", "192.0.2.54", "2001:db8::53")
RESOLV_CONF = Path("/etc/resolv.conf")
TEXT = "# the LAN's\n" + "".join(f"nameserver {address}\n" for address in NAMESERVERS) + "options timeout:2\n"
SERVERS = (Server(ip_address("127.0.53.53")), Server(ip_address("::1"), 5390))
WANT = HostDns("", SERVERS, ("cluster.local", "svc"), ("default.svc.cluster.local",))
"""What a daemon would want of this host."""
_LINKS = """\
netns add lan
link add lan0 type veth peer name far0 netns lan
address add 192.0.2.2/24 dev lan0
address add 2001:db8::2/64 dev lan0 nodad
link set lan0 addrgenmode none up
"""
_FAR = """\
link set lo up
address add 192.0.2.53/24 dev far0
address add 192.0.2.54/24 dev far0
address add 2001:db8::53/64 dev far0 nodad
link set far0 up
"""


async def no_nft(mark: int) -> str:
    """Why way A cannot be taken here."""
    return "nft is not installed"


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def nft(*arguments: str, text: str | None = None) -> str:
    return subprocess.run(["nft", *arguments], input=text, check=True, capture_output=True, text=True).stdout


_NFT_RULES = """
table ip vpn { chain out { type nat hook output priority -100; ip daddr 192.0.2.99 dnat to 192.0.2.1; }; }
table inet fw { set s { type ipv4_addr; elements = { 192.0.2.7 }; };
    chain input { type filter hook input priority 0; ip saddr @s tcp dport 9 drop; }; }
"""
_IPTABLES_RULES = (
    ("iptables", "-t", "nat", "-A", "OUTPUT", "-d", "192.0.2.98", "-p", "udp", "-j", "DNAT", "--to", "192.0.2.1"),
    ("iptables", "-A", "INPUT", "-s", "192.0.2.6", "-p", "tcp", "--dport", "9", "-j", "DROP"),
    ("ip6tables", "-A", "INPUT", "-s", "2001:db8::6", "-j", "DROP"),
)


@contextmanager
def rules_of_others() -> Iterator[Callable[[], str]]:
    """Rules of other programs, by nft and by both kinds of iptables, if installed; what shows all of theirs."""
    kinds = [kind for kind in ("legacy", "nft") if shutil.which(f"iptables-{kind}")]
    nft("-f", "-", text=_NFT_RULES)
    for kind in kinds:
        for program, *arguments in _IPTABLES_RULES:
            run(f"{program}-{kind}", *arguments)
    saves = [f"{program}-{kind}-save" for kind in kinds for program in ("iptables", "ip6tables")]

    def shown() -> str:
        texts = [subprocess.run([save], check=True, capture_output=True, text=True).stdout for save in saves]
        # The counters of a chain and the time of day are no rules.
        saved = re.sub(r"\[\d+:\d+\]|^#.*\n", "", "".join(texts), flags=re.MULTILINE)
        return saved + re.sub(
            r"^table inet resolverd .*?^}\n", "", nft("list", "ruleset"), flags=re.DOTALL | re.MULTILINE
        )

    try:
        yield shown
    finally:
        nft("flush", "ruleset")
        for program in ("iptables", "ip6tables") if "legacy" in kinds else ():
            for table in ("filter", "nat"):
                run(f"{program}-legacy", "-t", table, "-F")


@contextmanager
def unchanged() -> Iterator[None]:
    """AssertionError when the file and the ruleset are not in the end as they were."""
    ruleset = nft("list", "ruleset")
    yield
    assert (RESOLV_CONF.read_text(), nft("list", "ruleset")) == (TEXT, ruleset)


@pytest.fixture(scope="module", autouse=True)
def lan() -> Iterator[None]:
    """For every test of a module that imports it."""
    with lan_host():
        yield


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """For every test of a module that imports it: each leaves the host as it was."""
    with unchanged():
        yield


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory."""
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def rewrite_as_it_was() -> None:
    """Have /etc/resolv.conf be the LAN's again, after somebody wrote his own on purpose."""
    RESOLV_CONF.unlink(missing_ok=True)
    RESOLV_CONF.write_text(TEXT)


def refused(*_: object, **__: object) -> NoReturn:
    """Stands for what starts a process, or makes a file, on a system that has no room for one more."""
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def check_private() -> None:
    """RuntimeError where /etc is the machine's own."""
    points = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    if "RESOLVERD_STAGE" not in os.environ or "/etc" not in points:
        raise RuntimeError("this changes /etc/resolv.conf, and runs in a stage only")


@contextmanager
def hidden(program: str) -> Iterator[None]:
    """``program`` cannot be started meanwhile."""
    check_private()
    found = shutil.which(program)
    assert found
    subprocess.run(["mount", "--bind", "/dev/null", found], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", found], check=True)


@contextmanager
def lan_host(resolv_conf: str = TEXT) -> Iterator[None]:
    """While entered, the stage is on the LAN, and its programs go by /etc/resolv.conf alone."""
    check_private()
    _systemd_resolved("stop")
    link, nss = RESOLV_CONF.readlink(), Path("/etc/nsswitch.conf").read_text()
    subprocess.run(["ip", "-batch", "-"], input=_LINKS, text=True, check=True)
    subprocess.run(["ip", "-netns", "lan", "-batch", "-"], input=_FAR, text=True, check=True)
    command = ["ip", "netns", "exec", "lan", sys.executable, __file__, *NAMESERVERS]
    servers = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert servers.stdout is not None
        assert servers.stdout.readline() == b"ready\n"
        RESOLV_CONF.unlink()
        RESOLV_CONF.write_text(resolv_conf)
        Path("/etc/nsswitch.conf").write_text("hosts: files dns\n")
        yield
    finally:
        servers.kill()
        servers.communicate()
        RESOLV_CONF.unlink(missing_ok=True)
        RESOLV_CONF.symlink_to(link)
        Path("/etc/nsswitch.conf").write_text(nss)
        without_netns("lan", "lan0")
        _systemd_resolved("start")


def without_netns(name: str, link: str) -> None:
    """Delete the namespace ``name``, and wait until its veth's end ``link`` is gone, which the kernel does later."""
    run("ip", "netns", "delete", name)
    while Path(f"/sys/class/net/{link}").exists():
        time.sleep(0.01)


def _systemd_resolved(verb: str) -> None:
    checkout = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-m", "resolverd.demo.services", verb], cwd=checkout, check=True)


class _Names:
    """Knows names below ``public.example``, and nothing else; ``long`` needs TCP; the PTR of 198.51.100.7."""

    def resolve(self, request: Any, handler: Any) -> Any:
        import dnslib as d

        name, kind = str(request.q.qname).lower().rstrip("."), d.QTYPE.get(request.q.qtype)
        reply = request.reply()
        reply.header.aa = 0
        exists = name.endswith("public.example") or name == "7.100.51.198.in-addr.arpa"
        data = {
            "A": d.A("198.51.100.7"),
            "AAAA": d.AAAA("2001:db8:1::7"),
            "MX": d.MX("mail.public.example", 10),
            "TXT": d.TXT([bytes([65 + i]) * 200 for i in range(12)] if name.startswith("long") else b"v=1"),
            "SRV": d.SRV(1, 2, 5060, "sip.public.example"),
            "HTTPS": d.HTTPS(1, [b"alt", b"public", b"example"], []),
            "PTR": d.PTR("seven.public.example"),
        }
        if exists and kind in data and (kind == "PTR") == name.endswith("arpa"):
            reply.add_answer(d.RR(request.q.qname, request.q.qtype, rdata=data[kind], ttl=60))
        else:
            reply.header.rcode = d.RCODE.NOERROR if exists else d.RCODE.NXDOMAIN
            start = d.SOA("ns.public.example", "hostmaster.public.example", (1, 3600, 600, 86400, 60))
            reply.add_auth(d.RR("example", d.QTYPE.SOA, rdata=start, ttl=60))
        if request.ar:
            reply.add_ar(d.EDNS0(udp_len=1232))
        return reply


class _Udp(ThreadingUDPServer):
    daemon_threads = True
    max_packet_size = 4096


class _Tcp(ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128


def main(addresses: list[str]) -> None:
    import socket
    import threading

    from dnslib.server import DNSHandler, DNSLogger, DNSServer

    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        for base in (_Udp, _Tcp):
            kind = type("Server", (base,), {"address_family": family})
            quiet = DNSLogger("-request,-reply,-truncated,-error,-recv,-send", prefix=False)
            DNSServer(
                _Names(), address=address, port=53, tcp=base is _Tcp, logger=quiet, handler=DNSHandler, server=kind
            ).start_thread()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
