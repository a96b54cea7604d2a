"""The way to the API server as real clusters have it: TLS, client certificates, another server name, a proxy."""

from __future__ import annotations

import asyncio
import shlex
import ssl
import subprocess
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from resolverd.cluster.access import Access
from resolverd.cluster.target import Target
from resolverd.demo.cluster import DemoCluster
from resolverd_tunnel.port_forward import PortForward
from resolverd_tunnel.transport import TransportError

ECHO = Target("shop", "echo-1", 7007)
NAME = "api.internal"


@dataclass(frozen=True)
class Papers:
    """A certificate of each side, signed by itself."""

    server: Path
    client: Path

    def text(self, who: str) -> tuple[str, str]:
        folder = self.server if who == "server" else self.client
        return (folder / "cert.pem").read_text(), (folder / "key.pem").read_text()


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    made = {}
    for who, name in (("server", NAME), ("client", "somebody")):
        folder = made[who] = tmp_path_factory.mktemp(who)
        new = shlex.split("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2")
        files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
        names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
        subprocess.run([*new, *files, *names], check=True, capture_output=True, timeout=60)
    return Papers(made["server"], made["client"])


@dataclass
class Front:
    """What ends TLS before the cluster, and a proxy before that."""

    asked_for: list[str] = field(default_factory=list)
    """Server names in TLS."""
    connects: list[bytes] = field(default_factory=list)
    """What the proxy was asked, head and all."""
    port: int = 0
    proxy: int = 0


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
    far_reader, far_writer = await asyncio.open_connection(host, port)
    await asyncio.gather(pipe(reader, far_writer), pipe(far_reader, writer))


@asynccontextmanager
async def front(papers: Papers, cluster: DemoCluster) -> AsyncIterator[Front]:
    made = Front()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(papers.client / "cert.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(papers.server / "cert.pem", papers.server / "key.pem")
    context.sni_callback = lambda _socket, name, _context: made.asked_for.append(name)
    behind = int(cluster.server.rpartition(":")[2])

    async def end_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await join(reader, writer, "127.0.0.1", behind)

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        made.connects.append(head)
        host, _, port = head.split()[1].decode().rpartition(":")
        assert host in (NAME, "api.elsewhere", "127.0.0.1")
        writer.write(b"HTTP/1.1 200 go ahead\r\n\r\n")
        await join(reader, writer, "127.0.0.1", int(port))

    async with AsyncExitStack() as servers:
        for name, handler, tls in (("port", end_tls, context), ("proxy", proxy, None)):
            server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls)
            servers.push_async_callback(server.wait_closed)
            servers.callback(server.close)
            setattr(made, name, server.sockets[0].getsockname()[1])
        yield made
        await asyncio.sleep(0.05)


@pytest.fixture
async def fronted(papers: Papers) -> AsyncIterator[tuple[Front, Access]]:
    async with DemoCluster() as cluster, front(papers, cluster) as made:
        (ca, _), (cert, key) = papers.text("server"), papers.text("client")
        yield made, Access(f"https://127.0.0.1:{made.port}", "", ca, cert, key, tls_server_name=NAME)


async def echoed(access: Access) -> bytes:
    transport = PortForward(access, lambda: None)
    try:
        stream = await transport.open(ECHO)
        await stream.send(b"hello")
        answer = await stream.receive()
        await stream.close()
        return answer
    finally:
        await transport.close()


async def test_a_client_certificate_and_another_server_name(fronted: tuple[Front, Access]) -> None:
    made, access = fronted
    assert await echoed(access) == b"hello"
    assert set(made.asked_for) == {NAME}
    assert made.connects == []


async def test_through_a_proxy_that_wants_a_password(fronted: tuple[Front, Access]) -> None:
    made, access = fronted
    assert await echoed(replace(access, proxy=f"http://me:secret@127.0.0.1:{made.proxy}")) == b"hello"
    assert set(made.asked_for) == {NAME}
    head = made.connects[0]
    assert head.startswith(f"CONNECT 127.0.0.1:{made.port} HTTP/1.1\r\n".encode())
    assert b"Proxy-Authorization: Basic " + b64encode(b"me:secret") in head


@pytest.mark.parametrize("wrong", ["certificate", "name", "authority", "proxy", "kind of proxy"])
async def test_what_is_wrong_is_said_and_holds_no_secret(fronted: tuple[Front, Access], wrong: str) -> None:
    made, access = fronted
    changed = {
        "certificate": replace(access, cert_pem="", key_pem=""),
        "name": replace(access, tls_server_name="other.internal"),
        "authority": replace(access, ca_pem=access.cert_pem),
        "proxy": replace(access, proxy="http://me:secret@127.0.0.1:1"),
        "kind of proxy": replace(access, proxy="socks5://me:secret@127.0.0.1:1"),
    }[wrong]
    transport = PortForward(changed, lambda: None)
    with pytest.raises(TransportError) as caught:
        await transport.open(ECHO)
    await transport.close()
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert made.port
