"""How fast an encoder's graphs are on one thread, packed, and padded as they usually are."""

import functools
from collections.abc import Mapping, Sequence

from triptych_research.embedding.inference import Batch, Encoder, Inputs, batches, pack, pad
from triptych_research.speed import best_of_rounds

TOKENS_PER_BATCH = 128  # a bound as the hot path has it
PADDED_BATCH = 32  # sentence-transformers' own

Feeds = Sequence[Inputs]


def packed(texts: Batch) -> Feeds:
    """Return the inputs of runs without padding, in the order of the texts."""
    return [pack(batch) for batch in batches(texts, TOKENS_PER_BATCH)]


def padded(texts: Batch) -> Feeds:
    """Return the inputs of runs as sentence-transformers makes them: sorted by length, padded to a batch's longest."""
    ordered = sorted(texts, key=len)
    return [pad(ordered[start : start + PADDED_BATCH]) for start in range(0, len(ordered), PADDED_BATCH)]


def tokens_per_second(graphs: Mapping[str, bytes], texts: Batch) -> dict[str, float]:
    """Return how many of the texts' own tokens are run in a second: in the usual way, then by the bundle's graphs."""
    fp32, int8 = (Encoder(graphs[precision], normalize=True) for precision in ("fp32", "int8"))
    ways = {
        "fp32, padded": (fp32, padded(texts)),
        "fp32, packed": (fp32, packed(texts)),
        "int8, packed": (int8, packed(texts)),
    }
    tokens = sum(map(len, texts))

    def run(encoder: Encoder, feeds: Feeds) -> None:
        for feed in feeds:
            encoder.run(feed)

    return best_of_rounds({way: (tokens, functools.partial(run, *side)) for way, side in ways.items()})
