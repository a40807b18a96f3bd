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
from e2e.chats import MODEL, body, events, finish_reasons, say
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

StartNative = Callable[..., NativeStack]
ENDLESS = {"ignore_eos": True, "max_tokens": 1500}
STORY: Any = say("Tell me a very long story.")
LONG_PROMPT = say("word " * 1500)


def active(stack: Stack) -> float:
    """Continuations that the hot path has, in any phase."""
    read = metrics.read(stack.hotpath_metrics_url)
    phases = ("queued_generations", "prefilling_generations", "decoding_rows", "parked_rows")
    return sum(read[f"hotpath_{phase}"] for phase in phases)


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
            max_tokens=1500,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        assert native.hotpath is not None
        native.hotpath.kill()
        with pytest.raises(openai.APIError, match="cannot be reached"):
            list(stream)


def test_a_client_that_leaves_frees_its_slot_in_every_phase(http_of: tuple[NativeStack, httpx.Client]) -> None:
    native, http = http_of
    stack = native.describe()
    with http.stream("POST", "/v1/chat/completions", json=body(STORY, stream=True, **ENDLESS)) as decoding:
        coming = events(decoding)  # which closes the stream when nobody holds it any more
        next(coming)
        wait_until("a row that decodes", lambda: active(stack) == 1, 10)
    wait_until("the slot of the one that decoded being free", lambda: active(stack) == 0, 10)
    # Leaves while its prompt is read, or before.
    with contextlib.suppress(httpx.ReadTimeout):
        http.post("/v1/chat/completions", json=body(LONG_PROMPT), timeout=0.05)
    wait_until("the slot of the one that left early being free", lambda: active(stack) == 0, 10)


def test_one_that_does_not_read_is_ended_and_holds_nobody_up(start_native: StartNative) -> None:
    native = start_native(gateway={"write-timeout": "1s"}, hotpath={"model-names": MODEL})
    stack = native.describe()
    request = json.dumps(body(STORY, stream=True, logprobs=True, top_logprobs=20, **ENDLESS)).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(stack.address)
        connection.sendall(raw.post(stack.address, "/v1/chat/completions", stack.keys["acme"], request))
        headers = {"authorization": f"Bearer {stack.keys['acme']}"}
        with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as http:
            wait_until("its row", lambda: active(stack) == 1, 20)
            assert http.post("/v1/chat/completions", json=body(say("Hello"))).status_code == 200
        wait_until("its slot being free", lambda: active(stack) == 0, 60)
