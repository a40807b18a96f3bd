"""The graph in this process, driven by the shortest loop that we know: what one stream is compared with.

Nothing is bound, allocated or copied in a step: past and present are the same memory, ids and lengths are written in
place, and the next token is the likeliest one.
"""

import pathlib
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from triptych_research.decoder.graph import past_name, present_name
from triptych_research.decoder.session import CPU, DecoderSession


class BareLoop:
    """One slot of cache, and a binding to it for one token at a time."""

    def __init__(self, graph: pathlib.Path, capacity: int, threads: int, spin_us: int) -> None:
        """Load a graph with room for `capacity` tokens."""
        self._decoder = DecoderSession(graph, slots=1, capacity=capacity, threads=threads, spin_us=spin_us)
        self._token = np.zeros(1, np.int64)  # [rows]
        self._sequence, self._position = np.zeros((2, 1), np.int32)  # [rows] each
        self._logits = np.zeros((1, self._decoder.vocabulary_size), np.float32)  # [logit_rows, vocabulary]
        self._logit_index = np.zeros(1, np.int64)  # [logit_rows]
        self._binding = self._decoder.session.io_binding()
        self._bind("input_ids", self._token)
        self._bind("sequences", self._sequence)
        self._bind("positions", self._position)
        self._bind("logit_index", self._logit_index)
        self._bind_output("logits", self._logits)
        for (side, layer), slab in self._decoder.slabs.items():
            slab.fill(0)  # memory that was never written to is not there yet, and reading it is too fast
            self._bind(past_name(side, layer), slab)
            self._bind_output(present_name(side, layer), slab)

    def tokens_per_s(self, prompt: Sequence[int], tokens: int) -> float:
        """Continue a prompt by so many tokens; return the speed from the first to the last, as with a stream."""
        token = int(self._decoder.prefill([prompt])[0].argmax())
        start = time.monotonic()
        for position in range(len(prompt), len(prompt) + tokens - 1):
            self._token[0], self._position[0] = token, position
            self._decoder.session.run_with_iobinding(self._binding)
            token = int(self._logits[0].argmax())
        return (tokens - 1) / (time.monotonic() - start)

    def _bind(self, name: str, array: NDArray[np.generic]) -> None:
        self._binding.bind_input(name, CPU, 0, array.dtype, array.shape, array.ctypes.data)

    def _bind_output(self, name: str, array: NDArray[np.generic]) -> None:
        self._binding.bind_output(name, CPU, 0, array.dtype, array.shape, array.ctypes.data)
