"""Processes that die or are told to go, under load."""

import signal
import time
from collections.abc import Callable

import httpx
import pytest

from e2e.load import Load, check_refusals
from e2e.vectors import MODEL
from stack.native import NativeStack
from stack.process import Process
from stack.waiting import StackError, wait_until

StartNative = Callable[..., NativeStack]
# A request that was begun this long before a signal has reached the hot path by then, on a busy machine too.
ARRIVED_S = 0.5
# Lists that keep one worker busy for a second or more, so that requests are open when a signal comes. None is refused.
ONE_WORKER = {"workers": "1", "max-queue-tokens": "1000000", "max-queue-ms": "60000"}
LONG: dict[str, object] = {"input": ["a text of some ten tokens, of which there are many"] * 256}


def running(process: Process | None) -> Process:
    assert process is not None
    return process


def test_killed_hotpath_is_refusals_until_it_is_back(start_native: StartNative) -> None:
    native = start_native()
    with Load(native.describe()) as load:
        load.wait_for(200, 20)
        running(native.hotpath).kill()
        load.wait_for(503, 20, since=time.monotonic())
        native.start_hotpath()
        load.wait_for(200, 20, since=time.monotonic())
    check_refusals(load.outcomes)
    native.wait_ready()


def test_killed_gateway_serves_again_at_its_address(start_native: StartNative) -> None:
    native = start_native()
    running(native.gateway).kill()
    native.start_gateway()
    native.wait_ready()


def test_terminated_hotpath_finishes_what_it_accepted(start_native: StartNative) -> None:
    native = start_native(hotpath=ONE_WORKER)
    with Load(native.describe(), lambda _: LONG) as load:
        load.wait_for(200, 8)
        signalled = time.monotonic()
        assert running(native.hotpath).stop() == 0
        load.wait_for(503, 5, since=time.monotonic())
        native.start_hotpath()
        load.wait_for(200, 8, since=time.monotonic())
    check_refusals(load.outcomes)
    accepted = [outcome for outcome in load.outcomes if outcome.started < signalled - ARRIVED_S]
    assert max(outcome.ended for outcome in accepted) > signalled, "no request was open at the signal"
    assert {outcome.status for outcome in accepted} == {200}


def test_terminated_gateway_finishes_what_it_accepted(start_native: StartNative) -> None:
    listens_on_s = 0.5
    native = start_native(gateway={"drain-delay": f"{listens_on_s}s"}, hotpath=ONE_WORKER)
    stack = native.describe()
    with Load(stack, lambda _: LONG) as load:
        load.wait_for(200, 8)
        signalled = time.monotonic()
        running(native.gateway).signal(signal.SIGTERM)
        wait_until("the gateway not being ready", lambda: readiness(stack.url) != 200, 10)
        assert running(native.gateway).wait() == 0
    accepted = [outcome for outcome in load.outcomes if outcome.started < signalled + listens_on_s / 2]
    assert max(outcome.ended for outcome in accepted) > signalled + listens_on_s, "no request was open at the end"
    assert {outcome.status for outcome in accepted} == {200}
    # Later ones were served, or found no listener, or one that closed before it let them in; none had half an answer.
    assert load.statuses() == {200, None}


def readiness(url: str) -> int | None:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code
    except httpx.TransportError:
        return None


def test_a_service_that_cannot_start_is_told_with_its_last_words(start_native: StartNative) -> None:
    native = start_native()
    running(native.hotpath).kill()
    with pytest.raises(StackError, match=r"hotpath ended with status -9(?s:.*)listening"):
        native.check_alive()


def test_readiness_follows_the_hotpath(start_native: StartNative) -> None:
    native = start_native(gateway={"canary-interval": "200ms", "ready-window": "1s"})
    stack = native.describe()
    running(native.hotpath).kill()
    wait_until("the gateway not being ready", lambda: readiness(stack.url) == 503, 20)
    assert httpx.get(f"{stack.url}/livez").status_code == 200
    native.start_hotpath()
    native.wait_ready()
    body = {"model": MODEL, "input": "a"}
    key = {"authorization": f"Bearer {stack.keys['acme']}"}
    assert httpx.post(f"{stack.url}/v1/embeddings", json=body, headers=key).status_code == 200
