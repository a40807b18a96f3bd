"""What a request takes of a core, in the gateway and in other proxies before the same engine, which does nothing."""

import contextlib
import dataclasses
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.gateway import tenants
from bench.gateway.driver import Caller, Load, cpu_s
from bench.gateway.effort import Effort
from bench.gateway.litellm_proxy import KEY, SERVERS, LiteLLM
from bench.gateway.programs import Engine, PlainProxy
from bench.litellm_install import PROGRAM
from stack.native import NativeStack

CONNECTIONS = 16
TEXT, CHAT = "one text", "a chat of one token"
EMBEDDING_MODEL, CHAT_MODEL = "all-minilm-l6-v2", "smollm2-135m-instruct"
GATEWAY, PLAIN = "gateway", "httputil.ReverseProxy"
# Of what each side is asked: the route, and the request.
WORKS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    TEXT: ("/v1/embeddings", {"model": EMBEDDING_MODEL, "input": "one short text", "encoding_format": "base64"}),
    CHAT: (
        "/v1/chat/completions",
        {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 1},
    ),
}


@dataclasses.dataclass(frozen=True)
class Taken:
    """What one kind of request takes at one side, medians of the rounds."""

    per_s: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    ratio: float  # of the gateway's requests a second of CPU time to this side's, median of the rounds' ratios


@dataclasses.dataclass(frozen=True)
class Side(Caller):
    """A server's process, with the key that it knows us by."""

    pid: int

    def measure(self, work: str, seconds: float) -> tuple[float, float, float, float]:
        """Requests a second, CPU-µs of each, and latencies."""
        path, body = WORKS[work]
        before = cpu_s(self.pid)
        outcome = Load([self], path, [body], CONNECTIONS).run(seconds)
        replies = outcome.all_ok()
        cpu_us = 1e6 * (cpu_s(self.pid) - before) / replies.count
        return replies.on_time / outcome.seconds, cpu_us, replies.p50_ms, replies.p99_ms


def measure(folder: pathlib.Path, effort: Effort) -> Mapping[str, Mapping[str, Taken]]:
    """By work and side; LiteLLM's are left out where it is not installed."""
    with contextlib.ExitStack() as stop:
        engine = Engine(folder)
        stop.callback(engine.stop)
        stack = NativeStack(folder, hotpath_address=engine.contract, gateway=tenants.write(folder, {}))
        stop.callback(stack.stop)
        where = stack.start()
        plain = PlainProxy(folder, engine.url)
        stop.callback(plain.stop)
        sides = {
            GATEWAY: Side(where.url, where.keys["acme"], where.pids["gateway"]),
            PLAIN: Side(plain.url, "none", plain.pid),
        }
        starting = []
        for server in SERVERS if PROGRAM.exists() else ():
            peer = LiteLLM(folder, server, engine.url, (EMBEDDING_MODEL, CHAT_MODEL))
            stop.callback(peer.stop)
            starting.append(peer)
            sides[f"LiteLLM, {server}"] = Side(peer.url, KEY, peer.pid)
        for peer in starting:
            peer.wait_ready()
        return {work: _in_turns(work, sides, effort) for work in WORKS}


def _in_turns(work: str, sides: Mapping[str, Side], effort: Effort) -> Mapping[str, Taken]:
    for side in sides.values():
        side.measure(work, effort.round_s / 4)  # the first requests of a process are not like the rest
    rounds: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in sides}
    for _ in range(effort.rounds):
        for name, side in sides.items():
            rounds[name].append(side.measure(work, effort.round_s))
    ours = [cpu_us for _, cpu_us, *_ in rounds[GATEWAY]]
    return {name: _taken(found, ours) for name, found in rounds.items()}


def _taken(rounds: Sequence[tuple[float, float, float, float]], ours: Sequence[float]) -> Taken:
    per_s, cpu_us, p50_ms, p99_ms = (statistics.median(figures) for figures in zip(*rounds, strict=True))
    ratios = [theirs / our for (_, theirs, *_), our in zip(rounds, ours, strict=True)]
    return Taken(per_s, cpu_us, p50_ms, p99_ms, statistics.median(ratios))
