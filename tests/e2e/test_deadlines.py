"""A request's own time, by its client and by its tenant's plan."""

import contextlib
import json
import signal
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from e2e import limits, raw
from e2e.vectors import MODEL
from stack.description import Stack
from stack.native import NativeStack
from stack.waiting import wait_until

HEADER = "x-request-timeout"
PLAN_S = 2
SHORT_S = 0.5
# From the end of a request's time to its reply, on a busy machine.
SLACK_S = 3
# One worker, and a queue that refuses nobody for its length.
HOTPATH = {"model-names": MODEL, "workers": "1", "max-queue-tokens": "10000000", "max-queue-ms": "120000"}
HUGE = json.dumps({"model": MODEL, "input": ["a text of some ten tokens, of which there are many"] * 2048}).encode()
# By far more than the hot path does in a second: none of it is run.
HEAVY_S = 1
HEAVY = json.dumps({"model": MODEL, "input": ["a " * 200] * 2048}).encode()


@pytest.fixture(scope="module")
def native(stack_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeStack]:
    if stack_kind != "native":
        pytest.skip("LOUD: these tests stop and fill a hot path, and so run with --stack native only")
    folder = tmp_path_factory.mktemp("deadlines")
    plans = limits.plans(folder / "plans", tiny=f"{{requests_per_minute: 600000, max_seconds: {PLAN_S}}}")
    native = NativeStack(folder / "stack", hotpath=HOTPATH, gateway={"tenants-file": plans})
    native.start()
    yield native
    native.stop()


@pytest.fixture
def stack(native: NativeStack) -> Stack:
    return native.describe()


@contextlib.contextmanager
def stopped(native: NativeStack) -> Iterator[None]:
    assert native.hotpath is not None
    native.hotpath.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        native.hotpath.signal(signal.SIGCONT)


SMALL = json.dumps({"model": MODEL, "input": "a"}).encode()


def embed(stack: Stack, tenant: str, timeout: str | None = None, body: bytes = SMALL) -> tuple[httpx.Response, float]:
    """The reply to a request, and how long it took."""
    headers = {"content-type": "application/json"} | ({HEADER: timeout} if timeout else {})
    with limits.client(stack, tenant) as http:
        started = time.monotonic()
        reply = http.post("/v1/embeddings", content=body, headers=headers)
        return reply, time.monotonic() - started


@pytest.mark.parametrize(
    ("tenant", "timeout", "within_s"),
    [("acme", str(SHORT_S), SHORT_S), ("tiny", None, PLAN_S), ("tiny", "60", PLAN_S), ("tiny", str(SHORT_S), SHORT_S)],
)
def test_a_request_ends_with_its_own_time(
    native: NativeStack, stack: Stack, tenant: str, timeout: str | None, within_s: float
) -> None:
    with stopped(native):
        reply, took = embed(stack, tenant, timeout)
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert reply.headers["x-should-retry"] == "false"
    assert within_s <= took < within_s + SLACK_S
    wait_until("requests being served", lambda: embed(stack, tenant)[0].status_code == 200, 30)


def test_a_time_that_is_none_is_refused(stack: Stack) -> None:
    reply, _ = embed(stack, "acme", "soon")
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_value")
    assert "X-Request-Timeout" in reply.json()["error"]["message"]


def test_what_cannot_begin_in_time_is_refused_at_once(stack: Stack) -> None:
    def refused() -> tuple[httpx.Response, float] | None:
        reply, took = embed(stack, "acme", str(SHORT_S))
        return (reply, took) if reply.status_code == 503 else None

    with contextlib.ExitStack() as crowd:  # whose work is dropped when it goes
        for _ in range(4):
            crowd.enter_context(socket.create_connection(stack.address)).sendall(
                raw.post(stack.address, "/v1/embeddings", stack.keys["globex"], HUGE)
            )
        reply, took = wait_until("a refusal", refused, 30)
    assert reply.json()["error"]["code"] == "queue_full"
    assert "What is ahead of the request takes about" in reply.json()["error"]["message"]
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert took < SHORT_S, "its time was waited for"
    assert embed(stack, "acme")[0].status_code == 200


def test_what_takes_too_long_by_itself_is_refused_at_once(stack: Stack) -> None:
    def refused() -> tuple[httpx.Response, float] | None:
        assert embed(stack, "globex", body=HUGE)[0].status_code == 200  # how fast it is, is measured at work
        reply, took = embed(stack, "acme", str(HEAVY_S), HEAVY)
        return (reply, took) if "by itself" in reply.text else None

    reply, took = wait_until("a refusal", refused, 60)
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert reply.headers["x-should-retry"] == "false"
    assert took < HEAVY_S, "its time was waited for"
    reply, _ = embed(stack, "acme", str(HEAVY_S))
    assert reply.status_code == 200, "a small one is in time"
