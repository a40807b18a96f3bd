"""Runs an encoder's graph as the hot path does: packs a batch, runs one session, pools each text on its own.

Must not depend on how graphs are made.
"""

import pathlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from triptych_research.sessions import open_session

Batch = Sequence[Sequence[int]]
Inputs = Mapping[str, np.ndarray]


def pack(batch: Batch) -> Inputs:
    """Return a batch of token ids as the packed graph's inputs; docs/architecture.md describes them."""
    lengths = np.array([len(ids) for ids in batch])
    longest = int(lengths.max())
    places = np.arange(longest)  # [longest]
    occupied = places < lengths[:, None]  # [batch, longest]
    starts = np.cumsum(lengths) - lengths  # [batch]: where each text begins among the tokens
    return {
        "input_ids": np.concatenate([np.asarray(ids, np.int64) for ids in batch]),
        "position_ids": np.broadcast_to(places, occupied.shape)[occupied],
        "pad_index": np.where(occupied, starts[:, None] + places, 0),
        "unpad_index": np.flatnonzero(occupied),
        "seqlens_k": (lengths - 1).astype(np.int32),
        "total_sequence_length": np.array(longest, np.int32),
    }


def pad(batch: Batch) -> Inputs:
    """Return the inputs with every text padded to the longest, so that linear layers work on the padding too.

    This is how batches are usually run; it is here to compare with. The hidden states are [batch * longest, hidden].
    """
    longest = max(len(ids) for ids in batch)
    grid = np.arange(len(batch) * longest).reshape(len(batch), longest)  # [batch, longest]
    padded = [[*ids, *[0] * (longest - len(ids))] for ids in batch]
    return {
        "input_ids": np.array(padded, np.int64).ravel(),
        "position_ids": grid.ravel() % longest,
        "pad_index": grid,
        "unpad_index": grid.ravel(),
        "seqlens_k": np.array([len(ids) - 1 for ids in batch], np.int32),
        "total_sequence_length": np.array(longest, np.int32),
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

    def __init__(self, graph: pathlib.Path | bytes, normalize: bool, threads: int = 1) -> None:
        """Load a graph. `threads` is the number that one run may use."""
        self._session = open_session(graph, threads)
        self._normalize = normalize

    def embed(self, batch: Batch) -> np.ndarray:
        """Return the texts' vectors [batch, hidden]. A text's vector is bitwise the same in any batch."""
        hidden_states = self.run(pack(batch))  # [tokens, hidden]
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
        vector: np.ndarray = states.mean(axis=0)  # [hidden]
        if self._normalize:
            vector /= np.linalg.norm(vector)
        return vector
