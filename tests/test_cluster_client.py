"""What a failing API server, or what stands before it, leads to: a true cause, and no secret."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from resolverd.cluster.access import Access, shown
from resolverd.cluster.client import ApiClient, ApiError, UnreachableError
from resolverd.errors import ClusterError


@contextlib.asynccontextmanager
async def answering(reply: bytes) -> AsyncIterator[str]:
    """A server on loopback that says ``reply`` to whatever is asked; its host and port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(4096)
        writer.write(reply)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


async def failure(access: Access) -> ClusterError:
    async with ApiClient(access) as client:
        with pytest.raises((UnreachableError, ApiError)) as caught:
            await client.get("/version")
    return caught.value


def http(status: str, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status.encode(), len(body), body)


async def test_a_proxy_s_password_is_never_said() -> None:
    async with answering(http("407 Proxy Authentication Required")) as proxy:
        error = await failure(Access("https://api.test:6443", proxy=f"http://user:sesame@{proxy}"))
    assert "sesame" not in str(error)
    assert "407" in error.why


async def test_a_password_in_the_server_s_address_is_not_shown() -> None:
    async with answering(http("500 Internal Server Error")) as server:
        error = await failure(Access(f"http://user:sesame@{server}"))
    assert "sesame" not in str(error)
    assert shown("https://user:sesame@api.test:6443/prefix") == "https://api.test:6443/prefix"


async def test_a_login_page_is_called_what_it_is() -> None:
    async with answering(http("200 OK", b"<html>log in</html>")) as server:
        error = await failure(Access(f"http://{server}"))
    assert "no JSON" in error.why


async def test_tls_to_a_plain_port_says_tls() -> None:
    async with answering(http("400 Bad Request")) as server:
        error = await failure(Access(f"https://{server}"))
    assert "TLS" in error.why or "SSL" in error.why
