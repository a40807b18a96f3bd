"""Requests of many kinds, for whoever watches a stack at work."""

import contextlib
import itertools
import threading

import httpx

from e2e import chats, limits
from e2e.collector import sampled
from e2e.vectors import MODEL
from stack.description import Stack


class Traffic:
    """A little of everything, over and over, while it is entered as a context. Nobody minds what becomes of it."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._ended = stack, threading.Event()
        self._thread = threading.Thread(target=self._go)

    def _go(self) -> None:
        with limits.client(self._stack, "acme") as http, limits.client(self._stack, "tiny") as tiny:
            for number in itertools.count(1):
                if self._ended.wait(0.05):
                    return
                with contextlib.suppress(httpx.HTTPError):
                    self._once(http, tiny, number)

    def _once(self, http: httpx.Client, tiny: httpx.Client, number: int) -> None:
        traceparent = {"traceparent": sampled(number)[1]}
        http.post("/v1/embeddings", json={"model": MODEL, "input": ["a text", "and another"]}, headers=traceparent)
        tiny.post("/v1/embeddings", json={"model": MODEL, "input": "a text"})
        http.post("/v1/embeddings", json={"model": MODEL, "input": ""})
        http.post("/v1/moderations", json={"input": "a text"})
        # One that repeats itself, so that some of it is guessed, and of which something is reused.
        said = chats.body(
            chats.say("Count: one two three one two three one two three one two"), max_tokens=8, stream=True
        )
        http.post("/v1/chat/completions", json=said)
        http.post("/v1/jobs", json={"endpoint": "/v1/embeddings", "body": {"model": MODEL, "input": "a text"}})

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
