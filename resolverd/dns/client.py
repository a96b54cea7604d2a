"""Asking one server one question, as ``dig +short`` does: for ``resolverd query`` and for tests."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address

import dnslib
from dnslib.label import DNSLabelError

from resolverd.errors import HostError, ResolverdError, UsageError, one_line

TIMEOUT = 3.0
"""Seconds for each attempt."""
ATTEMPTS = 2
EDNS_SIZE = 1232
_MORE_RCODES = {16: "BADVERS"}


@dataclass(frozen=True, slots=True)
class Answered:
    """What a server said."""

    rcode: str
    records: tuple[dnslib.RR, ...]
    """The answer section."""
    message: dnslib.DNSRecord

    def short(self) -> list[str]:
        """The data of the records, one line each, as ``dig +short`` prints it. No line holds control characters."""
        return [one_line(str(record.rdata)) for record in self.records]


def query(host: str, port: int, name: str, kind: str = "A", *, timeout: float = TIMEOUT, tcp: bool = False) -> Answered:
    """Ask the server at ``host``, ``port`` for ``name``; UDP first, then TCP when the answer is cut short.

    ``name`` is absolute, with or without a final dot; an address with ``kind`` PTR stands for its reverse name.
    Raises UsageError for a name or a type that cannot be asked for, HostError when no valid answer comes.
    """
    return _ask((host, port), _question(name, kind), timeout, tcp=tcp)


def query_marked(server: tuple[str, int], name: str, mark: int, timeout: float) -> Answered:
    """As ``query``, for A, with the socket mark ``mark`` on every packet (SO_MARK, needs CAP_NET_ADMIN); 0: none."""
    return _ask(server, _question(name, "A"), timeout, mark=mark)


def _ask(
    server: tuple[str, int], asked: dnslib.DNSRecord, timeout: float, *, tcp: bool = False, mark: int = 0
) -> Answered:
    where = f"DNS server {server[0]} port {server[1]}"
    try:
        reply = None if tcp else _over_udp(asked, server, timeout, mark)
        if reply is None or reply.header.tc:
            reply = _over_tcp(asked, server, timeout, mark)
    except TimeoutError as error:
        raise HostError(where, "no answer", "see whether resolverd runs: resolverd status") from error
    except OSError as error:
        raise HostError(where, str(error.strerror or error), "see whether resolverd runs: resolverd status") from error
    return Answered(_rcode(reply), tuple(reply.rr), reply)


def _question(name: str, kind: str) -> dnslib.DNSRecord:
    if kind.upper() == "PTR":
        name = _reverse(name)
    try:
        number = getattr(dnslib.QTYPE, kind.upper())
    except dnslib.DNSError as error:
        raise UsageError(f"record type {kind}", "there is none of this name", "A, AAAA, SRV, PTR, TXT ...") from error
    try:
        asked = dnslib.DNSRecord(q=dnslib.DNSQuestion(name, number), ar=[dnslib.EDNS0(udp_len=EDNS_SIZE)])
        asked.header.id = int.from_bytes(os.urandom(2), "big")
        asked.pack()
    except (UnicodeError, dnslib.DNSError, DNSLabelError) as error:
        raise UsageError(f"name {name}", "not a domain name", "labels of 1 to 63 letters, 253 in all") from error
    return asked


def _reverse(name: str) -> str:
    try:
        return ip_address(name).reverse_pointer
    except ValueError:
        return name


def _over_udp(asked: dnslib.DNSRecord, server: tuple[str, int], timeout: float, mark: int) -> dnslib.DNSRecord:
    """TimeoutError when none of a few attempts is answered."""
    with _connected(server, socket.SOCK_DGRAM, timeout, mark) as end:
        for attempt in range(ATTEMPTS):
            end.send(asked.pack())
            try:
                return _matching(asked, end)
            except TimeoutError:
                if attempt == ATTEMPTS - 1:
                    raise
    raise AssertionError("unreachable: the last attempt returns or raises")


def _matching(asked: dnslib.DNSRecord, end: socket.socket) -> dnslib.DNSRecord:
    """The reply to ``asked``; late replies to other questions are passed over."""
    while True:
        reply = _parse(end.recv(65535))
        if reply.header.id == asked.header.id:
            return reply


def _over_tcp(asked: dnslib.DNSRecord, server: tuple[str, int], timeout: float, mark: int) -> dnslib.DNSRecord:
    with _connected(server, socket.SOCK_STREAM, timeout, mark) as end, end.makefile("rb") as stream:
        wire = asked.pack()
        end.sendall(struct.pack("!H", len(wire)) + wire)
        head = stream.read(2)
        body = stream.read(struct.unpack("!H", head)[0]) if len(head) == 2 else b""
    if not body:
        raise ConnectionResetError("the connection ended without an answer")
    return _parse(body)


def _connected(server: tuple[str, int], kind: socket.SocketKind, timeout: float, mark: int) -> socket.socket:
    end = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, kind)
    try:
        if mark:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        end.settimeout(timeout)
        end.connect(server)
    except BaseException:
        end.close()
        raise
    return end


def _parse(wire: bytes) -> dnslib.DNSRecord:
    try:
        return dnslib.DNSRecord.parse(wire)
    # dnslib lets errors of other kinds through on hostile input (UnicodeDecodeError was seen).
    except Exception as error:
        raise ResolverdError("DNS answer", f"cannot be understood: {error}", "ask another server") from error


def _rcode(reply: dnslib.DNSRecord) -> str:
    extended = next((record.edns_rcode for record in reply.ar if record.rtype == dnslib.QTYPE.OPT), 0)
    number = extended << 4 | reply.header.rcode
    return _MORE_RCODES.get(number) or str(dnslib.RCODE.get(number, f"RCODE{number}"))
