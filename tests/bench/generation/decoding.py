"""How fast text comes: one stream, eight at once, and the reading of a prompt; against a bare loop and a peer.

All sides of a thread budget are up at the same time and take turns within a round, so that a machine whose speed drifts
moves all of them; a ratio is the median of the rounds' ratios.
"""

import contextlib
import dataclasses
import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence

import psutil

from bench.generation.bare_loop import BareLoop
from bench.generation.effort import Effort
from bench.generation.servers import SPIN_US, LlamaGenerator, Model, Server, Stack
from bench.generation.streams import Answer, together

PROMPT_TOKENS = 32
LONG_PROMPT_TOKENS = 400
STREAMS = 8
SINGLE, EIGHT, PREFILL = "1 stream", f"{STREAMS} streams", "prefill"
WORKS = (SINGLE, EIGHT, PREFILL)


@dataclasses.dataclass(frozen=True)
class Side:
    """The stack, with one way for its threads to wait for each other, and with or without drafts."""

    spin_us: int = SPIN_US
    draft_tokens: int = 0  # as the peer and the bare loop, which compute each token by itself

    def __str__(self) -> str:
        return f"stack{self._waiting}" + (", with drafts" if self.draft_tokens else "")

    @property
    def bare(self) -> str:
        """The name of the bare loop whose threads wait alike; it has no drafts."""
        return f"bare loop{self._waiting}"

    @property
    def _waiting(self) -> str:
        return "" if self.spin_us else ", not spinning"


@dataclasses.dataclass(frozen=True)
class Decoding:
    """Speeds with one thread budget, in tokens a second: one figure for each round, in the same order on all sides."""

    threads: int
    sides: Sequence[Side]  # the one that is compared first
    peers: Sequence[str]
    speeds: Mapping[str, Mapping[str, Sequence[float]]]  # side, its bare loop, or peer → work → rounds
    cpu_us: Mapping[str, Mapping[str, float]]  # work → process → CPU-µs a token; the first side alone

    def ratio(self, side: Side, other: str, work: str) -> float:
        """Median of the rounds' ratios."""
        return statistics.median(
            ours / theirs for ours, theirs in zip(self.speeds[str(side)][work], self.speeds[other][work], strict=True)
        )


def measure(
    model: Model, folder: pathlib.Path, threads: int, sides: Sequence[Side], peers: Sequence[str], effort: Effort
) -> Decoding:
    """Start all sides and let them take turns."""
    with contextlib.ExitStack() as stop:

        def started(server: Server) -> Server:
            stop.callback(server.stop)
            return server

        works: dict[str, Mapping[str, Callable[[], float]]] = {}
        stacks = {side: started(_start(folder / f"{threads} {side}", side, threads)) for side in sides}
        for side, stack in stacks.items():
            works[str(side)] = _works(model, stack, stack, effort)
            if side.bare not in works:
                works[side.bare] = {SINGLE: _bare(model, side, threads, effort)}
        for peer in peers:
            # With a single slot it has no batch to fill: the best that it can do for one stream.
            alone, crowd = (
                started(LlamaGenerator(model.gguf, folder / f"{peer}, {slots}, {threads}.log", threads, slots))
                for slots in (1, STREAMS)
            )
            works[peer] = _works(model, alone, crowd, effort)
        speeds: dict[str, dict[str, list[float]]] = {name: {work: [] for work in each} for name, each in works.items()}
        for _ in range(effort.rounds):
            for work in WORKS:
                for name, each in works.items():
                    if work in each:
                        speeds[name][work].append(each[work]())
        first = stacks[sides[0]]
        cpu = {
            work: cpu_us(first, lambda: _streams(model, first, count, effort.tokens), effort.rounds)  # noqa: B023
            for work, count in ((SINGLE, 1), (EIGHT, STREAMS))
        }
    return Decoding(threads, sides, peers, speeds, cpu)


def cpu_us(server: Server, run: Callable[[], Sequence[Answer]], rounds: int) -> dict[str, float]:
    """CPU-µs that each process of a server, and this one, spend for one token; the system counts them by 10 ms."""
    processes = {name: psutil.Process(pid) for name, pid in server.pids.items()} | {"driver": psutil.Process()}

    def seconds() -> dict[str, float]:
        times = {name: process.cpu_times() for name, process in processes.items()}
        return {name: used.user + used.system for name, used in times.items()}

    before = seconds()
    tokens = sum(answer.completion_tokens for _ in range(rounds) for answer in run())
    after = seconds()
    return {name: 1e6 * (after[name] - before[name]) / tokens for name in processes}


def _start(folder: pathlib.Path, side: Side, threads: int) -> Stack:
    settings = {"generation_threads": threads, "generation_spin_us": side.spin_us, "draft_tokens": side.draft_tokens}
    return Stack(folder, **{name: str(value) for name, value in settings.items()})


def _bare(model: Model, side: Side, threads: int, effort: Effort) -> Callable[[], float]:
    loop = BareLoop(model.graph, PROMPT_TOKENS + effort.tokens, threads, side.spin_us)
    return lambda: loop.tokens_per_s(model.prompts.ids(model.prompts.text(PROMPT_TOKENS)), effort.tokens)


def _works(model: Model, one: Server, many: Server, effort: Effort) -> Mapping[str, Callable[[], float]]:
    """What a side does in a round, and the tokens a second that come of it."""

    def single() -> float:
        return _streams(model, one, 1, effort.tokens)[0].tokens_per_s

    def eight() -> float:
        return summed_tokens_per_s(_streams(model, many, STREAMS, effort.tokens))

    def prefill() -> float:
        (answer,) = together([one.complete(model.prompts.text(LONG_PROMPT_TOKENS), LONG_PROMPT_TOKENS, 2)])
        return LONG_PROMPT_TOKENS / answer.first_token_s

    return {SINGLE: single, EIGHT: eight, PREFILL: prefill}


def _streams(model: Model, server: Server, count: int, tokens: int) -> list[Answer]:
    """Streams that begin together, each with a prompt of its own."""
    return together([server.complete(model.prompts.text(PROMPT_TOKENS), PROMPT_TOKENS, tokens) for _ in range(count)])


def summed_tokens_per_s(answers: Sequence[Answer]) -> float:
    """Tokens a second of all streams together, while all of them decode: from the last one's first token to the first
    one's last."""
    start = max(answer.arrivals[0] for answer in answers)
    end = min(answer.arrivals[-1] for answer in answers)
    found = 0.0
    for answer in answers:
        # Most events are a token; one that ends in the middle of a character waits for the next.
        tokens_per_event = answer.completion_tokens / len(answer.arrivals)
        found += tokens_per_event * sum(start < at <= end for at in answer.arrivals)
    return found / (end - start)
