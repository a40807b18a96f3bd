"""Clients that go away at any moment leave nothing behind: no room, no share of a limit, no memory.

`ABORTS=100000` makes as many of them go, as `make soak` does.
"""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from e2e import limits, metrics, raw
from e2e.chats import MODEL as CHAT_MODEL
from e2e.chats import body, events, finish_reasons, say
from e2e.vectors import MODEL
from soak.attacks import MODERATION
from soak.watch import Watch
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

ABORTS = int(os.environ.get("ABORTS", "2000"))
SLOWEST_PER_S = 50
THREADS = 8
# A connection that is closed so sends RST, and is gone at once.
RESET = struct.pack("ii", 1, 0)
PLAN = (
    "{requests_per_minute: 1000000, tokens_per_minute: 100000000, tokens_per_day: 10000000000,"
    " concurrent_requests: 1000, concurrent_streams: 1000, key: {concurrent_requests: 500, concurrent_streams: 500}}"
)
TEXTS = [f"text number {number}, of which nobody wants the vector" for number in range(16)]
# What is kept of texts that have ended has its full size soon.
SETTINGS = {"model-names": f"{MODEL},{MODERATION},{CHAT_MODEL}", "cache-bytes": str(32 << 20)}
# Go and its allocator keep some of what they had; a leak of 1 KiB for each request would be more.
MOST_GROWTH = 24 << 20
# A chat is left within so long of its beginning, which is before its end.
MOMENTS_S = 0.15
# Five times what Rust's h2 lets be taken back of a connection by default before it ends it.
LEAVING = 100


def embeddings(rng: random.Random) -> tuple[str, dict[str, object]]:
    return "/v1/embeddings", {"model": MODEL, "input": rng.choices(TEXTS, k=rng.choice([1, 1, 16]))}


def moderations(rng: random.Random) -> tuple[str, dict[str, object]]:
    return "/v1/moderations", {"model": MODERATION, "input": rng.choices(TEXTS, k=rng.choice([1, 4]))}


def chats(rng: random.Random) -> tuple[str, dict[str, object]]:
    fields: dict[str, object] = {"stream": rng.random() < 0.5, "max_tokens": 64, "ignore_eos": True}
    if rng.random() < 0.2:
        fields = {**fields, "ignore_eos": False, "response_format": {"type": "json_object"}}
    return "/v1/chat/completions", body(say(rng.choice(TEXTS)), **fields)


KINDS = {embeddings: 70, moderations: 20, chats: 10}


def go_away(stack: Stack, count: int, seed: int) -> None:
    """Send requests or the beginning of them, and leave before, while or after they are answered."""
    rng = random.Random(seed)
    for _ in range(count):
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        path, fields = kind(rng)
        whole = raw.post(stack.address, path, stack.keys["acme"], json.dumps(fields).encode())
        with socket.create_connection(stack.address, timeout=30) as connection:
            sent = rng.choice([len(whole), len(whole), rng.randrange(len(whole))])
            connection.sendall(whole[:sent])
            if sent == len(whole):
                stay(connection, rng, kind is chats, bool(fields.get("stream")))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def stay(connection: socket.socket, rng: random.Random, generates: bool, streams: bool) -> None:
    """Wait for some of the reply, or for a moment."""
    if streams and rng.random() < 0.5:
        seen = b""
        for _ in range(rng.choice([1, 2, 8])):
            seen += connection.recv(4096)
            if seen.endswith(b"\r\n0\r\n\r\n") or not seen.startswith(b"HTTP/1.1 200 "):
                return  # it has ended, and nothing comes behind it
    elif generates:
        time.sleep(rng.uniform(0, MOMENTS_S))
    elif rng.random() < 0.3:
        connection.recv(rng.choice([1, 4096]))


def many_go_away(stack: Stack, count: int, seed: int) -> None:
    threads = [threading.Thread(target=go_away, args=(stack, count // THREADS, seed + n)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def at_rest(stack: Stack) -> dict[str, dict[str, float]]:
    """What each service holds once nothing is under way; assert that nothing is."""
    watch = Watch(stack)
    watch.wait_for_rest()
    assert watch.failures == []
    held: dict[str, dict[str, float]] = {}
    for service, pid in stack.pids.items():
        process = psutil.Process(pid)
        held[service] = {"bytes": process.memory_info().rss, "files": process.num_fds()}
    held["gateway"]["goroutines"] = metrics.read(stack.metrics_url)["go_goroutines"]
    return held


@pytest.mark.timeout(120 + 1.25 * ABORTS / SLOWEST_PER_S)
def test_aborted_requests_leave_nothing(start_native: Callable[..., NativeStack], tmp_path: pathlib.Path) -> None:
    plans = limits.plans(tmp_path / "plans", acme=PLAN)
    native = start_native(gateway={"tenants-file": plans}, hotpath=SETTINGS)
    stack = native.describe()
    many_go_away(stack, ABORTS // 4, 0)  # buffers and pools grow to their size
    before = at_rest(stack)
    began = time.monotonic()
    many_go_away(stack, ABORTS, THREADS)
    per_s = ABORTS / (time.monotonic() - began)
    after = at_rest(stack)
    more = {
        service: {what: after[service][what] - was for what, was in held.items()} for service, held in before.items()
    }
    print(f"{ABORTS} aborted requests, {per_s:.0f} a second, {metrics.generations(stack)}: {more}")
    assert metrics.generations(stack)["cancelled"] > 0, "no chat was left while it ran"
    for grown in more.values():
        assert grown.pop("bytes") < MOST_GROWTH
        assert max(grown.values()) <= 2 * THREADS
    with limits.client(stack, "acme") as http:
        report = http.get("/v1/limits").raise_for_status().json()
        assert http.post("/v1/embeddings", json={"model": MODEL, "input": "a"}).status_code == 200
    used = {
        (row["scope"], row["limit"]): row["used"] for row in report["data"] if row["limit"].startswith("concurrent")
    }
    assert len(used) == 4
    assert set(used.values()) == {0}, used
    native.check_alive()


def test_clients_that_go_away_take_nobody_along(start_native: Callable[..., NativeStack]) -> None:
    """A hot path that had no processor for a moment finds requests that nobody wants any more, and one that is."""
    native = start_native(hotpath={"model-names": f"{MODEL},{CHAT_MODEL}"})
    stack, hotpath = native.describe(), native.hotpath
    assert hotpath is not None
    whole = raw.post(
        stack.address, "/v1/embeddings", stack.keys["acme"], json.dumps({"model": MODEL, "input": "a"}).encode()
    )
    story = body(say("Tell me a very long story."), stream=True, max_tokens=200, ignore_eos=True)

    def wait_for_calls(count: int) -> None:
        def calls() -> float:
            return metrics.read(stack.metrics_url)["gateway_replica_outstanding_calls"]

        wait_until(f"{count} calls", lambda: calls() == count, 20)

    with limits.client(stack, "globex") as http, http.stream("POST", "/v1/chat/completions", json=story) as response:
        told = events(response)
        chunks = [next(told)]
        hotpath.signal(signal.SIGSTOP)
        try:
            with contextlib.ExitStack() as leaving:
                for _ in range(LEAVING):
                    connection = leaving.enter_context(socket.create_connection(stack.address, timeout=30))
                    connection.sendall(whole)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                wait_for_calls(1 + LEAVING)
            wait_for_calls(1)
        finally:
            hotpath.signal(signal.SIGCONT)
        chunks += told
    assert "error" not in chunks[-1], chunks[-1]
    assert finish_reasons(chunks) == ["length"]
