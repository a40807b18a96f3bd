"""Limits of a tenant, as its clients see them."""

import pathlib
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from e2e import limits
from e2e.vectors import MODEL
from stack.description import Stack
from stack.native import NativeStack

LIMIT = 20  # requests of the tenant tiny
ONE = {"model": MODEL, "input": "a"}

StartNative = Callable[..., NativeStack]


@pytest.fixture
def tiny(stack: Stack) -> Iterator[httpx.Client]:
    with limits.client(stack, "tiny") as client:
        yield client


def test_headers_count_down_to_a_refusal(tiny: httpx.Client) -> None:
    left = LIMIT + 1  # other tests ask in this tenant's name too
    for _ in range(2 * LIMIT):
        response = tiny.post("/v1/embeddings", json=ONE)
        assert response.headers["x-ratelimit-limit-requests"] == str(LIMIT)
        assert response.headers["x-ratelimit-limit-tokens"] == "1000000"
        assert 0 < int(response.headers["x-ratelimit-remaining-tokens"]) <= 1_000_000
        assert limits.seconds(response.headers["x-ratelimit-reset-tokens"]) < 60
        if response.status_code == 429:
            break
        assert response.status_code == 200
        now_left = int(response.headers["x-ratelimit-remaining-requests"])
        assert now_left <= left
        left = now_left
    assert response.status_code == 429
    assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert response.headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert 0 < int(response.headers["retry-after-ms"]) <= 60_000
    assert response.headers["x-ratelimit-reset-requests"].endswith("s")


def test_a_client_that_waits_as_long_as_it_is_told_gets_in(tiny: httpx.Client) -> None:
    while (refused := tiny.post("/v1/embeddings", json=ONE)).status_code != 429:
        pass
    time.sleep(int(refused.headers["retry-after-ms"]) / 1000)
    assert tiny.post("/v1/embeddings", json=ONE).status_code == 200


def test_a_tenant_s_limit_is_its_own(tiny: httpx.Client, stack: Stack) -> None:
    while tiny.post("/v1/embeddings", json=ONE).status_code != 429:
        pass
    headers = {"authorization": f"Bearer {stack.keys['globex']}"}
    assert tiny.post("/v1/embeddings", json=ONE, headers=headers).status_code == 200


def test_only_tokens_that_were_used_are_charged(start_native: StartNative, tmp_path: pathlib.Path) -> None:
    plan = "{requests_per_minute: 600, tokens_per_minute: 1000, tokens_per_day: 100}"
    native = start_native(gateway={"tenants-file": limits.plans(tmp_path, acme=plan)})
    with limits.client(native.describe(), "acme") as http:
        assert limits.tokens_left(http) == 100  # the day's, of which there are the fewest
        reply = http.post("/v1/embeddings", json={"model": MODEL, "input": "a few words"})
        assert (reply.status_code, reply.json()["usage"]["prompt_tokens"]) == (200, 5)
        assert limits.tokens_left(http) == 95
        assert http.post("/v1/embeddings", json={"model": MODEL, "input": ["a", ""]}).status_code == 400
        assert limits.tokens_left(http) == 95
        # 200 bytes might be as many tokens; the hot path counts 42.
        words = {"model": MODEL, "input": "word " * 40}
        assert [http.post("/v1/embeddings", json=words).status_code for _ in range(2)] == [200, 200]
        refused = http.post("/v1/embeddings", json=words)
        assert refused.status_code == 429
        assert "100 tokens per day (UTC); the request comes to 42" in refused.json()["error"]["message"]
        assert (refused.headers["retry-after"], refused.headers["x-should-retry"]) == ("60", "false")
        assert 60 < limits.seconds(refused.headers["x-ratelimit-reset-tokens"]) <= 24 * 3600
        never = http.post("/v1/embeddings", json={"model": MODEL, "input": "word " * 100})
        assert (never.status_code, never.json()["error"]["code"]) == (400, "request_too_large")
        assert "comes to 102 tokens" in never.json()["error"]["message"]
