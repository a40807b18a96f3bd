"""Runs an encoder's graph as the hot path does: packs a batch, runs one session, pools each text on its own.

Must not depend on how graphs are made.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from triptych_research.sessions import open_session

LEAST_NORM = np.float32(1e-12)  # a vector of zeros stays one
Batch = Sequence[Sequence[int]]
Inputs = Mapping[str, np.ndarray]


def pack(batch: Batch) -> Inputs:
    """Return a batch of token ids as the graph's inputs: all tokens, and the position of each in its text."""
    return {
        "input_ids": np.concatenate([np.asarray(ids, np.int64) for ids in batch]),
        "position_ids": np.concatenate([np.arange(len(ids), dtype=np.int64) for ids in batch]),
    }


def batches(texts: Batch, tokens: int) -> Iterator[Batch]:
    """Split texts into batches of at most `tokens` tokens, in order; a longer text goes alone."""
    batch: list[Sequence[int]] = []
    for ids in texts:
        if batch and sum(map(len, batch)) + len(ids) > tokens:
            yield batch
            batch = []
        batch.append(ids)
    if batch:
        yield batch


class Encoder:
    """One session over one graph."""

    pack = staticmethod(pack)

    def __init__(self, graph: pathlib.Path | bytes, normalize: bool, threads: int = 1) -> None:
        """Load a graph. `threads` is the number that one run may use. Raises KernelsError."""
        self._session = open_session(graph, threads, own_operators=True)
        self._normalize = normalize

    def embed(self, batch: Batch) -> np.ndarray:
        """Return the texts' vectors [batch, hidden]. A text's vector is bitwise the same in any batch."""
        hidden_states = self.run(self.pack(batch))  # [tokens, hidden]
        ends = np.cumsum([len(ids) for ids in batch])
        # One text after the other, never a matrix product over the batch: its order of summation depends on its size.
        return np.stack([self._pool(states) for states in np.split(hidden_states, ends[:-1])])

    def run(self, inputs: Inputs) -> np.ndarray:
        """Return the hidden states [tokens, hidden] of packed inputs."""
        hidden_states: np.ndarray
        (hidden_states,) = self._session.run(None, dict(inputs))
        return hidden_states

    def embed_all(self, texts: Batch, tokens_per_batch: int = 512) -> np.ndarray:
        """Return the vectors [texts, hidden] of any number of texts, in batches bounded by tokens."""
        return np.concatenate([self.embed(batch) for batch in batches(texts, tokens_per_batch)])

    def _pool(self, states: np.ndarray) -> np.ndarray:
        """Mean, and length 1, as the hot path computes them: in one fixed order, so that the bits are the same."""
        vector: np.ndarray = states.sum(axis=0) / np.float32(len(states))  # [hidden]
        if self._normalize:
            squares = np.cumsum(vector * vector, dtype=np.float32)
            vector /= np.maximum(np.sqrt(squares[-1]), LEAST_NORM)
        return vector
