"""What all limits together add to a request, before an engine that does nothing.

Both sides are one gateway at one time: two tenants, of which one has every limit and the other one the only limit that
a plan must have. No limit is ever reached.
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
from stack.native import NativeStack

LIMITS = {
    "requests_per_minute": 600_000,
    "tokens_per_minute": 100_000_000,
    "tokens_per_day": 10_000_000_000,
    "concurrent_requests": 1_000,
    "concurrent_streams": 500,
    "tokens_per_request": 1_000_000,
}
PLAIN, LIMITED = "acme", "globex"
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


def measure(folder: pathlib.Path, effort: Effort) -> Mapping[str, Added]:
    """By work."""
    with contextlib.ExitStack() as stop:
        engine = Engine(folder)
        stop.callback(engine.stop)
        stack = NativeStack(folder, hotpath_address=engine.contract, gateway=tenants.write(folder, PLANS))
        stop.callback(stack.stop)
        where = stack.start()
        sides = [Side(where.url, where.keys[name], where.pids["gateway"]) for name in (PLAIN, LIMITED)]
        return {work: _measure(work, sides, effort) for work in WORKS}


def _measure(work: str, sides: list[Side], effort: Effort) -> Added:
    path, body = WORKS[work]
    plain, limited = sides
    both = Load(plain.url + path, (plain.key, limited.key), [body], 1)
    same = Load(plain.url + path, (plain.key, plain.key), [body], 1)
    Load(plain.url + path, (plain.key, limited.key), [body], CONNECTIONS).run_all(effort.round_s / 4)
    rounds = []
    for _ in range(effort.rounds):
        cpu = [side.measure(work, effort.round_s)[1] for side in sides]
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
