"""Clients that are slow, half-open or gone hold nobody up."""

import contextlib
import json
import socket
import time
from collections.abc import Callable

import httpx

from e2e import metrics, raw
from e2e.vectors import MODEL, embed
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

HALF_OPEN = 100
# Beside a hundred stalled connections a request takes what it takes on an idle, noisy machine.
PROMPT_S = 5


def connect(stack: Stack) -> socket.socket:
    return socket.create_connection(stack.address, timeout=30)


def request(stack: Stack, body: bytes) -> bytes:
    return raw.post(stack.address, "/v1/embeddings", stack.keys["acme"], body)


def big_body(texts: int) -> bytes:
    return json.dumps({"model": MODEL, "input": ["a text of some ten tokens, which is not very long"] * texts}).encode()


def test_half_open_clients_hold_nobody_up(start_native: Callable[..., NativeStack]) -> None:
    native = start_native(gateway={"header-timeout": "2s", "body-timeout": "2s"})
    stack = native.describe()
    whole = request(stack, big_body(4))
    with contextlib.ExitStack() as open_connections:
        connections = [open_connections.enter_context(connect(stack)) for _ in range(HALF_OPEN)]
        for index, connection in enumerate(connections):
            # Cut in the headers for every other one, in the body for the rest.
            connection.sendall(whole[:20] if index % 2 else whole[:-20])
        headers = {"authorization": f"Bearer {stack.keys['acme']}"}
        with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as http:
            for _ in range(10):
                started = time.monotonic()
                assert embed(http, "in between")
                assert time.monotonic() - started < PROMPT_S
        # Each is told, or just closed, after its time; none is held for ever.
        for index, connection in enumerate(connections):
            reply = connection.recv(100)
            assert reply == b"" or reply.startswith(b"HTTP/1.1 408 ") or (index % 2 and reply.startswith(b"HTTP/1.1 "))


def test_a_client_that_does_not_read_holds_nobody_up(start_native: Callable[..., NativeStack]) -> None:
    native = start_native(gateway={"write-timeout": "2s"})
    stack = native.describe()
    with connect(stack) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(request(stack, big_body(1000)))
        headers = {"authorization": f"Bearer {stack.keys['acme']}"}
        with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as http:
            for _ in range(10):
                assert embed(http, "in between")


def test_work_of_a_client_that_went_away_is_dropped(start_native: Callable[..., NativeStack]) -> None:
    native = start_native(hotpath={"workers": "1", "max-queue-tokens": "1000000"})
    stack = native.describe()
    queued = "hotpath_queued_tokens"
    body = big_body(2000)
    headers = {"authorization": f"Bearer {stack.keys['acme']}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as http:
        started = time.monotonic()
        reply = http.post("/v1/embeddings", content=body).raise_for_status()
        whole_s = time.monotonic() - started
    tokens = reply.json()["usage"]["total_tokens"]
    with contextlib.ExitStack() as clients:
        for _ in range(4):
            clients.enter_context(connect(stack)).sendall(request(stack, body))
        wait_until("lists being queued", lambda: metric(stack, queued) > 2 * tokens, 30)
    started = time.monotonic()
    wait_until("the queue being empty", lambda: metric(stack, queued) == 0, 60)
    # What is queued would take more than twice what one list took; a queue that is dropped is empty at once.
    assert time.monotonic() - started < whole_s


def metric(stack: Stack, name: str) -> float:
    return metrics.read(stack.hotpath_metrics_url)[name]
