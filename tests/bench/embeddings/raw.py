"""ONNX Runtime in this process, driven as well as we know: what the whole stack is compared with.

Feeds are prepared beforehand, so nothing but `session.run` is timed; `OneText` is the exception.
"""

import pathlib
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from onnx import TensorProto
from onnxruntime.quantization import quantize_dynamic
from tokenizers import Tokenizer
from triptych_research.embedding.inference import batches, pack
from triptych_research.sessions import open_session

Texts = Sequence[Sequence[int]]  # token ids
Feed = Mapping[str, np.ndarray]
# From short texts on, a batch of this many tokens fills the matrix kernels; longer ones gain nothing (measured).
BATCH_TOKENS = 112


# What a caller with all texts in hand may do; the best of them is the comparison.
SCHEDULES: dict[str, Callable[[Texts], Iterable[Texts]]] = {
    "one by one": lambda texts: ([ids] for ids in texts),
    "in order, 112 tokens a batch": lambda texts: batches(texts, BATCH_TOKENS),
    "sorted by length, 112 tokens a batch": lambda texts: batches(sorted(texts, key=len), BATCH_TOKENS),
}


def texts_per_s(
    graph: pathlib.Path, feeds: Sequence[Feed], texts: int, workers: int, threads: int, duration_s: float
) -> float:
    """Run the feeds round and round on `workers` sessions of `threads` threads each; return texts a second."""
    sessions = [open_session(graph, threads, own_operators=True) for _ in range(workers)]
    for each in sessions:
        each.run(None, feeds[0])
    lock, position, done = threading.Lock(), 0, [0] * workers
    per_feed = texts / len(feeds)
    end = time.perf_counter() + duration_s

    def work(worker: int) -> None:
        nonlocal position
        while time.perf_counter() < end:
            with lock:
                feed = feeds[position % len(feeds)]
                position += 1
            sessions[worker].run(None, feed)
            done[worker] += 1

    start = time.perf_counter()
    pool = [threading.Thread(target=work, args=(worker,)) for worker in range(workers)]
    for thread in pool:
        thread.start()
    for thread in pool:
        thread.join()
    return sum(done) * per_feed / (time.perf_counter() - start)


def best_schedule(
    graph: pathlib.Path, texts: Texts, workers: int, rounds: int, round_s: float
) -> tuple[str, list[Feed]]:
    """The name and the feeds of the fastest schedule in the median of some rounds, one thread for each session."""
    feeds = {name: [pack(batch) for batch in schedule(texts)] for name, schedule in SCHEDULES.items()}
    for some in feeds.values():
        random.Random(1).shuffle(some)  # so that texts of all lengths have their share in a part of a pass
    speeds: dict[str, list[float]] = {name: [] for name in feeds}
    for _ in range(rounds):
        for name, found in speeds.items():
            found.append(texts_per_s(graph, feeds[name], len(texts), workers, 1, round_s))
    best = max(speeds, key=lambda name: statistics.median(speeds[name]))
    return best, feeds[best]


def dynamic_int8(fp32: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """The same network as ONNX Runtime's own tool quantizes it in one call: what int8 usually means there."""
    graph = folder / "dynamic.int8.onnx"
    # Shape inference does not know the fused operators, and everything that it asks about is float32.
    quantize_dynamic(fp32, graph, extra_options={"DefaultTensorType": TensorProto.FLOAT})
    return graph


class OneText:
    """Tokenizes and runs single texts on one thread."""

    def __init__(self, graph: pathlib.Path, tokenizer: pathlib.Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._session = open_session(graph, own_operators=True)

    def seconds(self, text: str) -> float:
        """Time from the text's characters to its hidden states."""
        start = time.perf_counter()
        self._session.run(None, pack([self._tokenizer.encode(text).ids]))
        return time.perf_counter() - start
