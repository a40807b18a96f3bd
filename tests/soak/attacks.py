"""Requests that are meant to hurt, and what may come of them."""

import contextlib
import json
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from e2e import raw
from e2e.chats import MODEL as CHAT
from e2e.chats import say
from e2e.vectors import MODEL as EMBEDDING
from soak import schemas
from stack.description import Stack

MODERATION = "moderation-minilm"
# The longest that anybody waits for the next bytes. An attacker's generation may take longer, and then it gives up.
TIMEOUT_S = 60
# What a request may be told. A fault of ours is none of them.
ALLOWED = {200, 400, 404, 405, 408, 413, 415, 429, 431, 503, 504}
HURTFUL_TEXTS: list[Callable[[random.Random], str]] = [
    lambda rng: "-" * rng.choice([10_000, 1_000_000, 4_000_000]),
    lambda rng: "a" * rng.choice([10_000, 1_000_000, 7_000_000]),
    lambda rng: " " * rng.choice([10_000, 4_000_000]),
    lambda rng: "\u0000\u0001\u001f" * rng.choice([10, 100_000]),
    lambda rng: "ﷺ" * rng.choice([100, 200_000]),  # one character that a normaliser makes eighteen of
    lambda rng: "👩‍👩‍👧‍👦" * rng.choice([10, 50_000]),
    lambda rng: "e" + "\u0301" * rng.choice([10, 500_000]),
    lambda rng: "<|im_end|>" * rng.choice([10, 100_000]),
    lambda rng: "[SEP]" * rng.choice([10, 100_000]),
    lambda rng: "1234567890" * rng.choice([100, 300_000]),
    lambda rng: "word " * rng.choice([10, 300, 400_000]),
    lambda rng: "".join(chr(rng.randrange(32, 0xD7FF)) for _ in range(rng.choice([10, 3000]))),
]


class Wrong(Exception):  # noqa: N818
    """Something that may not come of any request."""


@dataclass(frozen=True)
class Attack:
    """One request to the gateway."""

    name: str
    path: str
    body: bytes
    stream: bool = False
    leave_after: int | None = None  # so many pieces of the reply are read, and then the client is gone
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=dict)

    def run(self, http: httpx.Client, over: threading.Event) -> str:
        """Send it, and return what came of it in a word; leave a stream once all is over. Raises Wrong."""
        request = http.build_request(self.method, self.path, content=self.body, headers=self.headers)
        try:
            with contextlib.closing(http.send(request, stream=True)) as response:
                return self.judge(response, over)
        except httpx.ReadTimeout:
            return "gave up"
        except httpx.TransportError as error:
            raise Wrong(f"{self.name}: {type(error).__name__} {error}") from error

    def judge(self, response: httpx.Response, over: threading.Event) -> str:
        if response.status_code not in ALLOWED:
            raise Wrong(f"{self.name}: {response.status_code} {response.read()[:300]!r}")
        if response.status_code == 200 and (self.stream or self.leave_after is not None):
            return self.judge_stream(response, over)
        content = response.read()
        if response.status_code >= 400 and response.status_code != 431:  # that one is the HTTP library's own
            error = json.loads(content)["error"]
            retry_after = response.headers.get("retry-after", "")
            must_come_back = response.status_code in {429, 503}
            if not (error["message"] and error["type"]) or (must_come_back and not 1 <= int(retry_after) <= 60):
                raise Wrong(f"{self.name}: {response.status_code}, retry after {retry_after}: {content[:300]!r}")
            return f"{response.status_code} {error['code']}"
        return str(response.status_code)

    def judge_stream(self, response: httpx.Response, over: threading.Event) -> str:
        last = ""
        for number, line in enumerate(response.iter_lines()):
            if over.is_set() or (self.leave_after is not None and number >= self.leave_after):
                return "left"
            last = line if line.startswith("data: ") else last
        if last == "data: [DONE]" or not self.stream:
            return "200"
        error = json.loads(last.removeprefix("data: "))["error"]
        if error["code"] == "internal_error":
            raise Wrong(f"{self.name}: {last}")
        return f"broke off: {error['code']}"


def compact(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def schema(rng: random.Random) -> Attack:
    kind = rng.choice(schemas.KINDS)
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": kind(rng)}}
    body = {
        "model": CHAT,
        "messages": say("Say something."),
        "max_tokens": rng.choice([8, 64]),
    }
    streams = rng.random() < 0.5
    fields = {**body, "response_format": wanted, "stream": streams, "temperature": rng.choice([0, 1, 2])}
    leave = rng.randrange(3) if streams and rng.random() < 0.3 else None
    return Attack(f"schema: {kind.__name__}", "/v1/chat/completions", compact(fields), streams, leave)


def text(rng: random.Random) -> Attack:
    hurts = rng.choice(HURTFUL_TEXTS)(rng)
    path, body = rng.choice(
        [
            ("/v1/embeddings", {"model": EMBEDDING, "input": hurts}),
            ("/v1/embeddings", {"model": EMBEDDING, "input": [hurts[:2000]] * rng.choice([1, 100, 2048])}),
            ("/v1/moderations", {"model": MODERATION, "input": hurts}),
            ("/v1/tokenize", {"model": rng.choice([EMBEDDING, CHAT]), "input": hurts}),
            (
                "/v1/chat/completions",
                {"model": CHAT, "messages": say(hurts), "max_tokens": 4},
            ),
            ("/v1/completions", {"model": CHAT, "prompt": hurts, "max_tokens": 4}),
        ]
    )
    return Attack(f"text: {path}", path, compact(body))


def json_bomb(rng: random.Random) -> Attack:
    depth = rng.choice([100, 10_000, 1_000_000])
    bodies = [
        b"[" * depth,
        b'{"a":' * depth,
        b'{"model":"m","input":' + b"[" * depth + b"]" * depth + b"}",
        b'{"model":"m","input":[' + b'"",' * depth + b'""]}',
        b'{"model":"m","input":' + b"9" * depth + b"}",
        b'{"model":"m","input":"' + b"\\u0041" * depth + b'"}',
        b"{" + b'"a":1,' * depth + b'"a":1}',
        b'{"messages":[' + b'{"role":"user","content":""},' * (depth // 10) + b"{}]}",
        b'\xef\xbb\xbf{"model":"m"}',
        b'{"model":"\xff\xfe"}',
        b"",
        b"null",
        rng.randbytes(1000),
    ]
    path = rng.choice(["/v1/embeddings", "/v1/chat/completions", "/v1/completions", "/v1/moderations", "/v1/tokenize"])
    return Attack(f"JSON: {path}", path, rng.choice(bodies))


def parameters(rng: random.Random) -> Attack:
    extremes: list[Any] = [None, -1, 0, 1, 2, 64, 1e308, 2**31, 2**32, 2**64, "1", True, [], {}, 0.5, 1e-300]
    names = [
        *(
            "n",
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "max_tokens",
            "max_completion_tokens",
            "seed",
            "stop",
            "logprobs",
        ),
        *("top_logprobs", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias", "min_tokens"),
        *("ignore_eos", "stream", "stream_options", "user", "response_format", "tools", "unknown"),
    ]
    fields = {name: rng.choice(extremes) for name in rng.sample(names, rng.choice([1, 2, 5]))}
    body = {"model": CHAT, "messages": say("Hello"), "max_tokens": 8, **fields}
    return Attack("parameters", "/v1/chat/completions", compact(body), stream=fields.get("stream") is True)


def sampling(rng: random.Random) -> Attack:
    """Valid, and as costly as it may be."""
    body = {
        "model": CHAT,
        "messages": say("Tell me a story. " * rng.choice([1, 100])),
        "max_tokens": rng.choice([1, 16, 200]),
        "n": rng.choice([1, 2, 8]),
        "temperature": rng.choice([0, 0.01, 1, 2]),
        "top_p": rng.choice([0.01, 0.5, 1]),
        "logprobs": True,
        "top_logprobs": rng.choice([0, 20]),
        "stop": ["".join(rng.choices("abc ", k=rng.choice([1, 60]))) for _ in range(rng.choice([1, 4]))],
        "logit_bias": {str(rng.randrange(49_000)): rng.choice([-100, 100]) for _ in range(rng.choice([1, 300]))},
        "stream": True,
    }
    return Attack("sampling", "/v1/chat/completions", compact(body), True, rng.choice([None, 1, 5]))


def route(rng: random.Random) -> Attack:
    path = rng.choice(
        [
            "/",
            "/v1",
            "/v1/models",
            "/v1/models/" + "a" * 5000,
            "/v1/embeddings/..%2f",
            "//v1//models",
            "/readyz",
            "/v1/%00",
        ]
    )
    method = rng.choice(["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
    headers = rng.choice(
        [{}, {"x-request-id": "x" * 3000}, {"traceparent": "00-" + "f" * 500}, {"expect": "100-continue"}]
    )
    return Attack(f"route: {method}", path, b"{}", method=method, headers=headers)


KINDS: list[tuple[int, Callable[[random.Random], Attack]]] = [
    (6, schema),
    (3, text),
    (2, json_bomb),
    (3, parameters),
    (3, sampling),
    (1, route),
]


def choose(rng: random.Random) -> Attack:
    weights, kinds = zip(*KINDS, strict=True)
    make: Callable[[random.Random], Attack] = rng.choices(kinds, weights)[0]
    return make(rng)


def cut_short(rng: random.Random, stack: Stack, tenant: str) -> str:
    """Bytes that are no whole request, on a connection of their own."""
    whole = raw.post(
        stack.address, "/v1/embeddings", stack.keys[tenant], compact({"model": EMBEDDING, "input": "a" * 9000})
    )
    sent = rng.choice(
        [whole[: rng.randrange(len(whole))], rng.randbytes(500), b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01" * 50]
    )
    with socket.create_connection(stack.address, timeout=TIMEOUT_S) as connection:
        connection.sendall(sent)
    return "cut short"
