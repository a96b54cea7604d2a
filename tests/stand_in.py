"""The stand-in for the internet behind a second link of this stage, a VPN's link, and somebody who keeps asking."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import dnslib
from dnslib.server import BaseResolver, DNSHandler, DNSLogger, DNSServer
from tuns import open_tun, resolvectl

from resolverd.demo import internet

STUB = ("127.0.0.53", 53)
"""Where systemd-resolved listens."""
PAUSE = 0.005
"""Seconds between two questions: 200 a second."""
VPN, VPN_ADDRESS, VPN_SAYS = "rd-vpn0", "198.18.60.1", "198.51.100.77"


@contextmanager
def joined() -> Iterator[None]:
    """While entered, public names resolve by way of the link ``uplink0``."""
    if Path("/sys/class/net", internet.LINK).exists():  # the stage was built with it
        yield
        return
    pid = internet.join()
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        internet.READY.unlink()
        internet.QUERIES.unlink()
        subprocess.run(["ip", "link", "del", internet.LINK], check=True)
        subprocess.run(["ip", "netns", "del", internet.NAMESPACE], check=True)


def asked() -> list[str]:
    """The names that left the host, in the order they did."""
    return [line.split()[1] for line in internet.QUERIES.read_text().splitlines()]


class _Vpn(BaseResolver):  # type: ignore[misc]
    def resolve(self, request: dnslib.DNSRecord, handler: DNSHandler) -> dnslib.DNSRecord:
        reply = request.reply()
        if request.q.qtype == dnslib.QTYPE.A:
            reply.add_answer(dnslib.RR(request.q.qname, rdata=dnslib.A(VPN_SAYS), ttl=1))
        return reply


@contextmanager
def vpn(*domains: str) -> Iterator[None]:
    """A VPN that routes ``domains`` to a server of its own, which gives every name the address ``VPN_SAYS``."""
    device = open_tun(VPN, f"{VPN_ADDRESS}/24")
    server = DNSServer(_Vpn(), address=VPN_ADDRESS, logger=DNSLogger("-request,-reply,-truncated,-error", False))
    server.start_thread()
    try:
        resolvectl("dns", VPN, VPN_ADDRESS)
        resolvectl("domain", VPN, *domains)
        yield
    finally:
        os.close(device)
        server.stop()
        server.server.server_close()


@dataclass
class Asker(asyncio.DatagramProtocol):
    """Asks the host's resolver for the A records of one name after another, and keeps what was no address.

    What a busy machine makes it miss it makes up for: the number of questions is right, their distance need not be.
    """

    name: Callable[[int], str]
    sent: int = 0
    answered: int = 0
    failures: list[str] = field(default_factory=list)

    def datagram_received(self, data: bytes, _: object) -> None:
        reply = dnslib.DNSRecord.parse(data)
        self.answered += 1
        if not [record for record in reply.rr if record.rtype == dnslib.QTYPE.A]:
            self.failures.append(f"{reply.q.qname}: {dnslib.RCODE.get(reply.header.rcode)}")

    async def ask_forever(self, transport: asyncio.DatagramTransport) -> None:
        began = time.monotonic()
        while True:
            query = dnslib.DNSRecord.question(self.name(self.sent))
            query.header.id = self.sent % 65536
            transport.sendto(query.pack())
            self.sent += 1
            await asyncio.sleep(max(0.0, began + self.sent * PAUSE - time.monotonic()))


@asynccontextmanager
async def asking(name: Callable[[int], str]) -> AsyncIterator[Asker]:
    """While entered, ``name(0)``, ``name(1)`` ... are asked for. At the end every question has its answer, or 5 s."""
    asker = Asker(name)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: asker, remote_addr=STUB)
    task = asyncio.create_task(asker.ask_forever(transport))
    try:
        yield asker
    finally:
        task.cancel()
        try:
            async with asyncio.timeout(5):
                while asker.answered < asker.sent:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            asker.failures.append(f"{asker.sent - asker.answered} times no answer")
        transport.close()
