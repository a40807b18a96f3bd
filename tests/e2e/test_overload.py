"""More work than workers: others are served in their turn, and nothing is queued without bound."""

import statistics
import time
from collections.abc import Callable

import httpx
import openai

from e2e import metrics
from e2e.load import Load, Outcome
from e2e.vectors import MODEL, embed
from stack.native import NativeStack

StartNative = Callable[..., NativeStack]
# Eight clients with lists like this one keep a single worker busy for many seconds.
FLOOD = ["a text of some ten tokens, of which there are very many"] * 1000


def test_a_flood_of_one_tenant_does_not_hold_up_another(start_native: StartNative) -> None:
    native = start_native(hotpath={"workers": "1", "max-queue-tokens": "1000000"})
    stack = native.describe()
    headers = {"authorization": f"Bearer {stack.keys['globex']}"}
    with (
        Load(stack, lambda _: {"input": FLOOD}) as flood,
        httpx.Client(base_url=stack.url, headers=headers, timeout=60) as http,
    ):
        flood.wait_for(200)
        waits = []
        for _ in range(10):
            started = time.monotonic()
            assert embed(http, "one short text")
            waits.append(time.monotonic() - started)
        flood.wait_for(200, 9)
        slowest = max(outcome.ended - outcome.started for outcome in flood.outcomes)
        native.processes()[1].kill()  # the flood's last lists prove nothing more
    # The flood's slowest waited behind seven lists. Another tenant's text waits for no list to its end; noise may.
    assert max(waits) < slowest / 4


def test_refusals_are_quick_and_counted(start_native: StartNative) -> None:
    native = start_native(hotpath={"workers": "1", "max-queue-tokens": "600"})
    stack = native.describe()
    # A list that finds the queue empty is taken, however long; its work is far more than the way here and back.
    with Load(stack, lambda _: {"input": FLOOD[:400]}) as load:
        load.wait_for(503, 20)
        load.wait_for(200, 10)
    refused = [outcome for outcome in load.outcomes if outcome.status == 503]
    served = [outcome for outcome in load.outcomes if outcome.status == 200]
    assert {outcome.error for outcome in refused} == {"queue_full"}
    assert median_s(refused) < median_s(served) / 4
    assert metrics.read(stack.metrics_url)["gateway_requests_total"] >= len(load.outcomes)


def median_s(outcomes: list[Outcome]) -> float:
    return statistics.median(outcome.ended - outcome.started for outcome in outcomes)


def test_the_sdk_gets_through_a_full_queue_by_itself(start_native: StartNative) -> None:
    native = start_native(hotpath={"workers": "1", "max-queue-tokens": "600"})
    stack = native.describe()
    with (
        Load(stack, lambda _: {"input": FLOOD[:30]}) as load,
        openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.keys["globex"], max_retries=20) as client,
    ):
        load.wait_for(503)
        assert client.embeddings.create(model=MODEL, input="patience").data


def test_a_request_that_exceeds_the_queue_is_served_when_nothing_else_waits(start_native: StartNative) -> None:
    native = start_native(hotpath={"workers": "1", "max-queue-tokens": "600"})
    stack = native.describe()
    headers = {"authorization": f"Bearer {stack.keys['acme']}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as http:
        assert len(embed(http, FLOOD)) == len(FLOOD)
