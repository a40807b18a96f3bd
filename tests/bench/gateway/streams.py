"""What an event of a stream takes of a core in the gateway, before an engine that does nothing."""

import contextlib
import dataclasses
import pathlib
import statistics
from collections.abc import Sequence

from bench.gateway import tenants
from bench.gateway.driver import Caller, Load, cpu_s
from bench.gateway.effort import Effort
from bench.gateway.peers import CHAT, WORKS
from bench.gateway.programs import Engine
from stack.native import NativeStack


@dataclasses.dataclass(frozen=True)
class Pace:
    """How the engine says its tokens."""

    name: str
    streams: int
    tokens: int
    interval_ms: int


AT_ONCE = Pace("as fast as they are taken", 16, 256, 0)
PACES = (AT_ONCE, Pace("one every 20 ms", 64, 50, 20))


@dataclasses.dataclass(frozen=True)
class Events:
    """The median of the rounds."""

    pace: Pace
    cpu_us: float  # the gateway's, for one event

    @property
    def per_core_s(self) -> float:
        return 1e6 / self.cpu_us


def measure(folder: pathlib.Path, effort: Effort) -> Sequence[Events]:
    """By pace."""
    return [_measure(pace, folder / f"pace{pace.interval_ms}", effort) for pace in PACES]


def _measure(pace: Pace, folder: pathlib.Path, effort: Effort) -> Events:
    path, body = WORKS[CHAT]
    with contextlib.ExitStack() as stop:
        engine = Engine(folder, token_interval_ms=pace.interval_ms)
        stop.callback(engine.stop)
        stack = NativeStack(folder, hotpath_address=engine.contract, gateway=tenants.write(folder, {}))
        stop.callback(stack.stop)
        where = stack.start()
        bodies = [{**body, "max_tokens": pace.tokens, "stream": True}]
        load = Load([Caller(where.url, where.keys["acme"])], path, bodies, pace.streams)
        load.run(effort.round_s / 4)
        found = []
        for _ in range(effort.rounds):
            before = cpu_s(where.pids["gateway"])
            events = load.run(effort.round_s).all_ok().events
            found.append(1e6 * (cpu_s(where.pids["gateway"]) - before) / events)
    return Events(pace, statistics.median(found))
