"""A load generator for keep-alive HTTP: one thread, one epoll loop, requests built beforehand.

It must cost little, because on a small machine it takes its time from the services that it measures: about 50 µs of
one core for a request (`make bench` measures it and prints the figure). It therefore speaks just enough HTTP/1.1 for
its purpose: replies with a Content-Length. It must not depend on the stack or on any client library.
"""

import dataclasses
import random
import re
import resource
import selectors
import socket
import time
from collections.abc import Callable, Sequence

CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
CLOSES = re.compile(rb"(?i)\r\nconnection: *close")
READ_SIZE = 1 << 18
# Most requests under way at a time: more than the gateway serves at once, so that it refuses some.
CONNECTIONS = 4096
# What else a benchmark has open: logs, models, plots, the selector.
OTHER_FILES = 128
OPEN_FILES = 8192  # enough for both; some systems allow no limit that is much higher


@dataclasses.dataclass
class Reply:
    """One finished request."""

    index: int  # of the request in the sequence that was sent
    status: int
    latency_s: float  # since the request was due, not since it was sent: waiting for a connection counts
    done_at_s: float  # since the start of the run
    headers: bytes
    body: bytes | None = None


class _Connection:
    """One keep-alive connection with at most one request under way."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.index = -1
        self.due_at = 0.0
        self.buffer = bytearray()

    def send(self, index: int, due_at: float, request: bytes) -> None:
        self.index, self.due_at = index, due_at
        self.buffer.clear()
        self.socket.sendall(request)

    def receive(self) -> tuple[int, bytes, bytes] | None:
        """Status, head and body once the reply is whole, None before."""
        data = self.socket.recv(READ_SIZE)
        if not data:
            raise ConnectionError("the server closed a connection in mid-request")
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self.buffer[: end + 2])
        match = CONTENT_LENGTH.search(head)
        if match is None:
            raise ValueError("the load generator needs replies with a Content-Length")
        if len(self.buffer) < end + 4 + int(match.group(1)):
            return None
        return int(head[9:12]), head, bytes(self.buffer[end + 4 :])


class Client:
    """One client that waits for each reply."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = _Connection(address)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.socket.close()

    def seconds(self, request: bytes) -> float:
        """Time from sending a request to the end of its reply, which must be a success."""
        start = time.perf_counter()
        self._connection.send(0, 0.0, request)
        while (result := self._connection.receive()) is None:
            pass
        if result[0] != 200:
            raise RuntimeError(f"answered with {result[0]}: {result[2][:200]!r}")
        return time.perf_counter() - start


def allow_connections() -> int:
    """Raise this process's own limit of open files, where the system lets it; return how many connections that allows.

    A login shell's limit is usually 1024, on macOS 256.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if connections_allowed() < CONNECTIONS:
        soft = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections_allowed()


def connections_allowed() -> int:
    """As many connections as the limit of open files has room for, at most CONNECTIONS."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, min(CONNECTIONS, soft - OTHER_FILES))


# When request number `index` is due, in seconds since the start, asked at `now`; None = there are no more.
Schedule = Callable[[int, float], float | None]


def _run(
    address: tuple[str, int], requests: Sequence[bytes], connections: int, schedule: Schedule, keep_bodies: bool
) -> list[Reply]:
    """Send requests[i % n] when the schedule says so, until all are answered.

    A request takes the connection that was idle last, or else a new one, up to a number: one that is opened long before
    its first request would be closed by a server that takes it for a half-open client.
    """
    connections = min(connections, connections_allowed())
    selector = selectors.DefaultSelector()
    idle: list[_Connection] = []
    opened = 0
    replies: list[Reply] = []
    index = 0
    start = time.perf_counter()
    try:
        while True:
            now = time.perf_counter() - start
            due_at = schedule(index, now)
            if due_at is not None and due_at <= now and not idle and opened < connections:
                idle.append(_Connection(address))
                selector.register(idle[-1].socket, selectors.EVENT_READ, idle[-1])
                opened += 1
            if due_at is not None and due_at <= now and idle:
                idle.pop().send(index, due_at, requests[index % len(requests)])
                index += 1
                continue
            if due_at is None and len(idle) == opened:
                return replies
            wait = max(0.0, due_at - now) if due_at is not None and (idle or opened < connections) else None
            for event, _ in selector.select(wait):
                connection = event.data
                result = connection.receive()
                if result is None:
                    continue
                status, head, body = result
                done = time.perf_counter() - start
                replies.append(
                    Reply(connection.index, status, done - connection.due_at, done, head, body if keep_bodies else None)
                )
                if CLOSES.search(head):  # some servers do after so many requests
                    selector.unregister(connection.socket)
                    connection.socket.close()
                    opened -= 1
                else:
                    idle.append(connection)
    finally:
        for key in list(selector.get_map().values()):
            key.data.socket.close()
        selector.close()


def closed_loop(
    address: tuple[str, int], requests: Sequence[bytes], clients: int, duration_s: float, keep_bodies: bool = False
) -> list[Reply]:
    """Each client sends its next request when its last one is answered: measures capacity."""
    return _run(address, requests, clients, lambda _, now: now if now < duration_s else None, keep_bodies)


def open_loop(
    address: tuple[str, int],
    requests: Sequence[bytes],
    rate_per_s: float,
    duration_s: float,
    seed: int = 1,
) -> list[Reply]:
    """Requests arrive as a Poisson process, whether or not the earlier ones are answered: latency at a given load."""
    generator = random.Random(seed)
    times: list[float] = [generator.expovariate(rate_per_s)]

    def schedule(index: int, _now: float) -> float | None:
        while len(times) <= index:
            times.append(times[-1] + generator.expovariate(rate_per_s))
        return times[index] if times[index] <= duration_s else None

    return _run(address, requests, CONNECTIONS, schedule, keep_bodies=False)
