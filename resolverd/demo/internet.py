"""A stand-in for the internet inside a stage: one more network namespace, behind the link ``uplink0``.

Its DNS server knows every public-looking name: an A record out of 203.0.113.0/24, nothing of another type. A name
whose last label is no public TLD (single labels, ``.local``, a cluster's names) does not exist there. What it was
asked is written to ``/run/stage/internet.queries``, a line ``TYPE NAME`` each, so that it shows what left the host.
An HTTP server at all those addresses says which host it was asked for.

The addresses are those set aside for documentation (RFC 5737).
"""

from __future__ import annotations

import sys
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from . import services
from .programs import output_of

if TYPE_CHECKING:
    from dnslib import DNSRecord

LINK = "uplink0"
NAMESPACE = "internet"
DNS_SERVER = IPv4Address("192.0.2.53")
SITES = IPv4Network("203.0.113.0/24")
QUERIES = services.FOLDER / "internet.queries"
READY = services.FOLDER / "internet.ready"
_TTL = 60

_LINKS = f"""\
netns add {NAMESPACE}
link add {LINK} type veth peer name wan0 netns {NAMESPACE}
address add 192.0.2.2/24 dev {LINK}
link set {LINK} up
route add default via 192.0.2.1
"""
_FAR_LINKS = f"""\
link set lo up
address add 192.0.2.1/24 dev wan0
address add {DNS_SERVER}/32 dev wan0
link set wan0 up
route add local {SITES} dev lo
"""
_RESOLVER = (f"dns {LINK} {DNS_SERVER}", f"default-route {LINK} yes", f"llmnr {LINK} no", f"mdns {LINK} no")


def join() -> int:
    """Build the namespace, its link and its servers, and make it the way out of this stage; the servers' process id.

    HostError on failure.
    """
    output_of(["ip", "-batch", "-"], lines=_LINKS, fix="the kernel needs veth")
    output_of(["ip", "-netns", NAMESPACE, "-batch", "-"], lines=_FAR_LINKS)
    program = [sys.executable, "-P", "-m", "resolverd.demo.internet"]
    pid = services.start("internet", ["ip", "netns", "exec", NAMESPACE, *program], {}, READY.exists)
    for settings in _RESOLVER:
        output_of(["resolvectl", *settings.split()])
    return pid


def address_of(name: str) -> IPv4Address:
    """The address the stand-in gives ``name``; the same name always gets the same one."""
    return SITES[1 + zlib.crc32(name.lower().encode()) % (SITES.num_addresses - 2)]


class Names:
    """The DNS of the stand-in, as dnslib's server calls it."""

    def __init__(self, queries: Path) -> None:
        from publicsuffixlist import PublicSuffixList

        self._suffixes = PublicSuffixList(accept_unknown=False, only_icann=True)
        self._queries = queries

    def resolve(self, request: DNSRecord, handler: object) -> DNSRecord:
        from dnslib import EDNS0, QTYPE, RCODE, RR, SOA, A

        name, kind = str(request.q.qname).rstrip(".").lower(), QTYPE.get(request.q.qtype)
        with self._queries.open("a") as log:
            log.write(f"{kind} {name}\n")
        reply = request.reply()
        labels = name.split(".")
        exists = len(labels) > 1 and self._suffixes.publicsuffix(labels[-1]) is not None and labels[-1] != "arpa"
        if exists and kind == "A":
            reply.add_answer(RR(request.q.qname, QTYPE.A, rdata=A(str(address_of(name))), ttl=_TTL))
        else:
            start = SOA("ns.example.net", "hostmaster.example.net", (1, 3600, 600, 86400, _TTL))
            reply.add_auth(RR(labels[-1] or ".", QTYPE.SOA, rdata=start, ttl=_TTL))
            reply.header.rcode = RCODE.NOERROR if exists else RCODE.NXDOMAIN
        if request.ar:  # EDNS is answered with EDNS, else systemd-resolved asks everything twice (RFC 6891, 6.1.1)
            reply.add_ar(EDNS0(udp_len=1232))
        return reply


class Site(BaseHTTPRequestHandler):
    """Every web site there is."""

    def do_GET(self) -> None:
        body = f"This is the stand-in for the internet, answering for {self.headers.get('Host', '?')}.\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> int:
    from dnslib.server import DNSLogger, DNSServer

    QUERIES.touch()
    names, silent = Names(QUERIES), DNSLogger("-request,-reply,-truncated,-error", prefix=False)
    for tcp in (False, True):
        DNSServer(names, address=str(DNS_SERVER), port=53, tcp=tcp, logger=silent).start_thread()
    sites = ThreadingHTTPServer(("0.0.0.0", 80), Site)
    READY.touch()
    sites.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
