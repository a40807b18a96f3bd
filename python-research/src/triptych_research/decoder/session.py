"""Runs a decoder graph as the hot path does: one slab of cache for each layer and side, bound as past and present.

Attention writes new keys and values where they belong, so no step copies a cache. A sequence has one slot of the slabs.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from triptych_research.blocks import Floats
from triptych_research.decoder.continuation import Continuation
from triptych_research.decoder.graph import past_name, present_name
from triptych_research.sessions import open_session

CPU = "cpu"
ROWS = 128  # of a run, where there are as many


class Row(NamedTuple):
    """One token, which is appended to a sequence."""

    token: int
    slot: int
    position: int  # tokens of the sequence before it


class DecoderSession:
    """A graph and `slots` sequences of cache with room for `capacity` tokens each."""

    def __init__(self, model: Path | bytes, slots: int, capacity: int, threads: int = 1, spin_us: int = 0) -> None:
        self.session = open_session(model, threads, spin_us, own_operators=True)
        logits, cache, *_ = self.session.get_outputs()
        self.vocabulary_size = int(logits.shape[1])
        layers = (len(self.session.get_outputs()) - 1) // 2
        shape = (slots, int(cache.shape[1]), capacity, int(cache.shape[3]))  # [slots, kv_heads, capacity, head_dim]
        self.slabs = {
            (side, layer): np.zeros(shape, np.float16) for layer in range(layers) for side in ("key", "value")
        }
        self.largest = 0.0  # magnitude of any key or value of a text that was scored

    def run(self, rows: Sequence[Row], logit_rows: Sequence[int]) -> Floats:
        """Append tokens to their sequences; return the logits of some of the rows, [logit_rows, vocabulary]."""
        tokens, slots, positions = zip(*rows, strict=True)
        logits = np.empty((len(logit_rows), self.vocabulary_size), np.float32)
        feeds: dict[str, NDArray[np.generic]] = {
            "input_ids": np.array(tokens, np.int64),
            "sequences": np.array(slots, np.int32),
            "positions": np.array(positions, np.int32),
            "logit_index": np.array(logit_rows, np.int64),
        }
        binding = self.session.io_binding()
        for name, array in feeds.items():
            binding.bind_input(name, CPU, 0, array.dtype, array.shape, array.ctypes.data)
        for (side, layer), slab in self.slabs.items():
            binding.bind_input(past_name(side, layer), CPU, 0, slab.dtype, slab.shape, slab.ctypes.data)
            binding.bind_output(present_name(side, layer), CPU, 0, slab.dtype, slab.shape, slab.ctypes.data)
        binding.bind_output("logits", CPU, 0, logits.dtype, logits.shape, logits.ctypes.data)
        self.session.run_with_iobinding(binding)
        return logits

    def prefill(self, prompts: Sequence[Sequence[int]], rows: int = ROWS) -> Floats:
        """Run prompts into the slots from 0 on; return the logits of their last positions, [prompts, vocabulary].

        Their tokens take turns, so that every run of `rows` tokens has some of several prompts.
        """
        ends = [len(prompt) - 1 for prompt in prompts]
        logits = np.empty((len(prompts), self.vocabulary_size), np.float32)
        for run in _batched(_in_turn(prompts), rows):
            last = [index for index, row in enumerate(run) if row.position == ends[row.slot]]
            logits[[run[index].slot for index in last]] = self.run(run, last)
        return logits

    def score(self, text: Sequence[int], places: Sequence[int]) -> Floats:
        """Logits of some positions of a text, [places, vocabulary]; uses slot 0. `largest` takes note of the text."""
        named = set(places)
        parts = [
            self.run(run, [index for index, row in enumerate(run) if row.position in named])
            for run in _batched(_in_turn([text]), ROWS)
        ]
        self.largest = float(np.maximum(self.largest, self._largest_now()))  # NaN if either is
        return np.concatenate(parts)

    def _largest_now(self) -> np.float16:
        # But for its sign, the bits of a float16 are in the order of its magnitude, and NaN's are above all others.
        bits = max((slab.view(np.uint16) & 0x7FFF).max() for slab in self.slabs.values())
        largest: np.float16 = bits.view(np.float16)
        return largest

    def greedy(self, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[Continuation]:
        """Greedy continuations of up to `slots` prompts, which decode together."""
        logits = self.prefill(prompts)
        results = [Continuation(row) for row in logits]
        for step in range(new_tokens):
            if step:
                texts = enumerate(zip(prompts, results, strict=True))
                run = [Row(result.token_ids[-1], slot, len(prompt) + step - 1) for slot, (prompt, result) in texts]
                logits = self.run(run, range(len(run)))
            for result, row in zip(results, logits, strict=True):  # row: [vocabulary]
                result.take_likeliest(row)
        return results


def _in_turn(prompts: Sequence[Sequence[int]]) -> Iterator[Row]:
    for position in range(max(map(len, prompts))):
        for slot, prompt in enumerate(prompts):
            if position < len(prompt):
                yield Row(prompt[position], slot, position)


def _batched(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    iterator = iter(rows)
    return iter(lambda: list(itertools.islice(iterator, size)), [])


def check_declared_shapes(model: onnx.ModelProto) -> None:
    """Raise ValueError unless a run's outputs have the shapes that the graph declares.

    ONNX Runtime believes declarations of operators that it does not know, and only complains when a reader binds a
    buffer.
    """
    sizes = {"rows": 2, "logit_rows": 3, "slots": 4, "capacity": 5}
    feeds: dict[str, NDArray[np.generic]] = {
        "input_ids": np.zeros(2, np.int64),
        "sequences": np.array([3, 1], np.int32),
        "positions": np.array([4, 2], np.int32),
        "logit_index": np.array([1, 0, 1], np.int64),
    }
    for value in model.graph.input:
        if value.name not in feeds:
            feeds[value.name] = np.zeros(
                [sizes[axis] if isinstance(axis, str) else axis for axis in _axes(value)], np.float16
            )
    session = open_session(model.SerializeToString(), own_operators=True)
    for value, result in zip(model.graph.output, session.run(None, feeds), strict=True):
        declared = [sizes.get(axis) if isinstance(axis, str) else axis for axis in _axes(value)]
        if declared != list(result.shape):
            raise ValueError(f"{value.name} is {list(result.shape)}; it is declared as {_axes(value)}")


def _axes(value: onnx.ValueInfoProto) -> list[int | str]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
