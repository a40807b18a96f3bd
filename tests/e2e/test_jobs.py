"""Jobs: one request that is kept and run later, by plain HTTP and by the official SDK's own client; and kills."""

import pathlib
import time
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from e2e import limits, metrics
from e2e.batches import EMBEDDINGS
from e2e.databases import Database, chance, deaths, wait_for_work
from e2e.limits import client as http_of
from e2e.vectors import MODEL
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

LIMIT_S = 60
JOBS, KILLS = 60, 3  # jobs for each kill
PLAN = "{requests_per_minute: 600000, batch: {requests_per_minute: 600000, tokens_per_day: 1000000000}}"


def embed(text: str) -> dict[str, Any]:
    return {"endpoint": EMBEDDINGS, "body": {"model": MODEL, "input": text}}


def ended(http: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job, once it has ended: a request waits for that."""
    job: dict[str, Any] = http.get(f"/v1/jobs/{job_id}", params={"wait": 50}).raise_for_status().json()
    assert job["ended_at"], job
    return job


def test_a_job_is_what_its_request_is(http: httpx.Client, stack: Stack) -> None:
    made = http.post("/v1/jobs", json={**embed("a text"), "metadata": {"row": "17"}})
    assert made.status_code == 202
    job = made.json()
    assert made.headers["location"] == f"/v1/jobs/{job['id']}"
    assert (job["object"], job["status"], job["endpoint"], job["model"]) == ("job", "queued", EMBEDDINGS, MODEL)
    done = ended(http, job["id"])
    at_once = http.post(EMBEDDINGS, json=embed("a text")["body"]).json()
    assert done["status"] == "completed"
    assert done["response"] == {"status_code": 200, "request_id": job["id"], "body": at_once}
    assert done["usage"]["total_tokens"] == at_once["usage"]["total_tokens"]
    assert (done["error"], done["metadata"]) == (None, {"row": "17"})
    assert done["created_at"] <= done["ended_at"] < done["kept_until"]
    listed = http.get("/v1/jobs", params={"limit": 100}).json()["data"]
    assert "body" not in next(one for one in listed if one["id"] == job["id"])["response"]
    with http_of(stack, "globex") as other:
        assert other.get(f"/v1/jobs/{job['id']}").status_code == 404
        assert other.post(f"/v1/jobs/{job['id']}/cancel").status_code == 404

    def told() -> bool:
        return metrics.read(stack.metrics_url)["gateway_ended_jobs_total"] >= 1

    wait_until("the job in the metrics", told, LIMIT_S)


def test_what_only_the_model_knows_is_the_result(http: httpx.Client) -> None:
    job = ended(http, http.post("/v1/jobs", json=embed("")).json()["id"])
    assert (job["status"], job["response"]["status_code"]) == ("failed", 400)
    assert job["response"]["body"]["error"]["code"] == "empty_input"
    job = ended(
        http, http.post("/v1/jobs", json={"endpoint": "/v1/moderations", "body": {"input": "tea"}}).json()["id"]
    )
    assert job["response"]["body"]["results"][0]["flagged"] is False


def test_the_sdks_own_client_creates_and_cancels(client: openai.OpenAI) -> None:
    key = f"job-{time.time_ns()}"
    made: list[Any] = [
        client.post("/jobs", body=embed("by the SDK"), cast_to=object, options={"headers": {"Idempotency-Key": key}})
        for _ in range(2)
    ]
    assert made[0] == made[1]
    done: Any = client.get(f"/jobs/{made[0]['id']}", cast_to=object, options={"params": {"wait": 60}})
    assert done["status"] == "completed"
    with pytest.raises(openai.ConflictError, match="completed"):
        client.post(f"/jobs/{made[0]['id']}/cancel", cast_to=object)
    with pytest.raises(openai.BadRequestError) as refused:
        client.post("/jobs", body={**embed("a"), "body": {"model": MODEL}}, cast_to=object)
    assert refused.value.param == "body.input"


@pytest.mark.timeout(300)
def test_nothing_is_lost_or_doubled_when_gateway_and_hot_path_are_killed(
    database: Database, start_native: Callable[..., NativeStack], tmp_path: pathlib.Path
) -> None:
    plans = limits.plans(tmp_path, acme=PLAN)
    native = start_native(gateway={**database.settings, "tenants-file": plans})
    random = chance()
    body = {"model": MODEL, "input": ["a text of some length " * 10] * 16}

    ids: list[str] = []
    for kill in range(KILLS):
        with http_of(native.describe(), "acme") as http:
            asked = {"endpoint": EMBEDDINGS, "body": body}
            ids += [http.post("/v1/jobs", json=asked).raise_for_status().json()["id"] for _ in range(JOBS)]
            wait_for_work(http, LIMIT_S)
            time.sleep(random.uniform(0.0, 0.1))
        if kill == 1:
            native.replace_hotpath()
        else:
            native.replace_gateway()
        with http_of(native.describe(), "acme") as http:  # what three kills hit would be given up
            for job_id in ids[-JOBS:]:
                ended(http, job_id)
    with http_of(native.describe(), "acme") as http:
        jobs = [ended(http, job_id) for job_id in ids]
        used = sum(job["usage"]["total_tokens"] for job in jobs)
        wait_until("each is charged once", lambda: limits.used_of_the_day(http) == used, LIMIT_S)
    assert {job["status"] for job in jobs} == {"completed"}
    assert [job["id"] for job in jobs] == ids
    for job in jobs:
        assert job["usage"]["total_tokens"] == job["response"]["body"]["usage"]["total_tokens"]
    assert sum(deaths(native, "jobs")) > 0
    assert database.half_written(native) == []


def test_what_waits_is_cancelled_expires_and_is_forgotten(start_native: Callable[..., NativeStack]) -> None:
    native = start_native(
        hotpath_address="127.0.0.1:1", wait=False, gateway={"job-window": "4s", "job-kept": "2s", "max-open-jobs": "2"}
    )
    with http_of(native.describe(), "acme") as http:
        first, second = (http.post("/v1/jobs", json=embed("a")).json()["id"] for _ in range(2))
        full = http.post("/v1/jobs", json=embed("a"))
        assert (full.status_code, full.json()["error"]["code"]) == (429, "token_limit_exceeded")
        assert "may have 2" in full.json()["error"]["message"]
        cancelled = http.post(f"/v1/jobs/{first}/cancel").json()
        assert (cancelled["status"], cancelled["error"]["code"]) == ("cancelled", "job_cancelled")
        expired = ended(http, second)
        assert (expired["status"], expired["error"]["code"]) == ("expired", "job_expired")

        def forgotten() -> bool:
            return http.get(f"/v1/jobs/{second}").status_code == 404

        wait_until("the job forgotten", forgotten, LIMIT_S)
        assert http.get("/v1/jobs").json()["data"] == []
