"""The servers in the pods, asked directly on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from resolverd.demo.cluster import DemoCluster


@pytest.fixture
async def cluster() -> AsyncIterator[DemoCluster]:
    async with DemoCluster() as cluster:
        yield cluster


@pytest.fixture
async def web(cluster: DemoCluster) -> AsyncIterator[aiohttp.ClientSession]:
    """A session to port 8080 of shop/web-1."""
    host, port = await cluster.pod_address("shop", "web-1", 8080)
    async with aiohttp.ClientSession(base_url=f"http://{host}:{port}") as session:
        yield session


async def test_the_body_names_the_pod_and_what_was_asked(web: aiohttp.ClientSession) -> None:
    async with web.get("/cart?item=7") as response:
        assert await response.text() == "pod web-1 in namespace shop, port 8080, got GET /cart?item=7\n"


@pytest.mark.parametrize("count", [0, 1, 65536, 200_001])
async def test_bytes_are_as_many_as_asked_and_always_the_same(web: aiohttp.ClientSession, count: int) -> None:
    async with web.get(f"/bytes/{count}") as response:
        assert response.content_length == count
        body = await response.read()
    assert body == bytes(index % 256 for index in range(count))


async def test_statuses_and_echoes(web: aiohttp.ClientSession) -> None:
    async with web.get("/status/418") as response:
        assert response.status == 418
    async with web.post("/echo", data=b"\x00\xff" * 70_000) as response:
        assert await response.read() == b"\x00\xff" * 70_000


async def test_one_server_for_each_port_and_none_where_there_is_no_port(cluster: DemoCluster) -> None:
    assert await cluster.pod_address("shop", "web-1", 8080) == await cluster.pod_address("shop", "web-1", 8080)
    assert await cluster.pod_address("shop", "web-1", 8080) != await cluster.pod_address("shop", "web-2", 8080)
    with pytest.raises(ConnectionRefusedError):
        await cluster.pod_address("shop", "web-1", 9)
    with pytest.raises(ConnectionRefusedError):
        await cluster.pod_address("payments", "ledger-1", 8080)


async def test_a_deleted_pod_listens_no_more(cluster: DemoCluster, web: aiohttp.ClientSession) -> None:
    cluster.delete("pods", "web-1", "shop")
    await cluster.close()
    with pytest.raises(aiohttp.ClientConnectionError):
        await web.get("/")
