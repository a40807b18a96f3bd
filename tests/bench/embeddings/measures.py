"""The measurements. Each starts what it needs, compares like with like within itself, and returns figures.

What is compared alternates in rounds, so that a machine whose speed drifts moves both sides; a ratio is the median of
the rounds' ratios. It must not know how figures are shown.
"""

import contextlib
import dataclasses
import pathlib
import random
import statistics
import time
from collections.abc import Callable, Sequence

import psutil
from triptych_research.embedding import speed
from triptych_research.embedding.inference import pack

from bench.embeddings import corpus, load, raw
from bench.embeddings.corpus import Corpus
from bench.embeddings.llama import LlamaEmbedder
from stack.native import NativeStack

CLIENTS = 16
TEXTS_PER_LIST = 32
COUNTS = (1, TEXTS_PER_LIST)  # texts a request
LIST_CLIENTS = 4  # lists of 32 keep every worker busy with few clients
BLOCK = 25  # texts
LOADS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0)  # of the measured capacity


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int
    round_s: float
    giant_texts: int  # of one request that others are measured beside; 2048 is as many as it may have


@dataclasses.dataclass(frozen=True)
class Throughput:
    """Texts a second through the whole stack beside ONNX Runtime alone, with the same number of inference threads."""

    workers: int
    schedule: str  # the fastest of raw.SCHEDULES
    raw: float  # median texts/s
    singles: float  # texts/s through the stack: CLIENTS clients, one text a request
    singles_ratio: float  # median of the rounds' ratios
    lists: float  # texts/s through the stack: LIST_CLIENTS clients, TEXTS_PER_LIST texts a request
    lists_ratio: float
    cpu_us: dict[str, float]  # CPU-µs for one text in a request of its own, by process; "driver" is the load generator
    peer: "PeerThroughput | None"  # where `make llama-server` has built it


@dataclasses.dataclass(frozen=True)
class PeerThroughput:
    """The stack's texts a second by those of llama.cpp's server with as many threads, medians of the rounds' ratios."""

    singles: float  # the peer's texts/s
    singles_ratio: float
    lists: float
    lists_ratio: float


@dataclasses.dataclass(frozen=True)
class AddedLatency:
    """What the stack adds to tokenizing and running one text, one client; differences are taken text by text.

    Both sides hold the weights in memory of their own, and who runs right after the other finds the caches full of the
    other's: 0.4 ms for one text here. So they take turns by blocks of texts, and a block's first text is not counted.
    """

    raw_p50_ms: float
    stack_p50_ms: float
    added_p50_ms: float
    added_p99_ms: float
    raw_jitter_p99_ms: float  # p99 of the same difference between two raw runs: what the machine itself adds


@dataclasses.dataclass(frozen=True)
class LoadPoint:
    """Latency at one arrival rate."""

    load: float  # share of the capacity
    rate_per_s: float
    p50_ms: float  # of the requests that succeeded
    p99_ms: float
    refused: float  # share answered with 503
    served_per_s: float


@dataclasses.dataclass(frozen=True)
class UsualRecipe:
    """The bundle's graph, packed, ÷ a usual way in int8 or fp32, texts/s on all cores in this process."""

    precision: str  # of the usual way
    one_session: float  # packed, in one session with all cores, as the usual way has it
    session_per_core: float  # packed, as the hot path runs it


@dataclasses.dataclass(frozen=True)
class Footprint:
    """Start and memory of the hot path."""

    ready_s: float  # from the start of the process to a verified, ready model
    rss_mib: float  # after load
    weights_mib: float  # the graph's file
    workers: int


def throughput(
    texts: Corpus, folder: pathlib.Path, workers: int, peer: pathlib.Path | None, effort: Effort
) -> Throughput:
    """Measure with `workers` sessions of one thread on both sides; `peer` is the model's file for llama.cpp."""
    schedule, feeds = raw.best_schedule(texts.graph, texts.ids, workers, effort.rounds, effort.round_s / 4)
    settings = {"workers": str(workers), "model-names": corpus.MODEL}
    with contextlib.ExitStack() as stop:
        stack = NativeStack(folder, hotpath=settings)
        stop.callback(stack.stop)
        where = stack.start()
        served = {"stack": Served(where.address, *(corpus.requests(where, texts.texts, count) for count in COUNTS))}
        if peer is not None:
            llama = LlamaEmbedder(peer, folder / "llama-server.log", workers)
            stop.callback(llama.stop)
            served["peer"] = Served(llama.address, *(llama.requests(texts.texts, count) for count in COUNTS))
        alone: list[float] = []
        speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in served}
        for _ in range(effort.rounds):
            alone.append(raw.texts_per_s(texts.graph, feeds, len(texts.texts), workers, 1, effort.round_s))
            for name, side in served.items():
                speeds[name].append(side.texts_per_s(effort.round_s))
        cpu = _cpu_per_request(where.pids, lambda: served["stack"].one_by_one(effort.round_s))
    singles, lists = zip(*speeds["stack"], strict=True)
    return Throughput(
        workers=workers,
        schedule=schedule,
        raw=statistics.median(alone),
        singles=statistics.median(singles),
        singles_ratio=_median_ratio(singles, alone),
        lists=statistics.median(lists),
        lists_ratio=_median_ratio(lists, alone),
        cpu_us=cpu,
        peer=_beside(speeds["peer"], singles, lists) if peer is not None else None,
    )


@dataclasses.dataclass(frozen=True)
class Served:
    """A server, and the texts as requests of one and of many."""

    address: tuple[str, int]
    singles: Sequence[bytes]
    lists: Sequence[bytes]

    def one_by_one(self, duration_s: float) -> Sequence[load.Reply]:
        """CLIENTS clients, one text a request."""
        return load.closed_loop(self.address, self.singles, CLIENTS, duration_s)

    def texts_per_s(self, duration_s: float) -> tuple[float, float]:
        """In requests of one text, and of TEXTS_PER_LIST."""
        lists = load.closed_loop(self.address, self.lists, LIST_CLIENTS, duration_s)
        return _served_per_s(self.one_by_one(duration_s)), _served_per_s(lists) * TEXTS_PER_LIST


def _beside(
    peer: Sequence[tuple[float, float]], our_singles: Sequence[float], our_lists: Sequence[float]
) -> PeerThroughput:
    singles, lists = zip(*peer, strict=True)
    return PeerThroughput(
        singles=statistics.median(singles),
        singles_ratio=_median_ratio(our_singles, singles),
        lists=statistics.median(lists),
        lists_ratio=_median_ratio(our_lists, lists),
    )


def _median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return statistics.median(our / their for our, their in zip(ours, theirs, strict=True))


def added_latency(texts: Corpus, folder: pathlib.Path, effort: Effort) -> AddedLatency:
    """Run each block of texts once raw, once through the stack and once raw again."""
    stack = NativeStack(folder, hotpath={"workers": "1", "model-names": corpus.MODEL})
    count = int(effort.rounds * effort.round_s * 100)
    alone: list[float] = []
    through: list[float] = []
    again: list[float] = []
    one = raw.OneText(texts.graph, texts.bundle / "tokenizer.json")
    try:
        where = stack.start()
        chosen = texts.texts[:count]
        requests = corpus.requests(where, chosen, 1)
        with load.Client(where.address) as client:
            for start in range(0, count, BLOCK):
                block = slice(start, start + BLOCK)
                alone += [one.seconds(text) for text in chosen[block]][1:]
                through += [client.seconds(request) for request in requests[block]][1:]
                again += [one.seconds(text) for text in chosen[block]][1:]
    finally:
        stack.stop()
    added = [1e3 * (stack_s - raw_s) for stack_s, raw_s in zip(through, alone, strict=True)]
    jitter = [1e3 * (second - first) for second, first in zip(again, alone, strict=True)]
    return AddedLatency(
        raw_p50_ms=1e3 * statistics.median(alone),
        stack_p50_ms=1e3 * statistics.median(through),
        added_p50_ms=statistics.median(added),
        added_p99_ms=percentile(added, 99),
        raw_jitter_p99_ms=percentile(jitter, 99),
    )


def usual_recipes(
    texts: Corpus, fp32: pathlib.Path, folder: pathlib.Path, cores: int, effort: Effort
) -> list[UsualRecipe]:
    """Compare with what people run: padded, sorted by length, in one session with all cores; fp32, and ONNX Runtime's
    dynamic int8 of the same network."""
    packed = [pack(batch) for batch in raw.SCHEDULES["sorted by length, 112 tokens a batch"](texts.ids)]
    padded = list(speed.padded(texts.ids))
    for feeds in (packed, padded):
        random.Random(1).shuffle(feeds)  # so that texts of all lengths have their share in a part of a pass
    usual = {"fp32": fp32, "int8": raw.dynamic_int8(fp32, folder)}
    rounds: dict[str, list[tuple[float, float]]] = {precision: [] for precision in usual}
    for _ in range(effort.rounds):
        wide = raw.texts_per_s(texts.graph, packed, len(texts.ids), 1, cores, effort.round_s)
        narrow = raw.texts_per_s(texts.graph, packed, len(texts.ids), cores, 1, effort.round_s)
        for precision, graph in usual.items():
            speed_of_usual = raw.texts_per_s(graph, padded, len(texts.ids), 1, cores, effort.round_s)
            rounds[precision].append((wide / speed_of_usual, narrow / speed_of_usual))
    return [
        UsualRecipe(precision, *(statistics.median(ratios) for ratios in zip(*found, strict=True)))
        for precision, found in rounds.items()
    ]


def latency_under_load(texts: Corpus, folder: pathlib.Path, effort: Effort) -> list[LoadPoint]:
    """Measure the capacity, then latency at shares of it, with the default limits.

    Only requests due in the second half of a point's time count: above capacity, the first half fills the queue.
    """
    stack = NativeStack(folder, hotpath={"model-names": corpus.MODEL})
    points = []
    try:
        where = stack.start()
        address = where.address
        requests = corpus.requests(where, texts.texts, 1)
        capacity = _served_per_s(load.closed_loop(address, requests, 4 * CLIENTS, effort.round_s * effort.rounds))
        for share in LOADS:
            duration_s = 2 * effort.round_s * effort.rounds
            everything = load.open_loop(address, requests, share * capacity, duration_s)
            replies = [reply for reply in everything if reply.done_at_s - reply.latency_s >= duration_s / 2]
            served = [1e3 * reply.latency_s for reply in replies if reply.status == 200]
            answers = [reply for reply in everything if duration_s / 2 <= reply.done_at_s < duration_s]
            points.append(
                LoadPoint(
                    load=share,
                    rate_per_s=share * capacity,
                    p50_ms=statistics.median(served),
                    p99_ms=percentile(served, 99),
                    refused=sum(reply.status == 503 for reply in replies) / len(replies),
                    served_per_s=sum(reply.status == 200 for reply in answers) / (duration_s / 2),
                )
            )
    finally:
        stack.stop()
    return points


def footprint(texts: Corpus, folder: pathlib.Path, workers: int, effort: Effort) -> Footprint:
    """Start, load and look."""
    stack = NativeStack(folder, hotpath={"workers": str(workers), "model-names": corpus.MODEL})
    try:
        stack.create_keys()
        start = time.perf_counter()
        stack.start_hotpath()
        stack.wait_hotpath_ready()
        ready_s = time.perf_counter() - start
        stack.start_gateway()
        stack.wait_ready()
        where = stack.describe()
        load.closed_loop(where.address, corpus.requests(where, texts.texts, 1), CLIENTS, effort.round_s)
        rss = psutil.Process(where.pids["hotpath"]).memory_info().rss
    finally:
        stack.stop()
    weights = texts.graph.stat().st_size
    return Footprint(ready_s=ready_s, rss_mib=rss / 2**20, weights_mib=weights / 2**20, workers=workers)


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that `percent` of a hundred values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _served_per_s(replies: Sequence[load.Reply]) -> float:
    bad = {reply.status for reply in replies} - {200}
    if bad:
        raise RuntimeError(f"a measurement below capacity was answered with {sorted(bad)}")
    return len(replies) / max(reply.done_at_s for reply in replies)


def _cpu_per_request(pids: dict[str, int], run: Callable[[], Sequence[load.Reply]]) -> dict[str, float]:
    """CPU-µs that each process spends for one request."""
    processes = {name: psutil.Process(pid) for name, pid in pids.items()} | {"driver": psutil.Process()}

    def seconds() -> dict[str, float]:
        times = {name: process.cpu_times() for name, process in processes.items()}
        return {name: used.user + used.system for name, used in times.items()}

    before = seconds()
    replies = run()
    after = seconds()
    return {name: 1e6 * (after[name] - before[name]) / len(replies) for name in processes}
