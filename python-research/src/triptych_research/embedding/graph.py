"""A BERT checkpoint as a packed ONNX graph of our own operators, in blocks of 8 bits: five nodes a layer.

Tokens of all texts stand one after the other, without padding; where positions begin at 0 again, so does a text. What a
token gives depends on its own text alone, to the last bit, on every processor (kernels.py). The graph ends at the
hidden states: pooling is the reader's, because a sum inside the graph would depend on what else is in the batch.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

from triptych_research import kernels
from triptych_research.blocks import BLOCK, Floats, in_blocks
from triptych_research.embedding.checkpoint import Checkpoint, EncoderConfig
from triptych_research.graph import GraphBuilder, Tensor
from triptych_research.packing import pack, padded

INPUTS: list[Tensor] = [
    ("input_ids", TensorProto.INT64, ("tokens",)),
    ("position_ids", TensorProto.INT64, ("tokens",)),
]
OUTPUT = "hidden_states"
_LANES = 8  # numbers of a head are a multiple of it


def build(checkpoint: Checkpoint) -> onnx.ModelProto:
    """Return the packed graph of a checkpoint. Raises CheckpointError where float16 does not hold a block's scale."""
    return _Builder(checkpoint).build()


class _Sizes:
    """Sizes that the operators take. What a model has less of is filled up with zeros, which change no result."""

    def __init__(self, config: EncoderConfig) -> None:
        size = config.hidden_size // config.heads
        self.hidden = _up_to(config.hidden_size, BLOCK)
        self.inner = _up_to(config.intermediate_size, BLOCK)
        self.head = next(
            each
            for each in range(_up_to(size, _LANES), size + BLOCK + _LANES, _LANES)
            if each * config.heads % BLOCK == 0
        )


class _Builder:
    def __init__(self, checkpoint: Checkpoint) -> None:
        self._config = checkpoint.config
        self._tensors = checkpoint.tensors
        self._sizes = _Sizes(checkpoint.config)
        self._graph = GraphBuilder("encoder")

    def build(self) -> onnx.ModelProto:
        x, addend = self._embeddings()  # what each layer norm takes: two terms of a sum
        norm = "embeddings.LayerNorm"
        for layer in range(self._config.layers):
            prefix = f"encoder.layer.{layer}"
            qkv, x = self._norm_product(f"{prefix}.attention.qkv", x, addend, norm, *self._query_key_value(prefix))
            attended = self._attention(f"{prefix}.attended", qkv)
            addend = self._product(f"{prefix}.attention.output.dense", attended, *self._attention_output(prefix))
            norm = f"{prefix}.attention.output.LayerNorm"
            inner = self._linear(f"{prefix}.intermediate.dense", self._sizes.inner, self._sizes.hidden)
            gelu, x = self._norm_product(f"{prefix}.intermediate.dense", x, addend, norm, *inner, gelu=1)
            output = self._linear(f"{prefix}.output.dense", self._sizes.hidden, self._sizes.inner)
            addend = self._product(f"{prefix}.output.dense", gelu, *output)
            norm = f"{prefix}.output.LayerNorm"
        self._last_norm(x, addend, norm)
        return self._graph.model(INPUTS, [(OUTPUT, TensorProto.FLOAT, ("tokens", self._config.hidden_size))])

    def _embeddings(self) -> tuple[str, str]:
        words = _filled(self._tensors["embeddings.word_embeddings.weight"], columns=self._sizes.hidden)
        table, sizes = self._matrix("embeddings.words", words)
        rows = len(words)
        word = self._graph.node("GatherQ", ["input_ids", table], "embeddings.word", kernels.DOMAIN, **sizes, rows=rows)
        # Every token is of segment 0, so its embedding is folded into the positions'.
        segment = self._tensors["embeddings.token_type_embeddings.weight"][0]
        positions = self._tensors["embeddings.position_embeddings.weight"] + segment
        table = self._graph.constant("embeddings.positions", _filled(positions, columns=self._sizes.hidden))
        return word, self._graph.node("Gather", [table, "position_ids"], "embeddings.position")

    def _query_key_value(self, prefix: str) -> tuple[Floats, Floats]:
        """Weight and bias of all three. Queries are scaled here, so that attention need not."""
        scale = np.float32(1 / np.sqrt(self._config.hidden_size // self._config.heads))
        weights, biases = [], []
        for part, factor in (("query", scale), ("key", np.float32(1)), ("value", np.float32(1))):
            name = f"{prefix}.attention.self.{part}"
            weight = self._of_heads(self._tensors[f"{name}.weight"] * factor)
            weights.append(_filled(weight, columns=self._sizes.hidden))
            biases.append(self._of_heads(self._tensors[f"{name}.bias"] * factor))
        return np.concatenate(weights), np.concatenate(biases)

    def _attention_output(self, prefix: str) -> tuple[Floats, Floats]:
        name = f"{prefix}.attention.output.dense"
        weight = self._of_heads(self._tensors[f"{name}.weight"].T).T  # its inputs are the heads' numbers
        bias = self._tensors[f"{name}.bias"]
        return _filled(weight, rows=self._sizes.hidden), _filled(bias, rows=self._sizes.hidden)

    def _of_heads(self, rows: Floats) -> Floats:
        """Fill each head's rows up with zeros."""
        heads = rows.reshape(self._config.heads, -1, *rows.shape[1:])
        missing = self._sizes.head - heads.shape[1]
        filled = np.pad(heads, [(0, 0), (0, missing), *[(0, 0)] * (rows.ndim - 1)])
        return filled.reshape(-1, *rows.shape[1:])

    def _linear(self, name: str, outputs: int, inputs: int) -> tuple[Floats, Floats]:
        weight = _filled(self._tensors[f"{name}.weight"], rows=outputs, columns=inputs)
        return weight, _filled(self._tensors[f"{name}.bias"], rows=outputs)

    def _attention(self, name: str, qkv: str) -> str:
        inputs = [qkv, "position_ids"]
        heads, size = self._config.heads, self._sizes.head
        return self._graph.node("PackedAttention", inputs, name, kernels.DOMAIN, heads=heads, head_dim=size)

    def _product(self, name: str, x: str, weight: Floats, bias: Floats) -> str:
        matrix, sizes = self._matrix(f"{name}.weight", weight)
        inputs = [x, matrix, self._graph.constant(f"{name}.bias", bias)]
        return self._graph.node("MatMulQ", inputs, f"{name}.product", kernels.DOMAIN, **sizes)

    def _norm_product(
        self, name: str, x: str, addend: str, norm: str, weight: Floats, bias: Floats, gelu: int = 0
    ) -> tuple[str, str]:
        """Multiply the layer norm of x and addend; return the product, and that norm."""
        matrix, sizes = self._matrix(f"{name}.weight", weight)
        inputs = [x, addend, *self._norm(norm), matrix, self._graph.constant(f"{name}.bias", bias)]
        outputs = [f"{name}.product", f"{norm}.normed"]
        self._graph.nodes(
            "LayerNormMatMulQ", inputs, outputs, kernels.DOMAIN, **sizes, gelu=gelu, **self._norm_attributes()
        )
        return outputs[0], outputs[1]

    def _last_norm(self, x: str, addend: str, norm: str) -> None:
        hidden = self._config.hidden_size
        whole = OUTPUT if self._sizes.hidden == hidden else f"{OUTPUT}.filled"
        inputs = [x, addend, *self._norm(norm)]
        self._graph.node("AddLayerNorm", inputs, whole, kernels.DOMAIN, **self._norm_attributes())
        if whole != OUTPUT:
            bounds = {"first": 0, "end": hidden, "axis": 1}
            names = [self._graph.constant(f"{OUTPUT}.{bound}", np.array([at])) for bound, at in bounds.items()]
            self._graph.node("Slice", [whole, *names], OUTPUT)

    def _norm(self, name: str) -> list[str]:
        sides = (f"{name}.weight", f"{name}.bias")
        return [self._graph.constant(side, _filled(self._tensors[side], rows=self._sizes.hidden)) for side in sides]

    def _norm_attributes(self) -> Mapping[str, float]:
        return {"epsilon": self._config.layer_norm_eps, "channels": self._config.hidden_size}

    def _matrix(self, name: str, weight: Floats) -> tuple[str, Mapping[str, int]]:
        """A constant of weights [outputs, inputs], and their sizes as an operator's attributes."""
        outputs, inputs = weight.shape
        sizes = {"bits": 8, "K": inputs, "N": padded(outputs)}
        return self._graph.constant(name, pack(in_blocks([weight]), name)), sizes


def _up_to(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _filled(values: Floats, rows: int | None = None, columns: int | None = None) -> Floats:
    """Return values [rows] or [rows, columns] with zeros behind them, up to these sizes."""
    sizes = [rows or len(values), *[columns or each for each in values.shape[1:]]]
    return np.pad(values, [(0, size - has) for size, has in zip(sizes, values.shape, strict=True)])
