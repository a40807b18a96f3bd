"""Batches as their tests make them and read them."""

import json
from typing import Any

import openai

from e2e.vectors import MODEL
from stack.waiting import wait_until

EMBEDDINGS: Any = "/v1/embeddings"
LIMIT_S = 60
TERMINAL = ("completed", "failed", "expired", "cancelled")


def request(custom_id: str, body: dict[str, Any], endpoint: str = EMBEDDINGS) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": endpoint, "body": body}


def embed(number: int) -> dict[str, Any]:
    return request(f"line-{number}", {"model": MODEL, "input": f"text {number}"})


def upload(client: openai.OpenAI, lines: list[dict[str, Any]], line_bytes: int = 0) -> str:
    """The id of a file of these lines, each of so many bytes at least."""
    content = "".join(json.dumps(line).ljust(line_bytes) + "\n" for line in lines)
    return client.files.create(file=("in.jsonl", content.encode()), purpose="batch").id


def submit(client: openai.OpenAI, lines: list[dict[str, Any]], endpoint: Any = EMBEDDINGS, line_bytes: int = 0) -> str:
    file = upload(client, lines, line_bytes)
    batch = client.batches.create(
        input_file_id=file, endpoint=endpoint, completion_window="24h", metadata={"for": "a test"}
    )
    assert batch.object == "batch"
    assert batch.metadata == {"for": "a test"}
    return batch.id


def ended(client: openai.OpenAI, batch_id: str, limit_s: float = LIMIT_S) -> Any:
    """The batch, once it has ended."""

    def look() -> Any:
        batch = client.batches.retrieve(batch_id)
        return batch if batch.status in TERMINAL else None

    return wait_until("the end of the batch", look, limit_s)


def completed(client: openai.OpenAI, batch_id: str) -> int:
    counts = client.batches.retrieve(batch_id).request_counts
    assert counts
    return counts.completed


def content(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
