"""What a Llama-architecture decoder is made of, whatever file it came from.

Rotary embeddings are in the half-split order of the published checkpoints (dimension i turns with i + head_dim / 2);
readers of other orders bring query and key rows into it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from triptych_research.blocks import BLOCK, Floats, Matrix
from triptych_research.json_fields import CheckpointError

# What matrices are: Matrix as a source gives them, Floats where they are dequantised.
M_co = TypeVar("M_co", bound=Matrix, covariant=True)
N = TypeVar("N", bound=Matrix)


@dataclass(frozen=True)
class DecoderConfig:
    """The architecture's numbers. Raises CheckpointError, naming the field, for a shape that the graph cannot take."""

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
                raise CheckpointError(f"{name} is {getattr(self, name)}; it must be a multiple of {BLOCK}")
        if self.heads * self.head_dim % BLOCK:
            raise CheckpointError(f"heads * head_dim is {self.heads * self.head_dim}; it must be a multiple of {BLOCK}")
        if self.heads % self.kv_heads:
            raise CheckpointError(f"heads is {self.heads}; it must be a multiple of kv_heads, {self.kv_heads}")
        if self.head_dim % 16:
            raise CheckpointError(f"head_dim is {self.head_dim}; rotary attention takes multiples of 16")

    def graph_weights(self, tied: bool) -> int:
        """How many numbers a graph holds, angles among them; `tied`: the embedding serves both ways."""
        query_rows, kv_rows = self.heads * self.head_dim, self.kv_heads * self.head_dim
        layer = 2 * query_rows + 2 * kv_rows + 3 * self.intermediate_size + 2  # rows and columns of hidden_size
        tables = self.vocabulary_size * (1 if tied else 2)
        angles = self.context_tokens * self.head_dim
        return (tables + self.layers * layer + 1) * self.hidden_size + angles


@dataclass(frozen=True)
class DecoderLayer(Generic[M_co]):
    """One transformer block. Matrices are [outputs, inputs]."""

    attention_norm: Floats  # [hidden]
    query: M_co  # [heads * head_dim, hidden]
    key: M_co  # [kv_heads * head_dim, hidden]
    value: M_co  # [kv_heads * head_dim, hidden]
    output: M_co  # [hidden, heads * head_dim]
    ffn_norm: Floats  # [hidden]
    gate: M_co  # [intermediate, hidden]
    up: M_co  # [intermediate, hidden]
    down: M_co  # [hidden, intermediate]

    def matrices(self) -> tuple[M_co, ...]:
        """All matrices."""
        return self.query, self.key, self.value, self.output, self.gate, self.up, self.down


@dataclass(frozen=True)
class DecoderWeights(Generic[M_co]):
    """A whole decoder."""

    config: DecoderConfig
    embedding: M_co  # [vocabulary, hidden]
    decoder_layers: tuple[DecoderLayer[M_co], ...]
    final_norm: Floats  # [hidden]
    lm_head: M_co | None  # [vocabulary, hidden]; None: the embedding serves both ways

    def map_matrices(self, change: Callable[[M_co], N]) -> "DecoderWeights[N]":
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
