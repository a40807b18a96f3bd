"""Runs a decoder graph as the hot path does: one slab of cache for each layer and side, bound as past and present.

Attention writes new keys and values where the old ones lie, so no step copies a cache. Rows [0, n) of the slabs decode
together whatever their lengths; a prompt is prefilled into its row alone, in chunks.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from triptych_research.decoder.blocks import Floats
from triptych_research.decoder.chunks import chunk_plan, largest_chunk
from triptych_research.decoder.continuation import Continuation
from triptych_research.decoder.graph import past_name, present_name
from triptych_research.sessions import open_session

CPU = "cpu"


class DecoderSession:
    """A graph and `slots` rows of cache with room for `capacity` tokens each."""

    def __init__(self, model: Path | bytes, slots: int, capacity: int, threads: int = 1, spin_us: int = 0) -> None:
        self.session = open_session(model, threads, spin_us)
        self.slots, self.capacity = slots, capacity
        logits, cache, *_ = self.session.get_outputs()
        self.vocabulary_size = int(logits.shape[1])
        self.layers = (len(self.session.get_outputs()) - 1) // 2
        shape = (slots, int(cache.shape[1]), capacity, int(cache.shape[3]))  # [slots, kv_heads, capacity, head_dim]
        self.max_chunk_tokens = largest_chunk(shape[3])
        self.slabs = {
            (side, layer): np.zeros(shape, np.float32) for layer in range(self.layers) for side in ("key", "value")
        }

    def run(self, slot: int, token_ids: Sequence[Sequence[int]], lengths: Sequence[int], rows: Sequence[int]) -> Floats:
        """Append tokens to the rows from `slot` on; return logits [rows, vocabulary] of the flattened positions `rows`.

        `lengths` are the rows' lengths after this call. More than one token at a time needs a single row.
        """
        ids = np.array(token_ids, np.int64)  # [batch, tokens]
        logits = np.empty((len(rows), self.vocabulary_size), np.float32)
        feeds: dict[str, NDArray[np.generic]] = {
            "input_ids": ids,
            "seqlens_k": np.array(lengths, np.int32) - np.int32(1),
            "total_sequence_length": np.array(max(lengths), np.int32),
            "logit_index": np.array(rows, np.int64),
        }
        binding = self.session.io_binding()
        for name, array in feeds.items():
            binding.bind_input(name, CPU, 0, array.dtype, array.shape, array.ctypes.data)
        for (side, layer), slab in self.slabs.items():
            view = slab[slot : slot + len(ids)]
            binding.bind_input(past_name(side, layer), CPU, 0, view.dtype, view.shape, view.ctypes.data)
            binding.bind_output(present_name(side, layer), CPU, 0, view.dtype, view.shape, view.ctypes.data)
        binding.bind_output("logits", CPU, 0, logits.dtype, logits.shape, logits.ctypes.data)
        self.session.run_with_iobinding(binding)
        return logits

    def prefill(self, slot: int, prompt: Sequence[int], chunk_tokens: int | None = None) -> Floats:
        """Run a prompt into a row; return the logits of its last position, [vocabulary]."""
        start, logits = 0, np.empty((0, self.vocabulary_size), np.float32)
        for size in chunk_plan(len(prompt), chunk_tokens or self.max_chunk_tokens):
            end = start + size
            rows = [size - 1] if end == len(prompt) else []
            logits = self.run(slot, [prompt[start:end]], [end], rows)
            start = end
        last: Floats = logits[0]
        return last

    def score(self, text: Sequence[int]) -> Floats:
        """Logits of every position of a text, [tokens, vocabulary]; uses row 0."""
        start, parts = 0, []
        for size in chunk_plan(len(text), self.max_chunk_tokens):
            parts.append(self.run(0, [text[start : start + size]], [start + size], range(size)))
            start += size
        return np.concatenate(parts)

    def greedy(
        self, prompts: Sequence[Sequence[int]], new_tokens: int, chunk_tokens: int | None = None
    ) -> list[Continuation]:
        """Greedy continuations of up to `slots` prompts, which decode together."""
        logits = np.stack([self.prefill(row, prompt, chunk_tokens) for row, prompt in enumerate(prompts)])
        results = [Continuation(row) for row in logits]
        for step in range(new_tokens):
            if step:
                lengths = [len(prompt) + step for prompt in prompts]
                logits = self.run(0, [[result.token_ids[-1]] for result in results], lengths, range(len(prompts)))
            for result, row in zip(results, logits, strict=True):  # row: [vocabulary]
                result.take_likeliest(row)
        return results


def check_declared_shapes(model: onnx.ModelProto) -> None:
    """Raise ValueError unless a run's outputs have the shapes that the graph declares.

    ONNX Runtime believes declarations of its own operators' results, and only complains when a reader binds a buffer.
    """
    sizes = {"batch": 2, "tokens": 1, "logit_rows": 3, "capacity": 5}
    feeds: dict[str, NDArray[np.generic]] = {
        "input_ids": np.zeros((2, 1), np.int64),
        "seqlens_k": np.array([4, 2], np.int32),
        "total_sequence_length": np.array(5, np.int32),
        "logit_index": np.array([1, 0, 1], np.int64),
    }
    for value in model.graph.input:
        if value.name not in feeds:
            feeds[value.name] = np.zeros(
                [sizes[axis] if isinstance(axis, str) else axis for axis in _axes(value)], np.float32
            )
    session = open_session(model.SerializeToString())
    for value, result in zip(model.graph.output, session.run(None, feeds), strict=True):
        declared = [sizes.get(axis) if isinstance(axis, str) else axis for axis in _axes(value)]
        if declared != list(result.shape):
            raise ValueError(f"{value.name} is {list(result.shape)}; it is declared as {_axes(value)}")


def _axes(value: onnx.ValueInfoProto) -> list[int | str]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
