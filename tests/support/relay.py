"""A relay between a client and a server on the loopback that counts every byte it passes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

READ_BYTES = 1 << 18


class Relay:
    """To one server. What gRPC adds to its messages counts, too."""

    def __init__(self, to: str) -> None:
        self.num_bytes = 0  # both ways
        self.address = ""
        self._host, _, port = to.rpartition(":")
        self._port = int(port)

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what one client sends and is sent, until either side ends."""
        server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_on(reader, server_writer))
            group.create_task(self._pass_on(server_reader, writer))

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(READ_BYTES):
                self.num_bytes += len(data)
                sink.write(data)
                await sink.drain()
        sink.close()
        with suppress(ConnectionError):
            await sink.wait_closed()


@asynccontextmanager
async def relaying(to: str) -> AsyncIterator[Relay]:
    """A relay to `host:port` for the length of the block, in which its clients must leave it."""
    relay = Relay(to)
    server = await asyncio.start_server(relay.connected, "127.0.0.1", 0)
    relay.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield relay
