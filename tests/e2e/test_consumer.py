"""Messages of NATS JetStream as jobs, against the real stack: docs/consumers.md."""

import json
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from e2e import jetstream
from e2e.vectors import MODEL
from stack.description import ROOT, Stack
from stack.waiting import wait_until

COMMAND = ROOT / "go-gateway/bin/consumer"
MESSAGES = 200
LIMIT_S = 60

Start = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def start(stack: Stack, tmp_path: pathlib.Path) -> Iterator[Start]:
    """Start a consumer of the server at a URL."""
    key = tmp_path / "key"
    key.write_text(stack.keys["acme"])
    started: list[subprocess.Popen[bytes]] = []

    def one(nats: str) -> subprocess.Popen[bytes]:
        flags = {
            "nats-url": nats,
            "stream": "WORK",
            "results-subject": "results.{job}",
            "dead-subject": "dead.letters",
            "gateway-url": stack.url,
            "api-key-file": key,
            "metrics-address": "127.0.0.1:0",
            "ack-wait": "1s",
            "concurrency": 4,
        }
        started.append(subprocess.Popen([COMMAND, *(f"--{name}={value}" for name, value in flags.items())]))
        return started[-1]

    yield one
    for process in started:
        process.kill()
        process.wait()


def text(number: int) -> str:
    return f"message {number} of {MESSAGES}"


def all_jobs(http: httpx.Client) -> Iterator[dict[str, Any]]:
    after: dict[str, str] = {}
    while True:
        page = http.get("/v1/jobs", params={"limit": 100, **after}).raise_for_status().json()
        yield from page["data"]
        if not page["has_more"]:
            return
        after = {"after": page["last_id"]}


def test_each_message_has_one_result_whatever_dies(start: Start, http: httpx.Client, tmp_path: pathlib.Path) -> None:
    run = f"consumer-{time.time_ns()}"
    with jetstream.server(tmp_path) as (nats, url):
        for name in ("work", "results", "dead"):
            config = {"name": name.upper(), "subjects": [f"{name}.>"], "discard": "new", "max_msgs": 1000}
            nats.api(f"STREAM.CREATE.{name.upper()}", **config, retention="workqueue" if name == "work" else "limits")
        for number in range(MESSAGES):
            body = {"model": MODEL, "input": text(number)}
            request = {"endpoint": "/v1/embeddings", "body": body, "metadata": {"run": run}}
            nats.request("work.texts", json.dumps(request).encode(), {"Nats-Msg-Id": f"{run}-{number}"})
        nats.request("work.texts", b'{"endpoint": "/v1/none", "body": {}}')
        first, second = start(url), start(url)
        wait_until("the first results", lambda: nats.count("RESULTS") > MESSAGES // 5, LIMIT_S)
        first.kill()
        wait_until("all is done", lambda: nats.count("WORK") == 0, LIMIT_S)
        second.send_signal(signal.SIGTERM)
        assert second.wait(LIMIT_S) == 0
        results, letters = nats.messages("RESULTS"), nats.messages("DEAD")

    assert len({headers["Job-Id"] for headers, _ in results}) == len(results) == MESSAGES
    (letter,) = letters
    assert (letter[0]["Dead-Reason"], letter[0]["Dead-Status"]) == ("refused", "400")
    for headers, data in results:
        number = int(headers["Original-Msg-Id"].rsplit("-", 1)[1])
        job = json.loads(data)
        assert (job["id"], job["status"]) == (headers["Job-Id"], "completed")
        if number % 50 == 0:
            at_once = http.post("/v1/embeddings", json={"model": MODEL, "input": text(number)}).json()
            assert job["response"]["body"] == at_once
    assert sum(job["metadata"] == {"run": run} for job in all_jobs(http)) == MESSAGES
