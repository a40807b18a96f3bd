"""Chats and completions over plain HTTP: whole replies, and streams as the events that travel."""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import httpx
from google.protobuf import json_format
from triptych.bundle.v1 import bundle_pb2

from stack.native import MODELS

MODEL = "smollm2-135m-instruct"
GREEDY = {"temperature": 0}

Messages = list[dict[str, Any]]


def say(content: str) -> Messages:
    """A conversation of one message."""
    return [{"role": "user", "content": content}]


def body(messages: Messages, **fields: object) -> dict[str, object]:
    return {"model": MODEL, "messages": messages, **GREEDY, "max_tokens": 32, **fields}


def chat(http: httpx.Client, messages: Messages, **fields: object) -> dict[str, Any]:
    """The whole reply, which must be a success."""
    response = http.post("/v1/chat/completions", json=body(messages, **fields))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream, which ends with [DONE], or with an error as the last event."""
    for line in response.iter_lines():
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                return
            event: dict[str, Any] = json.loads(data)
            yield event
            if "error" in event:
                return
        else:
            assert line == "" or line.startswith(":"), line
    raise AssertionError("the stream ended without [DONE] or an error")


def stream(http: httpx.Client, messages: Messages, **fields: object) -> list[dict[str, Any]]:
    """All events of a stream."""
    with http.stream("POST", "/v1/chat/completions", json=body(messages, stream=True, **fields)) as response:
        assert response.status_code == 200, response.read()
        assert response.headers["content-type"].startswith("text/event-stream")
        return list(events(response))


def text(chunks: list[dict[str, Any]], choice: int = 0) -> str:
    """What the chunks of a choice say together."""
    deltas = [entry["delta"] for chunk in chunks for entry in chunk["choices"] if entry["index"] == choice]
    return "".join(delta.get("content") or "" for delta in deltas)


def finish_reasons(chunks: list[dict[str, Any]], choice: int = 0) -> list[str]:
    """Every finish reason that the chunks of a choice give."""
    entries = [entry for chunk in chunks for entry in chunk["choices"] if entry["index"] == choice]
    return [entry["finish_reason"] for entry in entries if entry.get("finish_reason")]


def golden(revision: str) -> bundle_pb2.GenerationGoldenFile:
    """What the reference says after some prompts."""
    folder: pathlib.Path = MODELS / MODEL / revision
    if not folder.exists():  # made in a container, where NumPy may round otherwise
        (folder,) = (path for path in (MODELS / MODEL).iterdir() if path.is_dir())
    manifest = json_format.Parse((folder / "bundle.json").read_text(), bundle_pb2.Manifest())
    return json_format.Parse((folder / manifest.golden_file).read_text(), bundle_pb2.GenerationGoldenFile())
