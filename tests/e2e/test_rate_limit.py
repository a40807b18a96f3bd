"""Requests per minute of a tenant, as its client sees them."""

import httpx
import pytest

from e2e.vectors import MODEL
from stack.description import Stack

LIMIT = 20  # of the tenant tiny


@pytest.fixture
def tiny(stack: Stack) -> httpx.Client:
    return httpx.Client(base_url=stack.url, headers={"authorization": f"Bearer {stack.keys['tiny']}"}, timeout=60)


def test_headers_count_down_to_a_refusal(tiny: httpx.Client) -> None:
    with tiny:
        left = LIMIT + 1  # other tests ask in this tenant's name too
        for _ in range(2 * LIMIT):
            response = tiny.post("/v1/embeddings", json={"model": MODEL, "input": "a"})
            assert response.headers["x-ratelimit-limit-requests"] == str(LIMIT)
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


def test_a_tenant_s_limit_is_its_own(tiny: httpx.Client, stack: Stack) -> None:
    with tiny:
        while tiny.post("/v1/embeddings", json={"model": MODEL, "input": "a"}).status_code != 429:
            pass
        headers = {"authorization": f"Bearer {stack.keys['globex']}"}
        assert tiny.post("/v1/embeddings", json={"model": MODEL, "input": "a"}, headers=headers).status_code == 200
