"""How fast graphs are: tokens a second on one thread. Ratios within one run mean more than the numbers."""

import time
from collections.abc import Callable, Mapping, Sequence

from triptych_research.embedding.inference import Batch, Encoder, Inputs, batches, pack, pad

TOKENS_PER_BATCH = 128  # a bound as the hot path has it
PADDED_BATCH = 8
_ROUNDS = 3

Feeds = Sequence[Inputs]


def packed(texts: Batch) -> Feeds:
    """Return the inputs of runs without padding, in the order of the texts."""
    return [pack(batch) for batch in batches(texts, TOKENS_PER_BATCH)]


def padded(texts: Batch) -> Feeds:
    """Return the inputs of runs as they are usually done: each 8 texts that come, padded to the longest of them."""
    return [pad(texts[start : start + PADDED_BATCH]) for start in range(0, len(texts), PADDED_BATCH)]


def tokens_per_second(
    runs: Mapping[str, tuple[Encoder, Feeds]], tokens: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return, for each way of running, how many of the texts' own tokens it does in a second.

    The ways take turns and the best round of each counts, so that a busy moment of the machine hits none of them alone.
    """
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(_ROUNDS):
        for name, (encoder, feeds) in runs.items():
            start = clock()
            for feed in feeds:
                encoder.run(feed)
            best[name] = min(best[name], clock() - start)
    return {name: tokens / seconds for name, seconds in best.items()}
