"""Moderation with review: verdicts by webhook, doubtful texts for people, and a gateway that is killed in between."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import openai

from e2e import metrics
from e2e.databases import chance
from e2e.limits import client as http_of
from e2e.receivers import Receiver
from e2e.test_moderations import EXPLICIT, HARMLESS, INSULT, MODEL
from stack.native import NativeStack
from stack.waiting import wait_until

LIMIT_S = 30
KILLS, JOBS = 2, 24
OWN = {"webhook-allow-networks": "127.0.0.0/8", "webhook-retries": ",".join(["100ms"] * 200)}
TYPES: Any = [
    "moderation.passed",
    "moderation.review",
    "moderation.flagged",
    "moderation.failed",
    "moderation.decided",
]


def moderate(http: httpx.Client, texts: list[str], row: int) -> str:
    """The insult's scores are a hint alone, so it is for people however high they are."""
    asked = {
        "endpoint": "/v1/moderations",
        "thresholds": {"review": 0.3, "flagged": 0.5},
        "body": {"input": texts},
        "metadata": {"row": str(row)},
    }
    made = http.post("/v1/jobs", json=asked, headers={"idempotency-key": f"row {row}"}).raise_for_status()
    return str(made.json()["id"])


def test_verdicts_are_told_and_people_are_asked_once(start_native: Callable[..., NativeStack]) -> None:
    native = start_native(gateway=OWN, hotpath={"model-names": f"{MODEL},all-minilm-l6-v2"})
    random = chance()
    inputs = {"review": [HARMLESS, INSULT], "passed": [HARMLESS], "flagged": [INSULT, EXPLICIT], "failed": [""]}
    verdicts = [list(inputs)[row % len(inputs)] for row in range(JOBS)]
    with Receiver() as receiver:
        with openai.OpenAI(base_url=f"{native.describe().url}/v1", api_key=native.keys["acme"]) as client:
            hook = client.webhooks.create(name="verdicts", url=receiver.url, event_types=TYPES)

        def events(count: int) -> list[Any]:
            """What came, each once, once so many are there: the same may come twice, under one id."""
            wait_until(f"{count} events", lambda: len({got.id for got in receiver.got}) >= count, LIMIT_S)
            unwrap = openai.OpenAI(api_key="none").webhooks.unwrap
            first = {got.id: unwrap(got.body, got.headers, secret=hook.signing_secret) for got in receiver.got}
            assert len(first) == count
            return list(first.values())

        jobs: list[str] = []
        for kill in range(KILLS):
            with http_of(native.describe(), "acme") as http:
                rows = range(JOBS * kill // KILLS, JOBS * (kill + 1) // KILLS)
                jobs += [moderate(http, inputs[verdicts[row]], row) for row in rows]
            time.sleep(random.uniform(0.0, 0.1))
            native.processes()[0].kill()
            native.start_gateway()
        with http_of(native.describe(), "acme") as http:
            assert moderate(http, inputs[verdicts[0]], 0) == jobs[0]
            for job, verdict in zip(jobs, verdicts, strict=True):
                done = http.get(f"/v1/jobs/{job}", params={"wait": 50}).json()
                assert done["verdict"] == (verdict if verdict != "failed" else None), done
            told = {event.data.id: event for event in events(JOBS)}
            for row, (job, verdict) in enumerate(zip(jobs, verdicts, strict=True)):
                assert told[job].type == f"moderation.{verdict}"
                data = told[job].to_dict()["data"]
                assert (data["verdict"], data["metadata"]) == (
                    None if verdict == "failed" else verdict,
                    {"row": str(row)},
                )

            pending = http.get("/v1/moderation_reviews", params={"status": "pending", "limit": 100}).json()["data"]
            asked = [job for job, verdict in zip(jobs, verdicts, strict=True) if verdict in ("review", "flagged")]
            assert [review["job_id"] for review in pending] == asked  # each once, the oldest first
            review = http.get(f"/v1/moderation_reviews/{pending[0]['id']}").json()
            assert (review["text"], review["category"], review["metadata"]) == (INSULT, "harassment", {"row": "0"})
            decided = http.post(
                f"/v1/moderation_reviews/{review['id']}", json={"decision": "flagged", "note": "aimed at a person"}
            ).json()
            assert (decided["status"], decided["note"]) == ("decided", "aimed at a person")
        native.processes()[0].kill()
        native.start_gateway()
        with http_of(native.describe(), "acme") as http:
            assert http.get(f"/v1/moderation_reviews/{review['id']}").json() == decided
            otherwise = http.post(f"/v1/moderation_reviews/{review['id']}", json={"decision": "passed"})
            assert (otherwise.status_code, otherwise.json()["error"]["code"]) == (409, "review_decided")
        (decision,) = [event for event in events(JOBS + 1) if event.type == "moderation.decided"]
        assert decision.to_dict()["data"] == {
            "id": review["id"],
            "job_id": jobs[0],
            "index": 1,
            "decision": "flagged",
            "metadata": {"row": "0"},
        }
        assert Counter(got.id for got in receiver.got).total() >= JOBS + 1
    with http_of(native.describe(), "globex") as other:
        assert other.get("/v1/moderation_reviews").json()["data"] == []
        assert other.post(f"/v1/moderation_reviews/{review['id']}", json={"decision": "passed"}).status_code == 404
    assert metrics.read(native.describe().metrics_url)["gateway_moderation_pending_reviews"] == len(asked) - 1
    written = native.processes()[0].log.read_text()
    assert INSULT not in written
    assert "aimed at a person" not in written
