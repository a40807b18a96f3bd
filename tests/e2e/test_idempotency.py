"""Idempotency-Key: what creates is done once, however often it is sent and whenever the gateway is killed."""

import json
import threading
import time
from collections.abc import Callable

import httpx
import openai
import pytest

from e2e import batches
from e2e.databases import Database, chance
from e2e.limits import client as http_of
from stack.native import NativeStack

KILLS = 5
LIMIT_S = 60


def test_the_python_sdk_creates_once(client: openai.OpenAI) -> None:
    key = {"Idempotency-Key": f"sdk-{time.time_ns()}"}
    line = b'{"custom_id": "a"}\n'
    raw = [
        client.files.with_raw_response.create(file=("in.jsonl", line), purpose="batch", extra_headers=key)
        for _ in range(2)
    ]
    assert raw[0].content == raw[1].content
    assert [response.headers.get("idempotent-replayed") for response in raw] == [None, "true"]
    file_id = raw[0].parse().id
    made = [
        client.batches.create(
            input_file_id=file_id, endpoint=batches.EMBEDDINGS, completion_window="24h", extra_headers=key
        )
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert [listed.id for listed in client.batches.list(limit=5)].count(made[0].id) == 1
    with pytest.raises(openai.ConflictError, match='"metadata" differs'):
        client.batches.create(
            input_file_id=file_id,
            endpoint=batches.EMBEDDINGS,
            completion_window="24h",
            metadata={"another": "request"},
            extra_headers=key,
        )


def test_what_a_killed_gateway_was_asked_is_there_once(
    database: Database, start_native: Callable[..., NativeStack]
) -> None:
    native = start_native(hotpath_address="127.0.0.1:1", wait=False, gateway=database.settings)
    random = chance()
    answers: list[bytes] = []
    failures: list[BaseException] = []
    over = threading.Event()

    def create(http: httpx.Client, number: int) -> bytes:
        """Send a request until it is answered."""
        while True:
            try:
                response = http.post(
                    "/v1/files",
                    data={"purpose": "user_data"},
                    files={"file": ("a", f"content {number}".encode())},
                    headers={"idempotency-key": f"key {number}"},
                )
            except httpx.TransportError:
                time.sleep(0.01)
                continue
            if response.status_code == 200:
                return response.content
            assert response.status_code == 409, response.text

    def create_all() -> None:
        try:
            with http_of(native.describe(), "acme") as http:
                while not over.is_set():
                    answers.append(create(http, len(answers)))
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=create_all)
    thread.start()
    try:
        for _ in range(KILLS):
            time.sleep(random.uniform(0.05, 0.3))
            native.replace_gateway()
    finally:
        over.set()
        thread.join(LIMIT_S)
    assert not failures
    assert len(answers) > KILLS
    with http_of(native.describe(), "acme") as http:
        assert [create(http, number) for number in range(len(answers))] == answers
        listed = http.get("/v1/files").json()["data"]
    assert sorted(file["id"] for file in listed) == sorted(json.loads(answer)["id"] for answer in answers)
    assert len(listed) == len(answers)
