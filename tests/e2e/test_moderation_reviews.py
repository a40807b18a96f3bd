"""Moderation with review: verdicts by webhook, doubtful texts for people, and processes that are killed in between."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai

from e2e import metrics
from e2e.databases import Database, chance, deaths, hit, wait_for_work
from e2e.limits import client as http_of
from e2e.receivers import Receiver
from e2e.test_moderations import EXPLICIT, HARMLESS, INSULT, MODEL
from stack.native import NativeStack
from stack.waiting import wait_until

LIMIT_S = 30
KILLS, JOBS, TEXTS = 3, 24, 30
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
    while True:
        with contextlib.suppress(httpx.TransportError):  # nobody knows whether it was created: it is sent again
            made = http.post("/v1/jobs", json=asked, headers={"idempotency-key": f"row {row}"})
            if made.status_code != httpx.codes.CONFLICT:  # while the first one is under way
                return str(made.raise_for_status().json()["id"])
        time.sleep(0.01)


def test_verdicts_are_told_and_people_are_asked_once_whatever_is_killed(
    database: Database, start_native: Callable[..., NativeStack]
) -> None:
    native = start_native(gateway=OWN | database.settings, hotpath={"model-names": f"{MODEL},all-minilm-l6-v2"})
    random = chance()
    many = [HARMLESS] * TEXTS
    inputs = {"review": [*many, INSULT], "passed": many, "flagged": [*many, INSULT, EXPLICIT], "failed": [""]}
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
            wait_until("the end of what was hit", lambda: hit(native, "jobs") == 0, LIMIT_S)
            rows = range(JOBS * kill // KILLS, JOBS * (kill + 1) // KILLS)
            with http_of(native.describe(), "acme") as http, ThreadPoolExecutor(len(rows)) as pool:
                sent = [pool.submit(moderate, http, inputs[verdicts[row]], row) for row in rows]
                wait_for_work(http, LIMIT_S)
                time.sleep(random.uniform(0.0, 0.05))
                if kill == 1:
                    native.replace_hotpath()
                else:
                    native.replace_gateway()
                jobs += [job.result(LIMIT_S) for job in sent]
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
            assert [review["job_id"] for review in pending] == sorted(asked)  # each once, the oldest first
            review = http.get(f"/v1/moderation_reviews/{pending[0]['id']}").json()
            row = jobs.index(pending[0]["job_id"])
            assert (review["text"], review["category"], review["metadata"]) == (INSULT, "harassment", {"row": str(row)})
            decided = http.post(
                f"/v1/moderation_reviews/{review['id']}", json={"decision": "flagged", "note": "aimed at a person"}
            ).json()
            assert (decided["status"], decided["note"]) == ("decided", "aimed at a person")
        native.replace_gateway()
        with http_of(native.describe(), "acme") as http:
            assert http.get(f"/v1/moderation_reviews/{review['id']}").json() == decided
            otherwise = http.post(f"/v1/moderation_reviews/{review['id']}", json={"decision": "passed"})
            assert (otherwise.status_code, otherwise.json()["error"]["code"]) == (409, "review_decided")
        (decision,) = [event for event in events(JOBS + 1) if event.type == "moderation.decided"]
        assert decision.to_dict()["data"] == {
            "id": review["id"],
            "job_id": jobs[row],
            "index": TEXTS,
            "decision": "flagged",
            "metadata": {"row": str(row)},
        }
        assert Counter(got.id for got in receiver.got).total() >= JOBS + 1
    with http_of(native.describe(), "globex") as other:
        assert other.get("/v1/moderation_reviews").json()["data"] == []
        assert other.post(f"/v1/moderation_reviews/{review['id']}", json={"decision": "passed"}).status_code == 404
    assert metrics.read(native.describe().metrics_url)["gateway_moderation_pending_reviews"] == len(asked) - 1
    assert sum(deaths(native, "jobs")) > 0
    written = native.processes()[0].log.read_text()
    assert INSULT not in written
    assert "aimed at a person" not in written
