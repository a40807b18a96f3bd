"""How fast an encoder's graph is on one thread, beside float32, packed, and padded as it usually is."""

import functools
from collections.abc import Sequence

from triptych_research.embedding.float32 import Float32Encoder, pad
from triptych_research.embedding.inference import Batch, Encoder, Inputs, batches
from triptych_research.speed import best_of_rounds

TOKENS_PER_BATCH = 128  # a bound as the hot path has it
PADDED_BATCH = 32  # sentence-transformers' own

Feeds = Sequence[Inputs]


def packed(encoder: Encoder, texts: Batch) -> Feeds:
    """Return the inputs of an encoder's runs without padding, in the order of the texts."""
    return [encoder.pack(batch) for batch in batches(texts, TOKENS_PER_BATCH)]


def padded(texts: Batch) -> Feeds:
    """Return the inputs of runs as sentence-transformers makes them: sorted by length, padded to a batch's longest."""
    ordered = sorted(texts, key=len)
    return [pad(ordered[start : start + PADDED_BATCH]) for start in range(0, len(ordered), PADDED_BATCH)]


def tokens_per_second(graph: Encoder, float32: Float32Encoder, texts: Batch) -> dict[str, float]:
    """Return how many of the texts' own tokens are run in a second: in the usual way, then by the bundle's graph."""
    ways = {
        "fp32, padded": (float32, padded(texts)),
        "fp32, packed": (float32, packed(float32, texts)),
        "8-bit blocks, packed": (graph, packed(graph, texts)),
    }
    tokens = sum(map(len, texts))

    def run(encoder: Encoder, feeds: Feeds) -> None:
        for feed in feeds:
            encoder.run(feed)

    return best_of_rounds({way: (tokens, functools.partial(run, *side)) for way, side in ways.items()})
