"""A TCP proxy on loopback whose network is slow, resets or falls silent, as it is told while it is used."""

import asyncio
import contextlib
import math
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from stack.loopback import HOST

T = TypeVar("T")

CALL_LIMIT_S = 10
PIECE_BYTES = 1 << 16
# A connection that is closed so sends RST in place of FIN.
RESET = struct.pack("ii", 1, 0)


class _Connection:
    """A client's connection and the one to the server that it is joined to. All of it runs in the proxy's loop."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self._left = math.inf  # bytes of replies until the fault
        self._resets = False

    def fail(self, after_bytes: float, resets: bool) -> None:
        """End with a reset, or never pass anything again, once so many more bytes of replies have come."""
        self._left, self._resets = after_bytes, resets
        if resets and after_bytes <= 0:
            self.reset()

    def reset(self) -> None:
        for writer in self._writers:
            with contextlib.suppress(OSError):  # it is closed already
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    async def pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        reply: bool,
        latency: Callable[[], float] = lambda: 0,
        look: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        """Pass on what comes until either end closes."""
        with contextlib.suppress(OSError):
            while data := await source.read(PIECE_BYTES):
                look(data)
                if reply:
                    await asyncio.sleep(latency())
                if self._left <= 0:
                    continue  # swallowed
                if reply:
                    data = data[: int(min(self._left, len(data)))]
                    self._left -= len(data)
                sink.write(data)
                await sink.drain()
                if self._left <= 0 and self._resets:
                    self.reset()
        for writer in self._writers:
            writer.close()


class Proxy:
    """Passes everything on to `target`, unless it is told otherwise."""

    def __init__(self, target: str) -> None:
        self.latency_s = 0.0  # of each piece of a reply
        self.look: Callable[[bytes], None] = lambda _: None  # at each piece of a request, before it is passed on
        self._target = target.rsplit(":", 1)
        self._refuses = False
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._accept, HOST, 0))
        self.address = f"{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def reset(self, after_bytes: int = 0) -> None:
        """Reset the connections that there are, after so many more bytes of replies, and each new one at once."""
        self._call(self._fail(after_bytes, resets=True))

    def fall_silent(self, after_bytes: int = 0) -> None:
        """Pass nothing on, on the connections that there are; neither end is told. New ones are reset at once."""
        self._call(self._fail(after_bytes, resets=False))

    def heal(self) -> None:
        """Let new connections through. Those that fell silent stay so, as one does that a router has forgotten."""
        self._refuses = False

    def stop(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_LIMIT_S)

    async def _fail(self, after_bytes: int, resets: bool) -> None:
        self._refuses = True
        for connection in list(self._connections):
            connection.fail(after_bytes, resets)

    async def _end(self) -> None:
        self._server.close()
        for connection in list(self._connections):
            connection.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            _Connection(writer).reset()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:  # the server is away: so is this
            _Connection(writer).reset()
            return
        connection = _Connection(writer, up_writer)
        self._connections.add(connection)
        try:
            await asyncio.gather(
                connection.pump(reader, up_writer, reply=False, look=lambda data: self.look(data)),
                connection.pump(up_reader, writer, reply=True, latency=lambda: self.latency_s),
            )
        finally:
            self._connections.discard(connection)
