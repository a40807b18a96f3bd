"""Requests of somebody who waits, alone and beside a batch of the same work."""

import dataclasses
import pathlib
import statistics
import time
from collections.abc import Mapping

from bench.durable import api
from bench.durable.effort import Effort
from bench.gateway.beside import Beside, of_round
from bench.gateway.driver import Caller, Load
from bench.gateway.peers import CHAT, TEXT, WORKS
from e2e import metrics
from stack.description import Stack

NEIGHBOUR = "globex"
# Of the batch beside: more than runs in the time, and as long as what a batch is for.
LINES = {TEXT: 50_000, CHAT: 2_000}
BATCH_TOKENS = 64  # that a chat of the batch says


@dataclasses.dataclass(frozen=True)
class Besides:
    """By work, and texts a second that the batch of texts has meanwhile."""

    of_work: Mapping[str, Beside]
    texts_per_s: float


def measure(where: Stack, folder: pathlib.Path, effort: Effort) -> Besides:
    """In turns alone and beside."""
    client, found, texts_per_s = api.Client(where), {}, []
    for work, (endpoint, body) in WORKS.items():
        seconds = effort.round_s if work == TEXT else effort.long_round_s
        path = folder / "in.jsonl"
        line = body if work == TEXT else {**body, "max_tokens": BATCH_TOKENS, "ignore_eos": True}
        api.write(path, endpoint, (line for _ in range(LINES[work])))
        file = client.upload(path)
        one = Load([Caller(where.url, where.keys[NEIGHBOUR])], endpoint, [body], connections=1)
        one.run(seconds / 4)
        rounds = []
        for _ in range(effort.rounds):
            alone = one.run(seconds).all_ok()
            with client.running(endpoint, file):
                one.run(seconds / 4)
                calls, began = _calls(where), time.monotonic()
                beside = one.run(seconds).all_ok()
                if work == TEXT:
                    texts_per_s.append((_calls(where) - calls - beside.on_time) / (time.monotonic() - began))
            rounds.append(of_round(alone, beside))
        found[work] = Beside(*(statistics.median(each) for each in zip(*rounds, strict=True)))
    return Besides(found, statistics.median(texts_per_s))


def _calls(where: Stack) -> float:
    """What the hot path has answered: each text is a call."""
    return metrics.read(where.metrics_url)["gateway_hotpath_seconds_count"]
