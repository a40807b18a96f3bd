"""Two tenants of the whole stack: one asks for twenty times what its plan has, the other one for little."""

import dataclasses
import pathlib
import statistics
from collections.abc import Mapping

from bench.gateway import tenants
from bench.gateway.beside import Beside, of_round
from bench.gateway.driver import Caller, Load, Outcome
from bench.gateway.effort import Effort
from bench.gateway.peers import CHAT, TEXT, WORKS
from stack.native import NativeStack

FLOOD = 20  # times the plan
FLOOD_CONNECTIONS = 64
CHAT_TOKENS = 16
# Each work's flooding tenant, and the requests a second of its plan.
FLOODING = {TEXT: ("acme", 10), CHAT: ("tiny", 1)}
NEIGHBOUR = "globex"


@dataclasses.dataclass(frozen=True)
class BesideFlood(Beside):
    flood_served_per_s: float
    flood_refused: float  # share of the flood's requests


def measure(folder: pathlib.Path, effort: Effort) -> Mapping[str, BesideFlood]:
    """By work, in turns alone and beside."""
    plans = {tenant: {"requests_per_minute": 60 * per_s, "request_burst": per_s} for tenant, per_s in FLOODING.values()}
    stack = NativeStack(folder, gateway=tenants.write(folder, plans))
    try:
        where = stack.start()
        found = {}
        for work, (path, body) in WORKS.items():
            seconds = effort.round_s if work == TEXT else effort.long_round_s
            requests = [body if work == TEXT else {**body, "max_tokens": CHAT_TOKENS, "ignore_eos": True}]
            tenant, per_s = FLOODING[work]
            one = Load([Caller(where.url, where.keys[NEIGHBOUR])], path, requests, connections=1)
            flood = Load([Caller(where.url, where.keys[tenant])], path, requests, FLOOD_CONNECTIONS)
            one.run(seconds / 4)
            rounds = []
            for _ in range(effort.rounds):
                alone = one.run(seconds)
                # The burst that a plan allows is over when the neighbour comes.
                flooding = flood.start(1.25 * seconds + 1, rate_per_s=FLOOD * per_s)
                one.run(seconds / 4)
                beside = one.run(seconds)
                rounds.append((alone, beside, flooding.wait()))
            found[work] = _medians(rounds)
    finally:
        stack.stop()
    return found


def _medians(rounds: list[tuple[Outcome, Outcome, Outcome]]) -> BesideFlood:
    figures = []
    for alone, beside, flood in rounds:
        sent = sum(replies.count for replies in flood.statuses.values())
        of_flood = flood.ok.count / flood.seconds, 1 - flood.ok.count / sent
        figures.append((*of_round(alone.all_ok(), beside.all_ok()), *of_flood))
    return BesideFlood(*(statistics.median(each) for each in zip(*figures, strict=True)))
