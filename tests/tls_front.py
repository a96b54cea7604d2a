"""TLS before a plain server: what a client meets at a real API server, with a certificate that may change."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Authority:
    """A certificate authority in a folder of its own, which signs for 127.0.0.1 and for clients."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Self:
        folder.mkdir(parents=True)
        new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        _openssl(folder, *new, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem")
        for name in ("server", "client"):
            (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
            key = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            _openssl(folder, *key, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", "request")
            sign = ["x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
            _openssl(folder, *sign, "-days", "2", "-extfile", "names", "-out", f"{name}.pem")
        return cls(folder)

    @property
    def pem(self) -> str:
        return (self.folder / "ca.pem").read_text()


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@dataclass
class TlsFront:
    """Relays TLS on 127.0.0.1 to a plain ``port`` there; asks clients for certificates of ``clients``."""

    port: int
    authority: Authority
    clients: Authority | None = None
    _server: asyncio.Server | None = None
    _own: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._own}"

    async def __aenter__(self) -> Self:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.authority.folder / "server.pem", self.authority.folder / "server.key")
        if self.clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.clients.folder / "ca.pem")
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self._own, ssl=context)
        self._own = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server:
            self._server.close()
        for writer in tuple(self._open):
            writer.transport.abort()
        await asyncio.sleep(0.01)

    async def change(self, authority: Authority) -> None:
        """Break all connections, and go on at the same port with a certificate of ``authority``."""
        await self.__aexit__()
        self.authority = authority
        await self.__aenter__()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            inner, outer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            self._open.discard(writer)
            return
        self._open.add(outer)
        await asyncio.gather(self._copy(reader, outer), self._copy(inner, writer))
        self._open -= {writer, outer}

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
