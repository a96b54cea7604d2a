"""A name server with public names for the stage's systemd-resolved, and settings it is started with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from conftest import ResolvedService
from dnslib.server import DNSLogger, DNSServer
from tuns import open_tun

from resolverd.demo.internet import Names

ADDRESS = "127.0.0.77"
"""On loopback: what comes from there is never cached by systemd-resolved."""
CONFIGURATION = Path("/etc/systemd/resolved.conf")


@contextmanager
def public_dns(folder: Path, settings: Sequence[str] = ()) -> Iterator[Path]:
    """While entered, public names resolve on this stage's host; the path of the file that lists what was asked."""
    queries = folder / "public.queries"
    queries.touch()
    server = DNSServer(Names(queries), address=ADDRESS, logger=DNSLogger("-request,-reply,-truncated,-error", False))
    server.start_thread()
    before = CONFIGURATION.read_text()
    resolved = ResolvedService()
    own = ["FallbackDNS=", f"DNS={ADDRESS}", "LLMNR=no", "MulticastDNS=no", *settings]
    uplink = open_tun("rd-uplink0", "192.0.2.2/24")  # without any link resolved takes the network for down
    try:
        CONFIGURATION.write_text("\n".join(["[Resolve]", *own, ""]))
        resolved.restart()
        yield queries
    finally:
        CONFIGURATION.write_text(before)
        resolved.restart()
        server.stop()
        server.server.server_close()
        os.close(uplink)
