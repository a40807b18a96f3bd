"""What all limits together add to a request, before an engine that does nothing.

Two tenants take turns, of which one has every limit and the other one the only limit that a plan must have, in memory.
No limit is ever reached.
"""

import contextlib
import dataclasses
import pathlib
import statistics
from collections.abc import Mapping

from bench.gateway import tenants
from bench.gateway.driver import Load
from bench.gateway.effort import Effort
from bench.gateway.peers import CONNECTIONS, WORKS, Side
from bench.gateway.programs import Engine
from stack.description import Stack
from stack.native import NativeStack
from stack.redis import Redis, redis_server

LIMITS = {
    "requests_per_minute": 600_000,
    "tokens_per_minute": 100_000_000,
    "tokens_per_day": 10_000_000_000,
    "concurrent_requests": 1_000,
    "concurrent_streams": 500,
    "tokens_per_request": 1_000_000,
}
PLAIN, LIMITED = "acme", "globex"
# Where the numbers of the limits are kept.
MEMORY, REDIS = "memory", "Redis"
PLANS = {LIMITED: {**LIMITS, "weight": 2, "key": LIMITS}}


@dataclasses.dataclass(frozen=True)
class Added:
    """Medians of the rounds."""

    plain_cpu_us: float
    limited_cpu_us: float
    cpu_ratio: float
    plain_p99_ms: float
    added_p50_ms: float
    added_p99_ms: float  # difference of the p99s of one client's requests, with all limits and without in turn
    jitter_p99_ms: float  # the same difference between two halves of requests that are alike


def measure(folder: pathlib.Path, effort: Effort) -> Mapping[str, Mapping[str, Added]]:
    """By where the numbers are kept, and work. Redis is left out where there is no redis-server."""
    with contextlib.ExitStack() as stop:
        engine = Engine(folder)
        stop.callback(engine.stop)

        def gateway(name: str, **settings: str) -> Stack:
            plans = tenants.write(folder / name, PLANS)
            stack = NativeStack(folder / name, hotpath_address=engine.contract, gateway={**plans, **settings})
            stop.callback(stack.stop)
            return stack.start()

        in_memory = gateway("in-memory")
        limited = {MEMORY: side(in_memory, LIMITED)}
        if program := redis_server():
            redis = Redis(program, folder / "redis")
            redis.start()
            stop.callback(redis.stop)
            limited[REDIS] = side(gateway("in-redis", **{"redis-url": redis.url}), LIMITED)
        plain = side(in_memory, PLAIN)
        return {place: {work: _measure(work, plain, of, effort) for work in WORKS} for place, of in limited.items()}


def side(of: Stack, tenant: str) -> Side:
    return Side(of.url, of.keys[tenant], of.pids["gateway"])


def _measure(work: str, plain: Side, limited: Side, effort: Effort) -> Added:
    path, body = WORKS[work]
    both, same = (Load(callers, path, [body], 1) for callers in ((plain, limited), (plain, plain)))
    Load((plain, limited), path, [body], CONNECTIONS).run_all(effort.round_s / 4)
    rounds = []
    for _ in range(effort.rounds):
        cpu = [each.measure(work, effort.round_s)[1] for each in (plain, limited)]
        without, with_all = (outcome.all_ok() for outcome in both.run_all(effort.round_s))
        one, other = (outcome.all_ok() for outcome in same.run_all(effort.round_s))
        rounds.append(
            (
                *cpu,
                cpu[1] / cpu[0],
                without.p99_ms,
                with_all.p50_ms - without.p50_ms,
                with_all.p99_ms - without.p99_ms,
                abs(other.p99_ms - one.p99_ms),
            )
        )
    return Added(*(statistics.median(figures) for figures in zip(*rounds, strict=True)))
