"""What breaks, for how long, and what a client sees: each test is a row of the table in docs/troubleshooting.md."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from tunnel_rig import Rig, process_on, rig

from resolverd.names import Address

pytestmark = pytest.mark.staged


@pytest.fixture
async def tunnel() -> AsyncIterator[Rig]:
    async with rig() as made:
        await made.start()
        yield made


class Client:
    """A connection to a pod that sends back what it gets."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connected(cls, address: Address) -> Client:
        client = cls(*await asyncio.open_connection(str(address), 7))
        await client.say(b"hello")
        return client

    async def say(self, word: bytes) -> None:
        async with asyncio.timeout(20):
            self._writer.write(word)
            assert await self._reader.readexactly(len(word)) == word

    async def ends(self, *, by_reset: bool = True) -> None:
        """Wait until the other side ends the connection."""
        try:
            async with asyncio.timeout(20):
                left = await self._reader.read()
        except ConnectionResetError:
            assert by_reset
        else:
            assert (left, by_reset) == (b"", False)

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def send(self, word: bytes) -> None:
        self._writer.write(word)


async def why_not(address: Address, port: int = 7) -> str:
    """What connecting ends with; empty when it succeeds."""
    try:
        async with asyncio.timeout(20):
            _, writer = await asyncio.open_connection(str(address), port)
    except OSError as error:
        return type(error).__name__ if isinstance(error, ConnectionRefusedError) else str(error.errno)
    writer.close()
    return ""


async def test_the_tunnel_process_is_killed(tunnel: Rig) -> None:
    address = await tunnel.address("echo")
    client, waiting = [await Client.connected(address) for _ in range(2)]
    tunnel.process.kill()
    await tunnel.process.wait()
    connecting = asyncio.create_task(why_not(address))
    done, _ = await asyncio.wait([connecting], timeout=0.2)
    assert not done, "nobody may say no meanwhile: the SYN is sent again"
    async with process_on(tunnel.device, tunnel.cluster) as second:
        await second.start()
        assert await connecting == ""
        await waiting.ends()  # although it sends nothing
        client.send(b"are you there?")
        await client.ends()
        for one in (client, waiting):
            await one.close()


async def test_the_api_server_is_gone_and_comes_back(tunnel: Rig) -> None:
    address = await tunnel.address("echo")
    client = await Client.connected(address)
    await tunnel.cluster.refuse()
    tunnel.cluster.faults.drop_streams()
    await client.ends()
    await client.close()
    assert await why_not(address) == "113"
    await tunnel.reported(lambda values: "cannot be reached" in values["state"] or "Cannot" in values["state"])
    await tunnel.cluster.listen()
    await tunnel.reported(lambda values: values["state"] == "ready")
    assert await why_not(address) == ""


async def test_one_pod_of_several_goes(tunnel: Rig) -> None:
    web = await tunnel.address("web")
    tunnel.cluster.delete("Pod", "web-1", "shop")  # and nobody has told the tunnel yet
    assert [await why_not(web, 80) for _ in range(6)] == [""] * 6
    await tunnel.feed()
    assert [await why_not(web, 80) for _ in range(6)] == [""] * 6
    assert tunnel.values.get("refused", []) == []


async def test_the_only_pod_goes(tunnel: Rig) -> None:
    address = await tunnel.address("echo")
    client = await Client.connected(address)
    tunnel.cluster.delete("Pod", "echo-1", "shop")
    await client.ends(by_reset=False)
    await client.close()
    assert await why_not(address) == "113"
    await tunnel.feed()
    async with asyncio.timeout(10):
        while await why_not(address) != "ConnectionRefusedError":
            await asyncio.sleep(0.02)
    await tunnel.reported(lambda values: "not ready, or there are none" in str(values["refused"]))
