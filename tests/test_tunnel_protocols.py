"""Real programs through the tunnel, unmodified: HTTP/2 without TLS, websockets, TLS with server names, PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import postgresql
import pytest
from aiohttp import WSMsgType, web
from commands import shell
from ports import free_port
from tunnel_rig import Rig, rig

pytestmark = pytest.mark.staged

POD, PORT = "echo-1", 7007
"""Where each server is put; the service ``echo`` has it at port 7."""
POSTGRESQL = postgresql.find()


@pytest.fixture
async def tunnel() -> AsyncIterator[Rig]:
    async with rig() as made:
        await made.start()
        yield made


@asynccontextmanager
async def program(*command: str, port: int) -> AsyncIterator[None]:
    """A server that is ready when it takes connections at ``port`` of loopback."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        yield
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.skipif(shutil.which("nghttpd") is None, reason="nghttpd is missing (nghttp2-server)")
async def test_http_2_without_tls(tunnel: Rig, tmp_path: Path) -> None:
    (tmp_path / "page").write_text("hello over h2c\n")
    port = free_port()
    async with program("nghttpd", "--no-tls", "-d", str(tmp_path), str(port), port=port):
        tunnel.put_in_pod(POD, PORT, ("127.0.0.1", port))
        address = await tunnel.address("echo")
        url = f"http://{address}:7/page"
        done = await shell(f"curl -sS --http2-prior-knowledge -w '%{{http_version}}' {url}")
        assert (done.out, done.err) == ("hello over h2c\n2", "")
        if shutil.which("h2load"):
            many = await shell(f"h2load -n 2000 -c 20 -m 20 {url}")
            assert "2000 succeeded, 0 failed, 0 errored" in many.out, many


async def test_websockets(tunnel: Rig) -> None:
    async def answer(request: web.Request) -> web.WebSocketResponse:
        far = web.WebSocketResponse()
        await far.prepare(request)
        async for message in far:
            await far.send_bytes(message.data[::-1])
        return far

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    tunnel.put_in_pod(POD, PORT, ("127.0.0.1", runner.addresses[0][1]))
    address = await tunnel.address("echo")
    async with aiohttp.ClientSession() as session, session.ws_connect(f"http://{address}:7/") as near:
        for size in (1, 1000, 300_000):
            sent = os.urandom(size)
            await near.send_bytes(sent)
            message = await near.receive()
            assert (message.type, message.data) == (WSMsgType.BINARY, sent[::-1])
        await near.ping()
    await runner.cleanup()


async def test_tls_with_the_servers_name(tunnel: Rig, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=web"
    made = await shell(f"{request} -addext subjectAltName=DNS:web.shop -keyout {key} -out {cert}")
    assert made.code == 0
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    named: list[str] = []
    context.sni_callback = lambda _socket, name, _context: named.append(name)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    tunnel.put_in_pod(POD, PORT, ("127.0.0.1", server.sockets[0].getsockname()[1]))
    address = await tunnel.address("echo")
    done = await shell(f"curl -sS --cacert {cert} --connect-to web.shop:443:{address}:7 https://web.shop/")
    assert (done.out, done.err, named) == ("secret", "", ["web.shop"])
    server.close()
    await server.wait_closed()


@pytest.mark.skipif(POSTGRESQL is None, reason="there is no PostgreSQL: python tests/postgresql.py")
async def test_postgresql(tunnel: Rig) -> None:
    folder, port = Path("/run/stage") / f"pg-{os.getpid()}", free_port()
    folder.mkdir()
    assert POSTGRESQL
    programs, environment = POSTGRESQL.programs, POSTGRESQL.environment
    settings = " ".join(f"{name}={value}" for name, value in environment.items())
    # It does not run as root; a checkout in a home folder is to be read nevertheless.
    nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps +dac_read_search"
    nobody += " --ambient-caps +dac_read_search"
    try:
        shutil.chown(folder, 65534, 65534)
        initdb = f"env {settings} {nobody} {programs}/initdb -D {folder}/db -U me -A trust --no-sync"
        made = await shell(f"cd / && {initdb}")
        assert made.code == 0, made.err
        options = ["-D", f"{folder}/db", "-p", str(port), "-k", "", "-h", "127.0.0.1", "-F", "-c", "jit=off"]
        server = (*nobody.split(), str(programs / "postgres"), *options)
        async with program("env", *settings.split(), *server, port=port):
            tunnel.put_in_pod(POD, PORT, ("127.0.0.1", port))
            pgbench = f"env {settings} {programs}/pgbench -h {await tunnel.address('echo')} -p 7 -U me"
            ready = await shell(f"{pgbench} -i -q -s 1 postgres")
            assert ready.code == 0, ready.err
            done = await shell(f"{pgbench} -n -c 8 -t 20 postgres && {pgbench} -n -C -c 2 -t 5 -S postgres")
            assert done.code == 0, done.err
            assert "160/160" in done.out
            assert "10/10" in done.out
    finally:
        shutil.rmtree(folder)
