"""Clients that go away at any moment leave nothing behind: no room, no share of a limit, no memory.

`ABORTS=100000` makes as many of them go.
"""

import json
import os
import pathlib
import random
import socket
import struct
import threading
from collections.abc import Callable

from e2e import limits, metrics, raw
from e2e.vectors import MODEL
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

ABORTS = int(os.environ.get("ABORTS", "2000"))
THREADS = 8
# A connection that is closed so sends RST, and is gone at once.
RESET = struct.pack("ii", 1, 0)
PLAN = (
    "{requests_per_minute: 1000000, tokens_per_minute: 100000000, tokens_per_day: 10000000000,"
    " concurrent_requests: 1000, key: {concurrent_requests: 500}}"
)
TEXTS = [f"text number {number}, of which nobody wants the vector" for number in range(16)]
# Go and its allocator keep some of what they had; a leak of 1 KiB for each request would be more.
MOST_GROWTH = 24 << 20
SETTLED = {"gateway_inflight_requests": 0, "hotpath_queued_tokens": 0}


def go_away(stack: Stack, count: int, seed: int) -> None:
    """Send requests or the beginning of them, and leave before, while or after they are answered."""
    rng = random.Random(seed)
    for _ in range(count):
        body = json.dumps({"model": MODEL, "input": rng.choices(TEXTS, k=rng.choice([1, 1, 16]))}).encode()
        whole = raw.post(stack.address, "/v1/embeddings", stack.keys["acme"], body)
        with socket.create_connection(stack.address, timeout=30) as connection:
            sent = rng.choice([len(whole), len(whole), rng.randrange(len(whole))])
            connection.sendall(whole[:sent])
            if sent == len(whole) and rng.random() < 0.3:
                connection.recv(rng.choice([1, 4096]))
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def many_go_away(stack: Stack, count: int, seed: int) -> None:
    threads = [threading.Thread(target=go_away, args=(stack, count // THREADS, seed + n)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def at_rest(stack: Stack) -> dict[str, float]:
    """What the gateway holds once nothing is under way."""
    samples: dict[str, float] = {}

    def settled() -> bool:
        samples.update(metrics.read(stack.metrics_url) | metrics.read(stack.hotpath_metrics_url))
        return all(samples[name] == value for name, value in SETTLED.items())

    wait_until("everything being at rest", settled, 60)
    return samples


def test_aborted_requests_leave_nothing(start_native: Callable[..., NativeStack], tmp_path: pathlib.Path) -> None:
    native = start_native(gateway={"tenants-file": limits.plans(tmp_path / "plans", acme=PLAN)})
    stack = native.describe()
    many_go_away(stack, ABORTS // 4, 0)  # buffers and pools grow to their size
    before = at_rest(stack)
    many_go_away(stack, ABORTS, THREADS)
    after = at_rest(stack)
    held = ("go_goroutines", "process_open_fds")
    assert {name: after[name] - before[name] for name in held if after[name] - before[name] > 2 * THREADS} == {}
    growth = after["process_resident_memory_bytes"] - before["process_resident_memory_bytes"]
    print(f"{ABORTS} aborted requests: {growth / 2**20:.1f} MiB more")
    assert growth < MOST_GROWTH
    with limits.client(stack, "acme") as http:
        report = http.get("/v1/limits").raise_for_status().json()
        assert http.post("/v1/embeddings", json={"model": MODEL, "input": "a"}).status_code == 200
    used = {
        (row["scope"], row["limit"]): row["used"] for row in report["data"] if row["limit"].startswith("concurrent")
    }
    assert set(used.values()) == {0}, used
    native.check_alive()
