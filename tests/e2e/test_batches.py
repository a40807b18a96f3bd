"""Batches, through the official Python SDK: a file of requests goes in, files of replies and of refusals come out."""

import time
from collections.abc import Callable

import openai
import pytest

from e2e import metrics
from e2e.batches import EMBEDDINGS, LIMIT_S, completed, content, embed, ended, request, submit
from e2e.databases import Database, chance, deaths
from e2e.vectors import MODEL
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

# Of a batch whose processes are killed: so many segments that some are left at the last kill, whatever was had before.
LINES, SEGMENTS, SEGMENT_BYTES = 600, 30, 1 << 20


def test_a_batch_is_what_its_requests_are(client: openai.OpenAI) -> None:
    lines = [embed(number) for number in range(700)]  # of two segments
    lines[5]["body"]["input"] = ""
    lines[6]["url"] = "/v1/moderations"
    lines[7]["custom_id"] = "line-4"
    lines[8]["body"]["stream"] = True
    batch = ended(client, submit(client, lines))
    assert (batch.status, batch.errors, batch.model) == ("completed", None, MODEL)
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (700, 696, 4)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at < batch.expires_at
    replies = content(client, batch.output_file_id)
    expected = [line["custom_id"] for number, line in enumerate(lines) if number not in (5, 6, 7, 8)]
    assert [reply["custom_id"] for reply in replies] == expected
    assert {reply["response"]["status_code"] for reply in replies} == {200}
    assert all(reply["error"] is None and reply["id"].startswith("batch_req_") for reply in replies)
    alone = client.embeddings.create(model=MODEL, input="text 3", encoding_format="float").data[0].embedding
    assert replies[3]["response"]["body"]["data"][0]["embedding"] == alone
    used = sum(reply["response"]["body"]["usage"]["total_tokens"] for reply in replies)
    assert batch.usage.total_tokens == batch.usage.input_tokens == used
    refused = content(client, batch.error_file_id)
    assert [refusal["custom_id"] for refusal in refused] == ["line-5", "line-6", "line-4", "line-8"]
    assert refused[0]["response"]["body"]["error"]["code"] == "empty_input"
    assert refused[1]["error"]["message"].startswith("Line 7: url must be")
    assert refused[2]["error"]["code"] == "duplicate_custom_id"
    assert refused[3]["response"]["body"]["error"]["param"] == "stream"


def test_moderations_run_in_batches(client: openai.OpenAI, stack: Stack) -> None:
    lines = [request(str(n), {"input": "a quiet afternoon"}, "/v1/moderations") for n in range(3)]
    batch = ended(client, submit(client, lines, "/v1/moderations"))
    replies = content(client, batch.output_file_id)
    assert [reply["response"]["body"]["results"][0]["flagged"] for reply in replies] == [False] * 3

    def jobs_ended() -> bool:
        return metrics.read(stack.metrics_url)["gateway_ended_jobs_total"] >= 2  # a segment, and what joins

    wait_until("the jobs in the metrics", jobs_ended, LIMIT_S)


def test_requests_go_on_beside_a_batch_and_what_is_finished_when_it_is_cancelled_is_kept(
    client: openai.OpenAI,
) -> None:
    count = 10_000
    batch_id = submit(client, [embed(number) for number in range(count)])
    wait_until("some lines are done", lambda: completed(client, batch_id) > 0, LIMIT_S)
    for number in range(10):
        assert client.embeddings.create(model=MODEL, input=f"now {number}", timeout=10).usage.total_tokens > 0
    assert client.batches.cancel(batch_id).status == "cancelling"
    batch = ended(client, batch_id)
    assert batch.status == "cancelled"
    assert batch.cancelling_at <= batch.cancelled_at
    replies, refused = content(client, batch.output_file_id), content(client, batch.error_file_id)
    assert 0 < len(replies) == batch.request_counts.completed < count
    assert {refusal["error"]["code"] for refusal in refused} == {"batch_cancelled"}
    assert sorted(line["custom_id"] for line in replies + refused) == sorted(f"line-{n}" for n in range(count))
    assert client.batches.cancel(batch_id).status == "cancelled"


def test_a_batch_is_its_tenants_alone(client: openai.OpenAI, stack: Stack) -> None:
    batch_id = submit(client, [embed(0)])
    batch = ended(client, batch_id)
    assert batch_id in [listed.id for listed in client.batches.list(limit=2)]
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.keys["globex"], max_retries=0) as other:
        for look in (
            lambda: other.batches.retrieve(batch_id),
            lambda: other.batches.cancel(batch_id),
            lambda: other.files.content(batch.output_file_id),
            lambda: other.batches.create(
                input_file_id=batch.input_file_id, endpoint=EMBEDDINGS, completion_window="24h"
            ),
        ):
            with pytest.raises(openai.NotFoundError):
                look()
        assert other.batches.list().data == []
    with pytest.raises(openai.ConflictError, match="completed"):
        client.batches.cancel(batch_id)


def wait_for_more(client: openai.OpenAI, batch_id: str) -> float:
    """Wait until another segment is done, and return for how long, in seconds."""
    began, before = time.monotonic(), completed(client, batch_id)
    wait_until("more lines are done", lambda: completed(client, batch_id) > before, LIMIT_S)
    return time.monotonic() - began


def test_nothing_is_lost_or_doubled_when_gateway_and_hot_path_are_killed(
    database: Database, start_native: Callable[..., NativeStack]
) -> None:
    native = start_native(gateway=database.settings)
    random = chance()
    body = {"model": MODEL, "input": [f"text {number}" for number in range(8)], "encoding_format": "base64"}
    lines = [request(str(number), body) for number in range(LINES)]
    with openai.OpenAI(
        base_url=f"{native.describe().url}/v1", api_key=native.keys["acme"], max_retries=20, timeout=LIMIT_S
    ) as client:
        batch_id = submit(client, lines, line_bytes=SEGMENT_BYTES * SEGMENTS // LINES)
        segment_s = wait_for_more(client, batch_id)
        for kill in range(5):
            if kill:  # of those that nobody had: in PostgreSQL a dead gateway's wait for 10 s
                wait_for_more(client, batch_id)
            time.sleep(random.uniform(0.0, segment_s))
            assert client.batches.retrieve(batch_id).status == "in_progress"
            if kill == 1:  # its lines are run again, and none fails: none has died so often that it would be suspected
                native.replace_hotpath()
            else:
                native.replace_gateway()
        batch = ended(client, batch_id)
        replies = content(client, batch.output_file_id)
    assert [reply["custom_id"] for reply in replies] == [line["custom_id"] for line in lines]
    assert (batch.request_counts.completed, batch.request_counts.failed) == (LINES, 0)
    assert batch.usage.total_tokens == sum(reply["response"]["body"]["usage"]["total_tokens"] for reply in replies)
    assert sum(deaths(native, "batch")) > 0
    assert database.half_written(native) == []
