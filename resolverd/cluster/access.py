"""How the API server is reached: one value, and the HTTP session made from it.

The value crosses process borders in memory only. Its ``repr`` shows no secret.
"""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import aiohttp


@dataclass(frozen=True, slots=True)
class Access:
    """Address and credentials of an API server."""

    server: str
    """``https://host:port/prefix`` without a slash at the end."""
    token: str = field(default="", repr=False)
    """Value of the Authorization header, scheme included; empty: none."""
    ca_pem: str = field(default="", repr=False)
    """Empty: the system's authorities."""
    cert_pem: str = field(default="", repr=False)
    key_pem: str = field(default="", repr=False)
    verify: bool = True
    tls_server_name: str = ""
    proxy: str = field(default="", repr=False)
    """An HTTP proxy to go through; may hold a password."""


def shown(url: str) -> str:
    """``url`` without user and password, for people and logs."""
    scheme, found, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{found}{authority.rpartition('@')[2]}{slash}{path}"


def tls_context(access: Access) -> ssl.SSLContext | bool:
    """The TLS side of ``access``, HTTP/1.1 only: an upgrade to websockets fails over HTTP/2.

    Returns True for plain http, as aiohttp wants it. ssl.SSLError or ValueError on certificates that cannot be used.
    """
    if not access.server.startswith("https:"):
        return True
    if not access.ca_pem.isascii():
        raise ValueError("the authority's certificate is no PEM")
    context = ssl.create_default_context(cadata=access.ca_pem or None)
    context.set_alpn_protocols(["http/1.1"])
    if not access.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if access.cert_pem:
        with _as_file(access.cert_pem + "\n" + access.key_pem) as path:
            context.load_cert_chain(path)
    return context


def open_session(access: Access) -> aiohttp.ClientSession:
    """A session for many long streams: no limit on connections, nothing decided by the environment.

    Paths are relative to ``access.server``. Pass ``server_hostname=access.tls_server_name or None`` with requests.
    """
    import aiohttp

    headers = {"Authorization": access.token} if access.token else {}
    return aiohttp.ClientSession(
        base_url=access.server + "/",
        headers={"User-Agent": "resolverd", "Accept": "application/json", "Accept-Encoding": "gzip", **headers},
        connector=aiohttp.TCPConnector(limit=0, ssl=tls_context(access), socket_factory=_guarded_socket),
        proxy=access.proxy or None,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
        trust_env=False,
    )


def _guarded_socket(info: tuple[Any, ...]) -> socket.socket:
    """A socket that notices a peer which is silently gone: the kernel probes it while nothing else is sent."""
    family, kind, protocol = info[:3]
    made = socket.socket(family, kind, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _GUARDS:
        if (option := getattr(socket, name, None)) is not None:
            made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


_GUARDS = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 20_000))
"""Seconds, and milliseconds for the last: what was not acknowledged for so long ends the connection (tcp(7))."""


@contextmanager
def _as_file(pem: str) -> Iterator[str]:
    """A path OpenSSL can read ``pem`` from; in memory where the system can, else a private file, removed at once."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("resolverd-credentials", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, pem.encode())
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile(prefix="resolverd-", suffix=".pem") as file:
        file.write(pem.encode())
        file.flush()
        yield file.name
