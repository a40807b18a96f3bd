"""Two hot paths before one gateway: one that stops, dies, is told to go, or has other models."""

import pathlib
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping

import httpx
import pytest

from e2e.load import HANGS_S, Load
from e2e.replicas import (
    LONG,
    NOTICED_S,
    ONE_MODEL,
    SETTLED_S,
    ejected,
    replica_metric,
    wait_for_calls_everywhere,
)
from e2e.vectors import MODEL
from stack.description import Stack
from stack.loopback import HOST, free_port
from stack.pool import Pool
from stack.waiting import wait_until

MODERATION = "moderation-minilm"

StartPool = Callable[..., tuple[Pool, Stack]]


@pytest.fixture
def start_pool(native_only: None, tmp_path: pathlib.Path) -> Iterator[StartPool]:
    started: list[Pool] = []

    def start(*hotpaths: Mapping[str, str], **gateway: str) -> tuple[Pool, Stack]:
        pool = Pool(tmp_path, hotpaths, gateway={"canary-interval": "500ms", **gateway})
        started.append(pool)
        return pool, pool.start()

    yield start
    for pool in started:
        pool.stop()


def test_a_hotpath_that_hangs_gets_no_more_calls(start_pool: StartPool) -> None:
    pool, stack = start_pool(ONE_MODEL, ONE_MODEL)
    with Load(stack, lambda _: LONG) as load:
        load.wait_for(200, 20)
        wait_for_calls_everywhere(stack)
        stopped = time.monotonic()
        pool.hotpath(0).signal(signal.SIGSTOP)
        try:
            wait_until("the ejection", lambda: ejected(stack) == 1, NOTICED_S)
            noticed = time.monotonic()
            load.wait_for(200, 20, since=noticed)
        finally:
            pool.hotpath(0).signal(signal.SIGCONT)
        wait_until("its return", lambda: ejected(stack) == 0, 60)
        load.wait_for(200, 20, since=time.monotonic())
    # The rest is nobody's fault: what it had got before anybody knew waits for it, or until its connection is given up.
    knowing = [outcome for outcome in load.outcomes if outcome.ended < stopped or outcome.started > noticed]
    assert {outcome.status for outcome in knowing} == {200}
    assert load.statuses() <= {200, 503}
    assert max(outcome.ended - outcome.started for outcome in load.outcomes) < HANGS_S
    pool.wait_all_proven()


def test_a_hotpath_that_is_killed_takes_only_its_calls_along(start_pool: StartPool) -> None:
    pool, stack = start_pool(ONE_MODEL, ONE_MODEL)
    with Load(stack, lambda _: LONG) as load:
        load.wait_for(200, 20)
        wait_for_calls_everywhere(stack)
        killed = time.monotonic()
        pool.hotpath(0).kill()
        load.wait_for(200, 20, since=killed + SETTLED_S)
        pool.start_again(0)
        wait_for_calls_everywhere(stack)
    lost = [outcome for outcome in load.outcomes if outcome.status != 200]
    assert all(outcome.started < killed + SETTLED_S for outcome in lost), lost
    # Something may have been computed for them: whether to ask again is the client's decision.
    assert {(outcome.status, outcome.error) for outcome in lost} <= {(503, "hotpath_unavailable")}


def test_a_hotpath_that_is_told_to_go_finishes_what_it_has(start_pool: StartPool) -> None:
    """Known by a name here, whose addresses this machine's own resolver tells; the last one stands beside the name."""
    named, beside = free_port(), free_port()
    found = {str(entry[4][0]) for entry in socket.getaddrinfo("localhost", named, type=socket.SOCK_STREAM)}
    addresses = [f"[{host}]:{named}" if ":" in host else f"{host}:{named}" for host in sorted(found)]
    addresses.append(f"{HOST}:{beside}")
    pool, stack = start_pool(
        *({**ONE_MODEL, "grpc-address": address} for address in addresses),
        **{"hotpath-addresses": f"dns:///localhost:{named},{addresses[-1]}"},
    )
    assert {replica["address"] for replica in pool.replicas()} == set(addresses)
    with Load(stack, lambda _: LONG) as load:
        load.wait_for(200, 20)
        wait_for_calls_everywhere(stack)
        assert pool.hotpath(0).stop() == 0
        load.wait_for(200, 20, since=time.monotonic())
    assert load.statuses() == {200}


def test_hotpaths_are_restarted_one_by_one_and_nobody_notices(start_pool: StartPool) -> None:
    pool, stack = start_pool(ONE_MODEL, ONE_MODEL)
    with Load(stack) as load:
        load.wait_for(200, 20)
        for _ in range(2):
            for number in range(2):
                wait_for_calls_everywhere(stack)
                assert pool.hotpath(number).stop() == 0
                pool.start_again(number)
        load.wait_for(200, 20, since=time.monotonic())
    assert load.statuses() == {200}


def test_each_model_is_asked_where_it_is(start_pool: StartPool) -> None:
    pool, stack = start_pool(ONE_MODEL, {"model-names": f"{MODERATION},{MODEL}", "workers": "1"})
    alone, both = ({model["id"] for model in replica["models"]} for replica in pool.replicas())
    assert (alone, both) == ({MODEL}, {MODERATION, MODEL})
    headers = {"authorization": f"Bearer {stack.keys['acme']}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=30) as http:
        listed = {model["id"] for model in http.get("/v1/models").raise_for_status().json()["data"]}
        assert listed >= {MODEL, MODERATION}
        for number in range(20):
            text = f"text {number}"
            http.post("/v1/moderations", json={"input": text}).raise_for_status()
            http.post("/v1/embeddings", json={"model": MODEL, "input": text}).raise_for_status()
        assert sum(replica_metric(stack, "retries_total").values()) == 0, "some went to the one that lacks the model"
        pool.hotpath(1).kill()
        wait_until("the loss", lambda: not all(replica["connected"] for replica in pool.replicas()), 20)
        assert http.post("/v1/moderations", json={"input": "a"}).json()["error"]["code"] == "hotpath_unavailable"
        http.post("/v1/embeddings", json={"model": MODEL, "input": "a"}).raise_for_status()
