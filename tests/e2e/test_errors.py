"""The table of bad requests, end to end; after each the service is as it was."""

import dataclasses
import os
import pathlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import openai
import pytest

import cases
from e2e import batches, bundles, limits, replies
from e2e.fake_hotpath import FakeHotpath
from e2e.load import Load
from e2e.vectors import MODEL, embed
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

OVER_HTTP = [case for case in cases.load() if case.http]
PLAIN = [case for case in OVER_HTTP if not case.needs]
STATE_LIMIT_S = 60
# One worker, and room for less than one of the load's requests: while that waits, nothing else gets in.
SMALL_QUEUE = {"workers": "1", "max-queue-tokens": "100"}
# Where no hot path is: files need none.
NOBODY = "127.0.0.1:1"

StartNative = Callable[..., NativeStack]


def named(case: cases.Case) -> str:
    return case.name


@pytest.mark.parametrize("case", PLAIN, ids=named)
def test_case(stack: Stack, http: httpx.Client, case: cases.Case) -> None:
    replies.check(case, replies.send(stack, case))
    assert embed(http, "still there")


@pytest.mark.parametrize("case", [case for case in OVER_HTTP if case.needs == "tiny_exhausted"], ids=named)
def test_case_of_a_small_plan(stack: Stack, http: httpx.Client, case: cases.Case) -> None:
    while (response := replies.send(stack, case)).status_code == 200:
        pass
    replies.check(case, response)
    assert embed(http, "another tenant is not disturbed")


@contextmanager
def restricted_key(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    native = start()
    native.keys["restricted"] = native.create_key("acme", *limits.RESTRICTIONS)
    allowed = {"model": MODEL, "input": "a"}

    def known() -> bool:
        with limits.client(native.describe(), "restricted") as http:
            return http.post("/v1/embeddings", json=allowed).status_code == 200

    wait_until("the new key counting", known, STATE_LIMIT_S)
    yield replies.send(native.describe(), case)
    assert known()


@contextmanager
def small_requests(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    native = start(
        gateway={"tenants-file": limits.plans(folder, acme="{requests_per_minute: 60, tokens_per_request: 5}")}
    )
    yield replies.send(native.describe(), case)
    assert limits.embed(native.describe(), "acme", "one").status_code == 200


@contextmanager
def full_share(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    plan = limits.plans(folder, acme="{requests_per_minute: 600000, stored_bytes: 4}")
    yield replies.send(start(hotpath_address=NOBODY, gateway={"tenants-file": plan}, wait=False).describe(), case)


@contextmanager
def full_disk(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    yield replies.send(
        start(hotpath_address=NOBODY, gateway={"min-free-bytes": str(2**50)}, wait=False).describe(), case
    )


@contextmanager
def read_only_contents(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    native = start(hotpath_address=NOBODY, wait=False)
    stack = native.describe()
    with read_only(native.data / "blobs/tmp"):
        yield replies.send(stack, case)
    with limits.client(stack, "acme") as http:  # and it heals by itself
        made = http.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("a", b"12345")})
        assert made.status_code == 200, made.text


@contextmanager
def read_only(folder: pathlib.Path) -> Iterator[None]:
    if os.getuid() != 0:
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)
        return
    try:  # no mode keeps root from writing
        subprocess.run(["mount", "--bind", folder, folder], check=True)
    except subprocess.CalledProcessError:
        pytest.skip("LOUD: root may mount nothing here: contents that can only be read are NOT tested")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def no_files(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    yield replies.send(start(hotpath_address=NOBODY, gateway={"blobs": "off"}, wait=False).describe(), case)


@contextmanager
def a_file(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    assert case.http is not None
    stack = start(hotpath_address=NOBODY, wait=False).describe()
    with limits.client(stack, "acme") as http:
        made = http.post("/v1/files", data={"purpose": "user_data"}, files={"file": ("a", b"12345")})
    asked = {**case.http, "path": case.http["path"].replace("FILE", made.json()["id"])}
    yield replies.send(stack, dataclasses.replace(case, http=asked))


def batch_client(stack: Stack) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.keys["acme"], max_retries=0)


@contextmanager
def few_enqueued_tokens(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    assert case.http is not None
    plan = limits.plans(folder, acme="{requests_per_minute: 600000, batch: {enqueued_tokens: 4}}")
    stack = start(hotpath_address=NOBODY, gateway={"tenants-file": plan}, wait=False).describe()
    with batch_client(stack) as client:
        asked = {**case.http["json"], "input_file_id": batches.upload(client, [batches.embed(0)])}
    yield replies.send(stack, dataclasses.replace(case, http={**case.http, "json": asked}))


@contextmanager
def an_ended_batch(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    assert case.http is not None
    stack = start(hotpath_address=NOBODY, wait=False).describe()
    with batch_client(stack) as client:  # of a line that needs no model, since it is none
        batch = batches.ended(client, batches.submit(client, [{"custom_id": "a"}]))
    asked = {**case.http, "path": case.http["path"].replace("BATCH", batch.id)}
    yield replies.send(stack, dataclasses.replace(case, http=asked))


@contextmanager
def an_ended_job(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    assert case.http is not None
    stack = start(hotpath_address=NOBODY, gateway={"job-window": "1s"}, wait=False).describe()
    with limits.client(stack, "acme") as http:
        made = http.post(
            "/v1/jobs", json={"endpoint": "/v1/embeddings", "body": {"model": MODEL, "input": "a"}}
        ).json()["id"]
        assert http.get(f"/v1/jobs/{made}", params={"wait": 50}).json()["status"] == "expired"
    asked = {**case.http, "path": case.http["path"].replace("JOB", made)}
    yield replies.send(stack, dataclasses.replace(case, http=asked))


@contextmanager
def a_decided_review(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    assert case.http is not None
    stack = start(hotpath={"model-names": f"moderation-minilm,{MODEL}"}).describe()
    with limits.client(stack, "acme") as http:
        asked = {"endpoint": "/v1/moderations", "thresholds": {"review": 0, "flagged": 1}, "body": {"input": "a"}}
        job = http.post("/v1/jobs", json=asked).json()["id"]
        review = http.get(f"/v1/jobs/{job}", params={"wait": 50}).json()["verdicts"][0]["review_id"]
        assert http.post(f"/v1/moderation_reviews/{review}", json={"decision": "passed"}).status_code == 200
    asked = {**case.http, "path": case.http["path"].replace("REVIEW", review)}
    yield replies.send(stack, dataclasses.replace(case, http=asked))


@contextmanager
def a_used_key(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    assert case.http is not None
    stack = start(hotpath_address=NOBODY, wait=False).describe()
    with batch_client(stack) as client:  # of no request, which would wait for a hot path until the gateway has drained
        asked = {**case.http["json"], "input_file_id": batches.upload(client, [{"custom_id": "a"}])}
    first = {name: value for name, value in asked.items() if name != "metadata"}
    assert replies.send(stack, dataclasses.replace(case, http={**case.http, "json": first})).status_code == 200
    yield replies.send(stack, dataclasses.replace(case, http={**case.http, "json": asked}))


@contextmanager
def a_key_in_flight(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    assert case.http is not None
    stack = start(hotpath_address=NOBODY, wait=False).describe()
    with replies.half_sent(stack, case):

        def refusal() -> httpx.Response | None:
            response = replies.send(stack, case)
            return response if response.status_code == 409 else None

        yield wait_until("the first request under way", refusal, STATE_LIMIT_S)


def refused_beside_load(stack: Stack, case: cases.Case, status: int) -> tuple[httpx.Response, Load]:
    """The case's refusal beside requests that take long, of which some are refused too and some are served."""
    with Load(stack, lambda _: {"input": ["a text of some ten tokens, so that lists fill the queue"] * 30}) as load:
        load.wait_for(status)
        refused = wait_until(
            "a refusal",
            lambda: refusal if (refusal := replies.send(stack, case)).status_code == status else None,
            STATE_LIMIT_S,
        )
        load.wait_for(200)
    return refused, load


@contextmanager
def one_at_once(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    plan = "{requests_per_minute: 600000, concurrent_requests: 1}"
    stack = start(gateway={"tenants-file": limits.plans(folder, acme=plan)}).describe()
    refused, _ = refused_beside_load(stack, case, 429)
    yield refused
    assert replies.send(stack, case).status_code == 200


@contextmanager
def stalled_body(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    native = start(gateway={"body-timeout": "300ms"})
    yield replies.send_half(native.describe(), case)
    assert replies.send(native.describe(), case).status_code == 200


@contextmanager
def full_queue(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    native = start(hotpath=SMALL_QUEUE)
    stack = native.describe()
    refused, load = refused_beside_load(stack, case, 503)
    assert {(outcome.status, outcome.error) for outcome in load.outcomes} == {(200, ""), (503, case.reason.code)}
    yield refused
    assert replies.send(stack, case).status_code == 200


@contextmanager
def short_deadline(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    native = start(gateway={"request-timeout": "40ms"})
    yield replies.send(native.describe(), case)
    key = {"authorization": f"Bearer {native.keys['acme']}"}

    def answered() -> bool:
        body = {"model": MODEL, "input": "a"}
        return httpx.post(f"{native.describe().url}/v1/embeddings", headers=key, json=body).status_code == 200

    wait_until("short requests succeeding", answered, STATE_LIMIT_S)


@contextmanager
def hotpath_down(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    assert case.http is not None
    native = start(hotpath={"model-names": case.http["json"].get("model", "moderation-minilm,all-minilm-l6-v2")})
    stack = native.describe()
    assert native.hotpath is not None
    native.hotpath.stop()
    yield replies.send(stack, case)
    native.start_hotpath()
    wait_until("service being back", lambda: replies.send(stack, case).status_code == 200, STATE_LIMIT_S)


@contextmanager
def model_not_ready(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    models = bundles.copy_current(folder)
    bundles.damage(models, next(folder.glob(f"{MODEL}/*/")).name)
    native = start(models=models, wait=False)
    stack = native.describe()
    response = wait_until(
        "the bundle being refused",
        lambda: answer if "not_ready" in (answer := replies.send(stack, case)).text else None,
        STATE_LIMIT_S,
    )
    assert httpx.get(f"{stack.url}/readyz").status_code == 503
    assert httpx.get(f"{stack.url}/livez").status_code == 200
    yield response


@contextmanager
def fake_hotpath(start: StartNative, case: cases.Case, folder: pathlib.Path) -> Iterator[httpx.Response]:
    with FakeHotpath(case) as fake:
        native = start(hotpath_address=fake.address, wait=False)
        yield replies.send(native.describe(), case)


CONDITIONS = {
    condition.__name__: condition
    for condition in (
        restricted_key,
        small_requests,
        one_at_once,
        full_share,
        full_disk,
        read_only_contents,
        no_files,
        a_file,
        few_enqueued_tokens,
        an_ended_batch,
        an_ended_job,
        a_decided_review,
        a_used_key,
        a_key_in_flight,
        stalled_body,
        full_queue,
        short_deadline,
        hotpath_down,
        model_not_ready,
        fake_hotpath,
    )
}


@pytest.mark.parametrize("case", [case for case in OVER_HTTP if case.needs in CONDITIONS], ids=named)
def test_case_under_a_condition(start_native: StartNative, case: cases.Case, tmp_path: pathlib.Path) -> None:
    assert case.needs is not None
    with CONDITIONS[case.needs](start_native, case, tmp_path / "models") as response:
        replies.check(case, response)


def test_every_condition_is_known() -> None:
    assert {case.needs for case in OVER_HTTP if case.needs} == {*CONDITIONS, "tiny_exhausted"}
