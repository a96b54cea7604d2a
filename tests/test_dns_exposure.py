"""Whom we ask for others and for whom: nobody for strangers; and servers whose address needs its link."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest
from dns_wire import query, read
from upstream_double import a, reply_to

from resolverd.claimed import Host
from resolverd.dns.upstream import DnsServer
from resolverd.host import Server
from resolverd.sockets import listen


@dataclass
class Device:
    """What is asked of a device here."""

    addresses: tuple[str, ...]


@pytest.mark.parametrize(
    ("address", "own", "exposed"),
    [
        ("127.0.0.1", (), False),
        ("127.0.0.9", ("198.18.53.1",), False),
        ("0.0.0.0", (), True),
        ("0.0.0.0", ("198.18.53.1",), True),
        ("127.0.0.9", ("127.0.0.9",), False),
    ],
)
def test_where_other_hosts_can_ask(address: str, own: tuple[str, ...], exposed: bool) -> None:
    listening = listen(Server(ip_address(address), 0))
    made = Host(
        cast("Any", None), "", cast("Any", Device(own) if own else None), listening, cast("Any", ()), Path(), -1
    )
    assert made.is_exposed is exposed
    listening.close()


@pytest.fixture
def link() -> Iterator[str]:
    """A link with the address fe80::53."""
    address = ("fe80::53/64", "dev", "lo")
    subprocess.run(["ip", "addr", "add", *address, "nodad"], check=True)
    yield "lo"
    subprocess.run(["ip", "addr", "del", *address], check=True)


@pytest.mark.staged
async def test_a_link_local_server_is_asked_on_its_link(link: str) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as bound:
        bound.bind(("fe80::53", 0, 0, socket.if_nametoindex(link)))
        bound.setblocking(False)
        server = DnsServer(Server(ip_address(f"fe80::53%{link}"), bound.getsockname()[1]))
        asking = asyncio.create_task(server.ask(query("www.example.com"), tcp=False))
        asked, peer = await loop.sock_recvfrom(bound, 4096)
        await loop.sock_sendto(bound, reply_to(asked, a()), peer)
        assert str(read(await asyncio.wait_for(asking, 20)).answer[0].data) == "192.0.2.1"
