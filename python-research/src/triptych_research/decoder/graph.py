"""Builds a decoder's ONNX graph from its weights.

A run is ragged: its rows are tokens of any sequences at any positions, a prompt's next part beside single tokens of
texts that are being written. Each row is computed by itself, but for attention, which reads its sequence in the cache.
The caller names the rows whose logits it wants: none in the middle of a prompt, the last one at its end, all of them
where the prompt itself is scored. docs/architecture.md lists inputs and outputs.

Every number comes from our own operators (kernels.py), five of them a layer; what else is there only moves numbers.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import TensorProto

from triptych_research import kernels
from triptych_research.blocks import BLOCK, Floats, Matrix, in_blocks
from triptych_research.decoder.weights import DecoderConfig, DecoderLayer, DecoderWeights
from triptych_research.graph import GraphBuilder, Tensor
from triptych_research.packing import gate_and_up, pack, padded


def build(weights: DecoderWeights[Matrix]) -> onnx.ModelProto:
    """Return the checked model. Raises CheckpointError for weights that have no such form."""
    return _DecoderGraph(weights).model()


def past_name(side: str, layer: int) -> str:
    """Return the name of a cache input; `side` is "key" or "value"."""
    return f"past_{side}.{layer}"


def present_name(side: str, layer: int) -> str:
    """Return the name of a cache output; `side` is "key" or "value"."""
    return f"present_{side}.{layer}"


def rotary_tables(config: DecoderConfig) -> tuple[Floats, Floats]:
    """Return cosine and sine of each position's angles, each [context_tokens, head_dim / 2].

    Angle i of position p is p / base^(2i / head_dim) (Su et al., RoFormer, 2021), in float64 until the last step.
    """
    frequencies = config.rope_base ** (-np.arange(0, config.head_dim, 2) / config.head_dim)  # [head_dim / 2]
    angles = np.outer(np.arange(config.context_tokens), frequencies)  # [context_tokens, head_dim / 2]
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


class _DecoderGraph:
    """Writes one decoder. Methods take names of values, [rows, n], and return such."""

    def __init__(self, weights: DecoderWeights[Matrix]) -> None:
        self.weights, self.config = weights, weights.config
        self.graph = GraphBuilder("decoder")

    def model(self) -> onnx.ModelProto:
        cosines, sines = rotary_tables(self.config)
        self.graph.constant("cosines", cosines)
        self.graph.constant("sines", sines)
        # The residual stream, and what the last product gave, which the next operator adds to it.
        stream, addend = self.embed(), ""
        for index, layer in enumerate(self.weights.decoder_layers):
            stream, addend = self.layer(index, layer, stream, addend)
        self.lm_head(stream, addend)
        inputs: list[Tensor] = [
            ("input_ids", TensorProto.INT64, ("rows",)),
            ("sequences", TensorProto.INT32, ("rows",)),
            ("positions", TensorProto.INT32, ("rows",)),
            ("logit_index", TensorProto.INT64, ("logit_rows",)),
        ]
        logits: Tensor = ("logits", TensorProto.FLOAT, ("logit_rows", self.config.vocabulary_size))
        return self.graph.model(inputs + self.caches(past_name), [logits, *self.caches(present_name)])

    def caches(self, name: Callable[[str, int], str]) -> list[Tensor]:
        """Return the cache tensors, keys before values, layer by layer."""
        shape = ("slots", self.config.kv_heads, "capacity", self.config.head_dim)
        pairs = [(side, layer) for layer in range(self.config.layers) for side in ("key", "value")]
        return [(name(side, layer), TensorProto.FLOAT16, shape) for side, layer in pairs]

    def embed(self) -> str:
        """Token ids [rows] to [rows, hidden]."""
        table, sizes = self.matrix("embedding", self.weights.embedding)
        rows = self.config.vocabulary_size
        return self.graph.node("GatherQ", ["input_ids", table], "embedded", kernels.DOMAIN, **sizes, rows=rows)

    def layer(self, index: int, layer: DecoderLayer[Matrix], stream: str, addend: str) -> tuple[str, str]:
        """One block."""
        name = f"layer.{index}"
        # Query, key and value are one multiplication, as are gate and up: fewer, larger ones are faster.
        weight = self.matrix(f"{name}.qkv.weight", layer.query, layer.key, layer.value)
        rows, stream = self.norm_product(f"{name}.qkv", stream, addend, layer.attention_norm, weight)
        output = self.product(f"{name}.output", self.attention(index, rows), layer.output)
        both = in_blocks([layer.gate, layer.up]).rows(gate_and_up(self.config.intermediate_size))
        weight = self.matrix(f"{name}.gate_up.weight", both)
        gated, stream = self.norm_product(f"{name}.gate_up", stream, output, layer.ffn_norm, weight, gated=1)
        return stream, self.product(f"{name}.down", gated, layer.down)

    def attention(self, index: int, rows: str) -> str:
        """Grouped-query attention with rotary embeddings, before its last projection; writes the layer's cache."""
        attended = f"layer.{index}.attended"
        self.graph.nodes(
            "CachedAttention",
            [rows, past_name("key", index), past_name("value", index), "sequences", "positions", "cosines", "sines"],
            [attended, present_name("key", index), present_name("value", index)],
            kernels.DOMAIN,
            heads=self.config.heads,
            kv_heads=self.config.kv_heads,
            head_dim=self.config.head_dim,
        )
        return attended

    def lm_head(self, stream: str, addend: str) -> None:
        """Logits of the rows that the caller names."""
        stream, addend = (
            self.graph.node("Gather", [value, "logit_index"], f"named.{value}", axis=0) for value in (stream, addend)
        )
        if self.weights.lm_head is None:
            table = self.matrix("embedding", self.weights.embedding)  # the same constant: a small model's largest
        else:
            table = self.matrix("lm_head", self.weights.lm_head)
        vocabulary = self.config.vocabulary_size
        whole = "logits" if padded(vocabulary) == vocabulary else "padded_logits"
        self.norm_product(whole, stream, addend, self.weights.final_norm, table)
        if whole != "logits":
            bounds = {"first": 0, "end": vocabulary, "axis": 1}
            names = [self.graph.constant(f"logits.{bound}", np.array([at])) for bound, at in bounds.items()]
            self.graph.node("Slice", [whole, *names], "logits")

    def product(self, name: str, x: str, matrix: Matrix) -> str:
        """[rows, inputs] to [rows, outputs]."""
        weight, sizes = self.matrix(f"{name}.weight", matrix)
        return self.graph.node("MatMulQ", [x, weight], name, kernels.DOMAIN, **sizes)

    def norm_product(
        self, name: str, stream: str, addend: str, norm: Floats, weight: tuple[str, Mapping[str, int]], gated: int = 0
    ) -> tuple[str, str]:
        """Multiply the normalised sum of stream and addend, if there is one; return the result, and the sum."""
        matrix, sizes = weight
        total = f"{name}.stream" if addend else ""
        self.graph.nodes(
            "NormMatMulQ",
            [stream, addend, self.graph.constant(f"{name}.norm", norm), matrix],
            [name, total],
            kernels.DOMAIN,
            **sizes,
            epsilon=self.config.rms_epsilon,
            gated=gated,
        )
        return name, total or stream

    def matrix(self, name: str, *matrices: Matrix) -> tuple[str, Mapping[str, int]]:
        """A constant of weights, and their sizes as an operator's attributes."""
        matrix = in_blocks(matrices)
        outputs, blocks, _ = matrix.codes.shape
        sizes = {"bits": matrix.bits, "K": blocks * BLOCK, "N": padded(outputs)}
        return self.graph.constant(name, pack(matrix, name)), sizes
