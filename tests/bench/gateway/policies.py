"""What limits take of a core: the gateway with none but a rate of requests, with all of them in memory, and in Redis.

    python -m bench.gateway.policies

prints it. The engine does nothing, and the three gateways are asked in turns.
"""

import contextlib
import pathlib
import statistics
import tempfile
from collections.abc import Mapping

from bench.gateway import programs, tenants
from bench.gateway.driver import Load, cpu_s
from bench.gateway.peers import CONNECTIONS, WORKS
from bench.gateway.programs import Engine
from stack.description import Stack
from stack.native import NativeStack
from stack.redis import Redis, redis_server

ROUNDS, ROUND_S = 7, 3.0
NONE, MEMORY, REDIS = "requests a minute alone", "all limits, in memory", "all limits, in Redis"
RATE = {"requests_per_minute": 1_000_000}
LIMITS = {
    **RATE,
    "tokens_per_minute": 100_000_000,
    "tokens_per_day": 1_000_000_000_000,
    "concurrent_requests": 1000,
    "concurrent_streams": 1000,
}


def plan(limits: Mapping[str, int]) -> dict[str, object]:
    """The same limits of tenant and key."""
    return {**limits, "key": dict(limits)} if limits is LIMITS else dict(limits)


def main() -> None:
    programs.build()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stop:
        folder = pathlib.Path(name)
        engine = Engine(folder / "engine")
        stop.callback(engine.stop)
        found = redis_server()
        assert found is not None, "there is no redis-server"
        redis = Redis(found, folder / "redis")
        redis.start()
        stop.callback(redis.stop)
        sides: dict[str, Stack] = {}
        for side, limits, more in (
            (NONE, RATE, {}),
            (MEMORY, LIMITS, {}),
            (REDIS, LIMITS, {"redis-url": redis.url}),
        ):
            of_side = folder / str(len(sides))
            of_side.mkdir()
            settings = {**tenants.write(of_side, {"acme": plan(limits)}), **more}
            stack = NativeStack(of_side, hotpath_address=engine.contract, gateway=settings)
            stop.callback(stack.stop)
            sides[side] = stack.start()
        for work, (path, body) in WORKS.items():
            rounds: dict[str, list[float]] = {side: [] for side in sides}
            p99s: dict[str, list[float]] = {side: [] for side in sides}
            for turn in range(ROUNDS + 1):
                for side, where in sides.items():
                    before = cpu_s(where.pids["gateway"])
                    load = Load(where.url + path, where.keys["acme"], [body], CONNECTIONS)
                    replies = load.run(ROUND_S if turn else ROUND_S / 4).all_ok()
                    if turn:  # the first requests of a process are not like the rest
                        rounds[side].append(1e6 * (cpu_s(where.pids["gateway"]) - before) / replies.count)
                        p99s[side].append(replies.p99_ms)
            for side, cpu_us in rounds.items():
                ratio = statistics.median(this / none for this, none in zip(cpu_us, rounds[NONE], strict=True))
                print(
                    f"{work}: {side}: {statistics.median(cpu_us):.0f} µs of a core, {ratio:.2f} times; "
                    f"p99 {statistics.median(p99s[side]):.2f} ms"
                )


if __name__ == "__main__":
    main()
