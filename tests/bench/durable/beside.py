"""Requests of somebody who waits, alone and beside a batch of the same work."""

import pathlib
import statistics
from collections.abc import Mapping

from bench.durable import api
from bench.durable.effort import Effort
from bench.gateway.beside import Beside, of_round
from bench.gateway.driver import Caller, Load
from bench.gateway.peers import CHAT, TEXT, WORKS
from stack.description import Stack

NEIGHBOUR = "globex"
# Of the batch beside: more than runs in the time, and as long as what a batch is for.
LINES = {TEXT: 50_000, CHAT: 2_000}
BATCH_TOKENS = 64  # that a chat of the batch says


def measure(where: Stack, folder: pathlib.Path, effort: Effort) -> Mapping[str, Beside]:
    """By work, in turns alone and beside."""
    client, found = api.Client(where), {}
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
                beside = one.run(seconds).all_ok()
            rounds.append(of_round(alone, beside))
        found[work] = Beside(*(statistics.median(each) for each in zip(*rounds, strict=True)))
    return found
