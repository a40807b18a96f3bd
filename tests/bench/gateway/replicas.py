"""Two gateways that share their limits in Redis: what they accept of a flood, beside what the plan allows."""

import contextlib
import pathlib
import statistics

from bench.gateway import tenants
from bench.gateway.driver import Caller, Load
from bench.gateway.effort import Effort
from bench.gateway.peers import CONNECTIONS, TEXT, WORKS
from bench.gateway.programs import Engine
from stack.native import NativeStack
from stack.redis import Redis, redis_server

GATEWAYS = 2
ALLOWED_PER_S, BURST = 100, 100
FLOOD = 10  # times what the plan allows
TENANT = "acme"


def measure(folder: pathlib.Path, effort: Effort) -> float | None:
    """Accepted ÷ allowed once the burst is used up, median of the rounds; None where there is no redis-server."""
    program = redis_server()
    if program is None:
        return None
    plan = {"requests_per_minute": 60 * ALLOWED_PER_S, "request_burst": BURST}
    path, body = WORKS[TEXT]
    with contextlib.ExitStack() as stop:
        engine = Engine(folder)
        stop.callback(engine.stop)
        redis = Redis(program, folder / "redis")
        redis.start()
        stop.callback(redis.stop)
        callers = []
        for number in range(GATEWAYS):
            of = folder / f"gateway-{number}"
            settings = {**tenants.write(of, {TENANT: plan}), "redis-url": redis.url}
            stack = NativeStack(of, hotpath_address=engine.contract, gateway=settings)
            stop.callback(stack.stop)
            where = stack.start()
            callers.append(Caller(where.url, where.keys[TENANT]))
        flood = Load(callers, path, [body], CONNECTIONS)
        # By the end of the warm-up the flood has used up the burst.
        warmup_s = 2 * BURST / (FLOOD * ALLOWED_PER_S) + 0.5
        rounds = []
        for _ in range(effort.rounds):
            outcomes = flood.start(
                warmup_s + effort.long_round_s, warmup_s=warmup_s, rate_per_s=FLOOD * ALLOWED_PER_S
            ).wait_for_all()
            seconds = outcomes[0].seconds
            rounds.append(sum(outcome.ok.on_time for outcome in outcomes) / (ALLOWED_PER_S * seconds))
    return statistics.median(rounds)
