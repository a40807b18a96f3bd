"""Reads event streams over HTTP: one thread, one epoll loop, and a clock reading for each event as it arrives.

It must cost little, because on a small machine it takes its time from the services that it measures; `make bench`
prints what it takes. So what an event says is looked at when the stream has ended. It must not depend on the stack or
on any client library.
"""

import dataclasses
import json
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from e2e import raw

READ_SIZE = 1 << 16
# Longer than any measured stream takes; a server that hangs must not hang the benchmark.
LIMIT_S = 300


@dataclasses.dataclass(frozen=True)
class Request:
    """A POST that asks for a stream."""

    address: tuple[str, int]
    data: bytes  # head and body
    prompt_tokens: int | None = None  # what the server must count; None = not known


def build_request(
    address: tuple[str, int], path: str, key: str, body: dict[str, Any], prompt_tokens: int | None = None
) -> Request:
    """A request for a stream that ends with the server's counts."""
    content = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    return Request(address, raw.post(address, path, key, content), prompt_tokens)


@dataclasses.dataclass(frozen=True)
class Answer:
    """A stream that has ended well. Times are seconds of `time.monotonic`."""

    sent_at: float
    arrivals: Sequence[float]  # of the events that bring text
    text: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    @property
    def first_token_s(self) -> float:
        """Time to the first token."""
        return self.arrivals[0] - self.sent_at

    @property
    def tokens_per_s(self) -> float:
        """Speed of decoding: prefill is over when the first token is there."""
        return (self.completion_tokens - 1) / (self.arrivals[-1] - self.arrivals[0])


class Stream:
    """A stream under way."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.socket = socket.create_connection(request.address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = time.monotonic()
        self.socket.sendall(request.data)
        self.parts: list[tuple[float, bytes]] = []  # when a part of the body arrived, and the part
        self.done = False
        self._raw = bytearray()
        self._in_body = False

    def receive(self) -> None:
        """Take what has arrived."""
        data = self.socket.recv(READ_SIZE)
        now = time.monotonic()
        if not data:
            raise ConnectionError(f"the server closed a stream in the middle, after {self._raw[:300]!r}")
        self._raw += data
        if not self._in_body:
            end = self._raw.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._raw[:end])
            if not head.startswith(b"HTTP/1.1 200") or b"chunked" not in head.lower():
                raise RuntimeError(f"answered with {bytes(self._raw[:600])!r}")
            del self._raw[: end + 4]
            self._in_body = True
        self._take_chunks(now)

    def _take_chunks(self, now: float) -> None:
        """Undo HTTP's chunked transfer: `size in hexadecimal\\r\\n…\\r\\n`, and one of size 0 at the end."""
        while (line := self._raw.find(b"\r\n")) >= 0:
            size = int(self._raw[:line], 16)
            if len(self._raw) < line + 2 + size + 2:
                return
            if size == 0:
                self.done = True
                return
            self.parts.append((now, bytes(self._raw[line + 2 : line + 2 + size])))
            del self._raw[: line + 2 + size + 2]

    def answer(self) -> Answer:
        """What the stream said. Raises RuntimeError unless it is whole and as long as it was to be."""
        arrivals: list[float] = []
        words: list[str] = []
        usage: dict[str, Any] | None = None
        for at, event in self._events():
            if "error" in event:
                raise RuntimeError(f"a stream ended with {event['error']}")
            for choice in event["choices"]:
                said = choice["text"] if "text" in choice else choice["delta"].get("content")
                if said:
                    arrivals.append(at)
                    words.append(said)
            usage = event.get("usage") or usage
        if usage is None or len(arrivals) < 1:
            raise RuntimeError("a stream said nothing, or not how much it said")
        counted, expected = usage["prompt_tokens"], self._request.prompt_tokens
        if expected not in (None, counted):
            raise RuntimeError(f"a prompt of {expected} tokens was counted as {counted}: the comparison would not hold")
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        return Answer(self.sent_at, arrivals, "".join(words), counted, usage["completion_tokens"], cached)

    def _events(self) -> list[tuple[float, dict[str, Any]]]:
        """Each event with the time at which its last byte arrived."""
        found = []
        pending = b""
        for at, part in self.parts:
            *whole, pending = (pending + part).split(b"\n\n")
            data = [event.removeprefix(b"data: ") for event in whole if event.startswith(b"data: ")]
            found += [(at, json.loads(each)) for each in data if each != b"[DONE]"]
        return found


class Reader:
    """Reads any number of streams at once."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()

    def open(self, request: Request) -> Stream:
        """Send a request."""
        stream = Stream(request)
        self._selector.register(stream.socket, selectors.EVENT_READ, stream)
        return stream

    def read_until(self, reached: Callable[[], bool]) -> None:
        """Read whatever arrives on any stream until something is reached; looks after each arrival."""
        end = time.monotonic() + LIMIT_S
        while not reached():
            if time.monotonic() > end:
                raise RuntimeError(f"streams took longer than {LIMIT_S} s")
            self._read(1)

    def read_for(self, seconds: float) -> None:
        """Read whatever arrives in a time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._read(left)

    def _read(self, timeout: float) -> None:
        for key, _ in self._selector.select(timeout):
            stream: Stream = key.data
            stream.receive()
            if stream.done:
                self._selector.unregister(stream.socket)
                stream.socket.close()

    def finish(self, *streams: Stream) -> list[Answer]:
        """Read until these have ended."""
        self.read_until(lambda: all(stream.done for stream in streams))
        return [stream.answer() for stream in streams]


def together(requests: Sequence[Request]) -> list[Answer]:
    """Send requests at once and read all streams to their ends."""
    with Reader() as reader:
        return reader.finish(*[reader.open(request) for request in requests])
