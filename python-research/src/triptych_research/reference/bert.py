"""BERT as a sentence encoder, in NumPy: the place to learn what the model computes.

One text at a time, so there is no batch axis and no padding. It computes in float64: its own rounding error is then far
below what it judges, and its results are the same on every machine once they are stored as float32.

Source: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding" (2019), and
Reimers and Gurevych, "Sentence-BERT" (2019) for the pooling.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from triptych_research.embedding.checkpoint import Checkpoint

Array = NDArray[np.float64]


class SentenceEncoder:
    """Token ids in, one vector out."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._config = checkpoint.config
        self._normalize = checkpoint.normalize
        self._tensors = {name: tensor.astype(np.float64) for name, tensor in checkpoint.tensors.items()}

    def embed(self, token_ids: Sequence[int]) -> Array:
        """Return a text's vector [hidden]: the mean of its tokens' hidden states, of length 1 if the model says so."""
        vector: Array = self.hidden_states(token_ids).mean(axis=0)  # [hidden]
        if self._normalize:
            vector /= np.linalg.norm(vector)
        return vector

    def hidden_states(self, token_ids: Sequence[int]) -> Array:
        """Return the last layer's hidden states [tokens, hidden]."""
        x = self._embeddings(np.asarray(token_ids))  # [tokens, hidden]
        for layer in range(self._config.layers):
            x = self._layer(f"encoder.layer.{layer}", x)
        return x

    def _embeddings(self, ids: Array) -> Array:
        words = self._tensors["embeddings.word_embeddings.weight"][ids]  # [tokens, hidden]
        positions = self._tensors["embeddings.position_embeddings.weight"][: len(ids)]  # [tokens, hidden]
        segment = self._tensors["embeddings.token_type_embeddings.weight"][0]  # [hidden]: one text is segment 0
        return self._layer_norm("embeddings.LayerNorm", words + positions + segment)

    def _layer(self, name: str, x: Array) -> Array:
        # Post-norm: each half adds to its input and normalises the sum.
        attended = self._linear(f"{name}.attention.output.dense", self._attention(f"{name}.attention.self", x))
        x = self._layer_norm(f"{name}.attention.output.LayerNorm", x + attended)
        inner = _gelu(self._linear(f"{name}.intermediate.dense", x))  # [tokens, intermediate]
        return self._layer_norm(f"{name}.output.LayerNorm", x + self._linear(f"{name}.output.dense", inner))

    def _attention(self, name: str, x: Array) -> Array:
        tokens, hidden = x.shape
        size = hidden // self._config.heads

        def split(projection: str) -> Array:
            projected = self._linear(f"{name}.{projection}", x)  # [tokens, hidden]
            return projected.reshape(tokens, self._config.heads, size).transpose(1, 0, 2)  # [heads, tokens, size]

        query, key, value = split("query"), split("key"), split("value")
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(size)  # [heads, tokens, tokens]
        mixed = _softmax(scores) @ value  # [heads, tokens, size]
        return mixed.transpose(1, 0, 2).reshape(tokens, hidden)

    def _linear(self, name: str, x: Array) -> Array:
        return x @ self._tensors[f"{name}.weight"].T + self._tensors[f"{name}.bias"]  # [tokens, out]

    def _layer_norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + self._config.layer_norm_eps)  # [tokens, 1]
        normed: Array = centred / deviation  # [tokens, hidden]
        return normed * self._tensors[f"{name}.weight"] + self._tensors[f"{name}.bias"]


def _gelu(x: Array) -> Array:
    scaled = (x / math.sqrt(2)).ravel()
    erf = np.fromiter(map(math.erf, scaled.tolist()), np.float64, scaled.size)  # NumPy has none
    return 0.5 * x * (1 + erf.reshape(x.shape))


def _softmax(scores: Array) -> Array:
    exponentials = np.exp(scores - scores.max(axis=-1, keepdims=True))
    shares: Array = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return shares
