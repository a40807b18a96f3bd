"""A BERT checkpoint as a packed ONNX graph: no padding, so linear layers never work on it.

Tokens of all texts stand one after the other; only attention sees the padded grid [batch, longest]. The graph ends at
the hidden states: pooling is the reader's, because a sum inside the graph would depend on what else is in the batch.
The inputs are described in docs/architecture.md. Numbers come from the checkpoint, never from here.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import onnx
from onnx import TensorProto

from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.graph import MICROSOFT, GraphBuilder, Tensor

INPUTS: list[Tensor] = [
    ("input_ids", TensorProto.INT64, ("tokens",)),
    ("position_ids", TensorProto.INT64, ("tokens",)),
    ("pad_index", TensorProto.INT64, ("batch", "longest")),
    ("unpad_index", TensorProto.INT64, ("tokens",)),
    ("seqlens_k", TensorProto.INT32, ("batch",)),
    ("total_sequence_length", TensorProto.INT32, ()),
]
OUTPUT = "hidden_states"
# GELU has one minimum, at x = -0.7518: -0.16997. What reads its output may rely on this bound.
GELU_LOWER_BOUND = -0.17


class Weights(Protocol):
    """How weights are written into a graph: the precision of a model is decided here and nowhere else."""

    def linear(
        self, graph: GraphBuilder, layer: str, x: str, weight: np.ndarray, bias: np.ndarray, lower_bound: float | None
    ) -> tuple[str, np.ndarray]:
        """Multiply x [tokens, in] by weight [in, out].

        Returns the product's name and the bias [out] that the caller must still add, which it fuses with what follows.
        `lower_bound`, if given, is a number that no element of x is below.
        """

    def lookup(self, graph: GraphBuilder, layer: str, table: np.ndarray, ids: str) -> str:
        """Return rows [tokens, hidden] of a table [vocabulary, hidden]."""


class Float32Weights:
    """Weights as they are."""

    def linear(
        self, graph: GraphBuilder, layer: str, x: str, weight: np.ndarray, bias: np.ndarray, lower_bound: float | None
    ) -> tuple[str, np.ndarray]:
        return graph.node("MatMul", [x, graph.constant(f"{layer}.weight", weight)], f"{layer}.product"), bias

    def lookup(self, graph: GraphBuilder, layer: str, table: np.ndarray, ids: str) -> str:
        return graph.node("Gather", [graph.constant(f"{layer}.table", table), ids], f"{layer}.rows")


def build(checkpoint: Checkpoint, weights: Weights) -> onnx.ModelProto:
    """Return the packed graph of a checkpoint, its weights written by `weights`."""
    return _Builder(checkpoint, weights).build()


def linear_layers(layer: int) -> dict[str, Sequence[str]]:
    """Return, for each linear layer of the graph's encoder layer, the checkpoint's layers that it merges."""
    prefix = f"encoder.layer.{layer}"
    return {
        f"{prefix}.attention.qkv": [f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")],
        f"{prefix}.attention.output.dense": [f"{prefix}.attention.output.dense"],
        f"{prefix}.intermediate.dense": [f"{prefix}.intermediate.dense"],
        f"{prefix}.output.dense": [f"{prefix}.output.dense"],
    }


class _Builder:
    def __init__(self, checkpoint: Checkpoint, weights: Weights) -> None:
        self._config = checkpoint.config
        self._tensors = checkpoint.tensors
        self._weights = weights
        self._graph = GraphBuilder("encoder")

    def build(self) -> onnx.ModelProto:
        x = self._embeddings()  # [tokens, hidden]
        for layer in range(self._config.layers):
            x = self._layer(layer, x)
        self._graph.node("Identity", [x], OUTPUT)
        return self._graph.model(INPUTS, [(OUTPUT, TensorProto.FLOAT, ("tokens", self._config.hidden_size))])

    def _embeddings(self) -> str:
        # Every token is of segment 0, so its embedding is folded into the positions'.
        segment = self._tensors["embeddings.token_type_embeddings.weight"][0]
        positions = self._constant(
            "embeddings.positions", self._tensors["embeddings.position_embeddings.weight"] + segment
        )
        words = self._tensors["embeddings.word_embeddings.weight"]
        word = self._weights.lookup(self._graph, "embeddings.words", words, "input_ids")
        position = self._graph.node("Gather", [positions, "position_ids"], "embeddings.position")
        return self._sum_and_norm("embeddings", [word, position])

    def _layer(self, layer: int, x: str) -> str:
        prefix = f"encoder.layer.{layer}"
        qkv, attention_output, inner, output = linear_layers(layer).items()
        product, bias = self._product(qkv, x)
        attended = self._attention(f"{prefix}.attention", self._graph.node("Add", [product, bias], f"{prefix}.qkv"))
        product, bias = self._product(attention_output, attended)
        x = self._sum_and_norm(f"{prefix}.attention.output", [product, bias, x])
        product, bias = self._product(inner, x)
        gelu = self._graph.node("BiasGelu", [product, bias], f"{prefix}.gelu", MICROSOFT)
        product, bias = self._product(output, gelu, lower_bound=GELU_LOWER_BOUND)
        return self._sum_and_norm(f"{prefix}.output", [product, bias, x])

    def _attention(self, name: str, qkv: str) -> str:
        padded = self._graph.node("Gather", [qkv, "pad_index"], f"{name}.padded")  # [batch, longest, 3 * hidden]
        attended = self._graph.node(
            "GroupQueryAttention",
            [padded, "", "", "", "", "seqlens_k", "total_sequence_length"],
            f"{name}.attended",  # [batch, longest, hidden]
            MICROSOFT,
            num_heads=self._config.heads,
            kv_num_heads=self._config.heads,
            causal=0,
        )
        rows = self._constant("rows", np.array([-1, self._config.hidden_size], np.int64))
        flat = self._graph.node("Reshape", [attended, rows], f"{name}.flat")  # [batch * longest, hidden]
        return self._graph.node("Gather", [flat, "unpad_index"], f"{name}.unpadded")  # [tokens, hidden]

    def _product(self, merged: tuple[str, Sequence[str]], x: str, lower_bound: float | None = None) -> tuple[str, str]:
        """Return the names of x times a layer's weight and of the bias that is still to be added."""
        layer, parts = merged
        weight = np.concatenate([self._tensors[f"{part}.weight"].T for part in parts], axis=1)  # [in, out]
        bias = np.concatenate([self._tensors[f"{part}.bias"] for part in parts])  # [out]
        product, bias = self._weights.linear(self._graph, layer, x, weight, bias, lower_bound)
        return product, self._constant(f"{layer}.bias", bias)

    def _sum_and_norm(self, name: str, terms: list[str]) -> str:
        # Sum rather than Add: ONNX Runtime merges Add and LayerNormalization into SkipLayerNormalization, whose CPU
        # kernel sums element by element. Keeping them apart makes the whole int8 graph 1.3 times as fast (1.31.1).
        total = self._graph.node("Sum", terms, f"{name}.sum")
        weight, bias = f"{name}.LayerNorm.weight", f"{name}.LayerNorm.bias"
        inputs = [total, self._constant(weight, self._tensors[weight]), self._constant(bias, self._tensors[bias])]
        return self._graph.node(
            "LayerNormalization", inputs, f"{name}.normed", axis=-1, epsilon=self._config.layer_norm_eps
        )

    def _constant(self, name: str, value: np.ndarray) -> str:
        return self._graph.constant(name, value)
