"""What the hot path takes: after load, and once every part of its cache has been written to."""

import dataclasses
import pathlib

import psutil

from bench.generation.servers import CHUNK_TOKENS, Model, Stack
from bench.generation.streams import together

KEPT_CHUNKS = 22  # of each prompt
AT_A_TIME = 4  # prompts
# Beyond what fits: what a prompt holds beside its full chunks is given back when it ends.
SURPLUS = 1.1


@dataclasses.dataclass(frozen=True)
class Memory:
    """Memory of one hot path, in MiB."""

    weights_mib: float  # the graph's file
    cache_mib: float  # as configured
    loaded_mib: float  # RSS after load, which includes the check against the golden cases
    used_mib: float  # RSS after the cache was full
    kept: float  # share of the cache that holds tokens then

    @property
    def loaded_ratio(self) -> float:
        return self.loaded_mib / self.weights_mib

    @property
    def used_ratio(self) -> float:
        return self.used_mib / (self.weights_mib + self.cache_mib)


def measure(model: Model, folder: pathlib.Path, cache_bytes: int) -> Memory:
    """Load, then read prompts until what is kept of them fills the cache."""
    stack = Stack(folder, cache_bytes=str(cache_bytes), chunk_tokens=str(CHUNK_TOKENS))
    try:
        process = psutil.Process(stack.pids["hotpath"])
        loaded = process.memory_info().rss
        tokens = KEPT_CHUNKS * CHUNK_TOKENS + 2
        prompts = int(SURPLUS * cache_bytes / model.cache_bytes_per_token / (KEPT_CHUNKS * CHUNK_TOKENS)) + 1
        for start in range(0, prompts, AT_A_TIME):
            count = min(AT_A_TIME, prompts - start)
            together([stack.complete(model.prompts.text(tokens), tokens, 1) for _ in range(count)])
        used = process.memory_info().rss
        kept = stack.metric("hotpath_kept_tokens")
    finally:
        stack.stop()
    return Memory(
        weights_mib=model.graph.stat().st_size / 2**20,
        cache_mib=cache_bytes / 2**20,
        loaded_mib=loaded / 2**20,
        used_mib=used / 2**20,
        kept=kept * model.cache_bytes_per_token / cache_bytes,
    )
