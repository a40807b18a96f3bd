"""Streams that break: the client leaves, the hot path dies, nobody reads."""

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from e2e import metrics, raw
from e2e.chats import MODEL, Messages, body, events, finish_reasons, say
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

StartNative = Callable[..., NativeStack]
StartQuiet = Callable[[dict[str, str], dict[str, str]], Stack]
# They go on for far longer than any test waits, and fit the model's 8192 tokens with the longer prompt too.
ENDLESS: Any = {"ignore_eos": True, "max_tokens": 6000}
STORY: Any = say("Tell me a very long story.")
LONG_PROMPT: Any = say("word " * 2000)
PHASES = ("queued_generations", "prefilling_generations", "decoding_rows", "parked_rows")


def phase(stack: Stack, name: str) -> float:
    """Continuations that the hot path has in a phase."""
    return metrics.read(stack.hotpath_metrics_url)[f"hotpath_{name}"]


def active(stack: Stack) -> float:
    """Continuations that the hot path has, in any phase."""
    read = metrics.read(stack.hotpath_metrics_url)
    return sum(read[f"hotpath_{name}"] for name in PHASES)


def cancelled(stack: Stack) -> float:
    """Streams that ended because nobody took them any more, neither by themselves nor by the hot path's own limit."""
    return metrics.generations(stack).get("cancelled", 0)


@pytest.fixture
def http_of(start_native: StartNative) -> Iterator[tuple[NativeStack, httpx.Client]]:
    native = start_native(hotpath={"model-names": MODEL})
    stack = native.describe()
    headers = {"authorization": f"Bearer {stack.keys['acme']}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as http:
        yield native, http


def test_a_killed_hotpath_is_an_error_event_and_no_stop(http_of: tuple[NativeStack, httpx.Client]) -> None:
    native, http = http_of
    with http.stream("POST", "/v1/chat/completions", json=body(STORY, stream=True, **ENDLESS)) as response:
        coming = events(response)
        seen = [next(coming) for _ in range(5)]
        assert native.hotpath is not None
        native.hotpath.kill()
        seen += list(coming)
    assert seen[-1]["error"]["code"] == "hotpath_unavailable"
    assert finish_reasons([event for event in seen if "error" not in event]) == []
    native.start_hotpath()
    native.wait_ready()


def test_the_sdk_raises_when_the_hotpath_dies(http_of: tuple[NativeStack, httpx.Client]) -> None:
    native, _ = http_of
    stack = native.describe()
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.keys["acme"], max_retries=0) as client:
        stream = client.chat.completions.create(
            model=MODEL,
            messages=STORY,
            stream=True,
            max_tokens=6000,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        assert native.hotpath is not None
        native.hotpath.kill()
        with pytest.raises(openai.APIError, match="cannot be reached"):
            list(stream)


@contextlib.contextmanager
def asking(stack: Stack, messages: Messages, **fields: object) -> Iterator[None]:
    """A client that asks for a stream, reads nothing of it, and leaves."""
    request = json.dumps(body(messages, stream=True, **ENDLESS, **fields)).encode()
    with socket.socket() as connection:
        # Small segments keep the sender's buffer small, which else takes megabytes before a write waits.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(stack.address)
        connection.sendall(raw.post(stack.address, "/v1/chat/completions", stack.keys["acme"], request))
        yield


@pytest.fixture
def start_quiet(start_native: StartNative) -> StartQuiet:
    """Start stacks that ask nothing of themselves once they are ready, so that what runs is what the test asked for."""

    def start(gateway: dict[str, str], hotpath: dict[str, str]) -> Stack:
        return start_native(
            gateway={"canary-interval": "1h", "ready-window": "2h", **gateway},
            hotpath={"model-names": MODEL, "probe-ms": "3600000", "ready-ms": "7200000", **hotpath},
        ).describe()

    return start


def test_a_client_that_leaves_frees_its_slot_in_every_phase(start_quiet: StartQuiet) -> None:
    # Both are patient: only that the client leaves may end its stream.
    stack = start_quiet({"write-timeout": "10m"}, {"slow-reader-ms": "600000", "max-rows": "1", "max-choices": "1"})
    with asking(stack, STORY):
        wait_until("a row that decodes", lambda: phase(stack, "decoding_rows") == 1, 10)
        with asking(stack, STORY):
            wait_until("one that waits", lambda: phase(stack, "queued_generations") == 1, 10)
        wait_until("the place of the one that waited being free", lambda: active(stack) == 1, 10)
    wait_until("the slot of the one that decoded being free", lambda: active(stack) == 0, 10)
    with asking(stack, LONG_PROMPT):
        wait_until("one whose prompt is read", lambda: phase(stack, "prefilling_generations") == 1, 10)
    wait_until("the slot of the one whose prompt was read being free", lambda: active(stack) == 0, 10)
    wait_until("none having ended by itself", lambda: cancelled(stack) == 3, 5)


def test_one_that_does_not_read_is_ended_and_holds_nobody_up(start_quiet: StartQuiet) -> None:
    # The hot path is patient, and the stream much longer than the wait: only the gateway may end it.
    stack = start_quiet({"write-timeout": "1s"}, {"slow-reader-ms": "600000"})
    headers = {"authorization": f"Bearer {stack.keys['acme']}"}
    with (
        asking(stack, STORY, logprobs=True, top_logprobs=20),
        httpx.Client(base_url=stack.url, headers=headers, timeout=60) as http,
    ):
        wait_until("its row", lambda: active(stack) == 1, 20)
        assert http.post("/v1/chat/completions", json=body(say("Hello"))).status_code == 200
        wait_until("its slot being free", lambda: active(stack) == 0, 20)
    wait_until("its not having ended by itself", lambda: cancelled(stack) == 1, 5)
