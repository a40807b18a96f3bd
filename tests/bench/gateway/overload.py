"""Ten times what the whole stack can do: what it still serves, and how fast it says no to the rest.

Texts are as long as the model takes. Then ten times the capacity is little for driver and gateway, which share the
processors with inference; with short ones they would be what is measured.
"""

import dataclasses
import pathlib
import random
import resource
import statistics
import time
from collections.abc import Mapping, Sequence

from bench.embeddings.load import connections_allowed
from bench.gateway import tenants
from bench.gateway.driver import Caller, Load, Replies, cpu_s
from bench.gateway.effort import Effort
from bench.gateway.peers import EMBEDDING_MODEL, TEXT, WORKS
from bench.sampler import Sampler
from stack.description import Stack
from stack.native import NativeStack

OVERLOAD = 10
PEAK_CONNECTIONS = 32
CONNECTIONS = 2048  # at most: some hundreds wait in queues, the others are told no within milliseconds
WORDS, TEXTS = 200, 200
VOCABULARY = "town river house green quiet morning people paper music window garden winter street letter story".split()
SERVICES = {"gateway": "the gateway", "hotpath": "the hot path"}


@dataclasses.dataclass(frozen=True)
class Held:
    """What a service holds while there is too much, of all rounds: the medians of their two halves."""

    first_mib: float
    second_mib: float

    @property
    def ratio(self) -> float:
        return self.second_mib / self.first_mib

    @classmethod
    def of(cls, mib: Sequence[float]) -> "Held":
        half = len(mib) // 2
        return cls(statistics.median(mib[:half]), statistics.median(mib[half:]))


@dataclasses.dataclass(frozen=True)
class Overload:
    """Medians of the rounds."""

    held: Mapping[str, Held]  # by service
    peak_per_s: float  # served to PEAK_CONNECTIONS clients that wait for their replies
    goodput_per_s: float
    ratio: float  # of the two, median of the rounds' ratios
    refused: float  # share of the requests
    refusal_p50_ms: float
    refusal_p99_ms: float
    driver_cores: float  # that it takes meanwhile, of the same processors
    gateway_cores: float
    hotpath_cores: float


def measure(folder: pathlib.Path, effort: Effort) -> Overload:
    """Peak and overload in turns. Of the overload the second half counts: the first one fills the queue."""
    stack = NativeStack(folder, gateway=tenants.write(folder, {}), hotpath={"model-names": EMBEDDING_MODEL})
    path, body = WORKS[TEXT]
    choice = random.Random(1)
    bodies = [{**body, "input": " ".join(choice.choices(VOCABULARY, k=WORDS))} for _ in range(TEXTS)]
    seconds = effort.long_round_s
    try:
        where = stack.start()
        callers = [Caller(where.url, where.keys["acme"])]
        Load(callers, path, bodies, PEAK_CONNECTIONS).run(seconds / 4)
        rounds = []
        held: dict[str, list[float]] = {service: [] for service in SERVICES}
        for _ in range(effort.rounds):
            peak = Load(callers, path, bodies, PEAK_CONNECTIONS).run(seconds, warmup_s=seconds / 4)
            peak_per_s = peak.all_ok().on_time / peak.seconds
            many = Load(callers, path, bodies, min(CONNECTIONS, connections_allowed()))
            before, began = _cpu_s(where), time.monotonic()
            samplers = {service: Sampler(where.pids[service]) for service in SERVICES}
            try:
                beyond = many.run(2 * seconds, warmup_s=seconds, rate_per_s=OVERLOAD * max(1, peak_per_s))
            finally:
                for sampler in samplers.values():
                    sampler.stop()
            took = time.monotonic() - began
            cores = [(after - before[process]) / took for process, after in _cpu_s(where).items()]
            for service, sampler in samplers.items():
                held[service] += [mib for _, mib in sampler.samples]
            no = beyond.statuses.get(503, Replies())
            sent = max(1, sum(replies.count for replies in beyond.statuses.values()))  # few connections may all wait
            goodput = beyond.ok.on_time / beyond.seconds
            ratio = goodput / max(1, peak_per_s)
            rounds.append((peak_per_s, goodput, ratio, no.count / sent, no.p50_ms, no.p99_ms, *cores))
    finally:
        stack.stop()
    medians = (statistics.median(figures) for figures in zip(*rounds, strict=True))
    return Overload({service: Held.of(mib) for service, mib in held.items()}, *medians)


def _cpu_s(where: Stack) -> Mapping[str, float]:
    """Of the driver, which has ended, and of the stack."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    stack = {service: cpu_s(where.pids[service]) for service in SERVICES}
    return {"driver": ended.ru_utime + ended.ru_stime, **stack}
