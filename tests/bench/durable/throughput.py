"""What a batch gets out of the hot path, beside what as many clients get that wait for their replies."""

import dataclasses
import pathlib
import statistics
import time

from bench.durable import api
from bench.durable.effort import Effort
from bench.gateway.driver import Caller, Load
from bench.gateway.peers import TEXT, WORKS
from stack.description import Stack

CONNECTIONS = 64  # as many as a gateway runs lines of batches at once
IDLE_S = 1  # after requests the hot path keeps room for more: twice as long as that
WORDS = "a batch of texts of some ten tokens each, number"


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Medians of the rounds."""

    peak_per_s: float  # texts, through the synchronous API
    batch_per_s: float
    ratio: float  # median of the rounds' ratios


def measure(where: Stack, folder: pathlib.Path, effort: Effort) -> Throughput:
    """In turns: clients for a time, and then a batch of as many texts."""
    endpoint, body = WORKS[TEXT]
    client = api.Client(where)
    texts = [{**body, "input": f"{WORDS} {number}"} for number in range(1000)]
    load = Load([Caller(where.url, where.keys[api.TENANT])], endpoint, texts, CONNECTIONS)
    load.run(effort.batch_s / 4)
    rounds = []
    for _ in range(effort.rounds):
        outcome = load.run(effort.batch_s)
        peak = outcome.all_ok().on_time / outcome.seconds
        count = min(50_000, max(100, int(peak * effort.batch_s)))
        path = folder / "in.jsonl"
        api.write(path, endpoint, ({**body, "input": f"{WORDS} {number}"} for number in range(count)))
        file = client.upload(path)
        time.sleep(IDLE_S)
        batch, began = client.submit(endpoint, file), time.monotonic()
        client.wait(batch)
        speed = count / (time.monotonic() - began)
        client.wait(batch, results=True)
        rounds.append((peak, speed, speed / peak))
    return Throughput(*(statistics.median(figures) for figures in zip(*rounds, strict=True)))
