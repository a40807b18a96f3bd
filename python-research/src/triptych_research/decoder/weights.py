"""What a Llama-architecture decoder is made of, whatever file it came from.

Rotary embeddings are in the half-split order of the published checkpoints (dimension i turns with i + head_dim / 2);
readers of other orders bring query and key rows into it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from triptych_research.decoder.blocks import BLOCK, Floats, Matrix


@dataclass(frozen=True)
class DecoderConfig:
    """The architecture's numbers. Raises ValueError, naming the field, for a shape that the graph cannot take."""

    vocabulary_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context_tokens: int  # most positions that the model was trained for
    rope_base: float
    rms_epsilon: float

    def __post_init__(self) -> None:
        for name in ("hidden_size", "intermediate_size"):
            if getattr(self, name) % BLOCK:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be a multiple of {BLOCK}")
        if self.heads * self.head_dim % BLOCK:
            raise ValueError(f"heads * head_dim is {self.heads * self.head_dim}; it must be a multiple of {BLOCK}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads is {self.heads}; it must be a multiple of kv_heads, {self.kv_heads}")
        if self.head_dim % 16:
            raise ValueError(f"head_dim is {self.head_dim}; rotary attention takes multiples of 16")


@dataclass(frozen=True)
class DecoderLayer:
    """One transformer block. Matrices are [outputs, inputs]."""

    attention_norm: Floats  # [hidden]
    query: Matrix  # [heads * head_dim, hidden]
    key: Matrix  # [kv_heads * head_dim, hidden]
    value: Matrix  # [kv_heads * head_dim, hidden]
    output: Matrix  # [hidden, heads * head_dim]
    ffn_norm: Floats  # [hidden]
    gate: Matrix  # [intermediate, hidden]
    up: Matrix  # [intermediate, hidden]
    down: Matrix  # [hidden, intermediate]


@dataclass(frozen=True)
class DecoderWeights:
    """A whole decoder."""

    config: DecoderConfig
    embedding: Matrix  # [vocabulary, hidden]
    decoder_layers: tuple[DecoderLayer, ...]
    final_norm: Floats  # [hidden]
    lm_head: Matrix | None  # [vocabulary, hidden]; None: the embedding serves both ways

    def map_matrices(self, change: Callable[[Matrix], Matrix]) -> "DecoderWeights":
        """The same decoder with every matrix replaced."""
        layers = tuple(
            DecoderLayer(
                attention_norm=layer.attention_norm,
                query=change(layer.query),
                key=change(layer.key),
                value=change(layer.value),
                output=change(layer.output),
                ffn_norm=layer.ffn_norm,
                gate=change(layer.gate),
                up=change(layer.up),
                down=change(layer.down),
            )
            for layer in self.decoder_layers
        )
        head = None if self.lm_head is None else change(self.lm_head)
        return DecoderWeights(self.config, change(self.embedding), layers, self.final_norm, head)


def rotary_tables(config: DecoderConfig) -> tuple[Floats, Floats]:
    """Cosine and sine of each position's angles, each [context_tokens, head_dim / 2].

    Angle i of position p is p / base^(2i / head_dim) (Su et al., RoFormer, 2021), in float64 until the last step.
    """
    frequencies = config.rope_base ** (-np.arange(0, config.head_dim, 2) / config.head_dim)  # [head_dim / 2]
    angles = np.outer(np.arange(config.context_tokens), frequencies)  # [context_tokens, head_dim / 2]
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
