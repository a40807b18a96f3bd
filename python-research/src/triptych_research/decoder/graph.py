"""Builds a decoder's ONNX graph from its weights.

One graph serves every use, because the caller names the rows whose logits it wants, counted through the flattened
[batch * tokens]: none in the middle of a prompt, the last one at its end, all of them where the prompt itself is
scored, and one for each sequence in a decoding step. Linear layers run on rows; only attention sees batch and tokens
apart. docs/architecture.md lists inputs and outputs.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum

import numpy as np
import onnx
from onnx import TensorProto

from triptych_research.decoder.blocks import BLOCK, BlockMatrix, Floats, Matrix, dense, stack, to_int8
from triptych_research.decoder.weights import DecoderConfig, DecoderLayer, DecoderWeights
from triptych_research.graph import MICROSOFT, GraphBuilder, Tensor
from triptych_research.integer_rows import SYMMETRIC, fine_product, product, quantize_columns, quantize_rows

OPSET = 23  # the first with RMSNormalization
# MatMulNBits' accuracy_level. 4 rounds activations to 8 bits, in blocks like the weights; 1 keeps them in float32,
# which is slow, and shows what rounding them costs. Graphs without blocks have none.
INT8_ACTIVATIONS, FLOAT32_ACTIVATIONS = 4, 1


class WeightForm(StrEnum):
    """Numeric form of the linear layers."""

    FP32 = "fp32"  # dequantised; to judge the others by
    INT8 = "int8"  # 8 bits with a scale for each output, and activations with one for each row
    INT8_BLOCK = "int8_block"  # 8 bits in blocks of 32, rounded anew from the source's values


def build(weights: DecoderWeights[Matrix], form: WeightForm, activations: int = INT8_ACTIVATIONS) -> onnx.ModelProto:
    """Return the checked model."""
    return _DecoderGraph(weights, form, activations).model()


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
    """Writes one decoder. Methods take names of values, [rows, n] unless they say otherwise, and return such."""

    def __init__(self, weights: DecoderWeights[Matrix], form: WeightForm, activations: int) -> None:
        self.weights, self.config, self.form, self.activations = weights, weights.config, form, activations
        self.graph = GraphBuilder("decoder", OPSET)
        self.zero_points: str | None = None  # of quantised rows: every linear layer has as many

    def model(self) -> onnx.ModelProto:
        cosines, sines = rotary_tables(self.config)
        self.graph.constant("cosines", cosines)
        self.graph.constant("sines", sines)
        # Attention takes its rows as [batch, tokens, n].
        self.graph.node("Shape", ["input_ids"], "batch_tokens")
        self.graph.node("Concat", ["batch_tokens", self.axes("rest", -1)], "attention.shape", axis=0)
        stream = self.flat(self.embed(), "stream")
        first_norm = self.graph.constant("layer.0.norm", self.weights.decoder_layers[0].attention_norm)
        epsilon = self.config.rms_epsilon
        states = self.graph.node("RMSNormalization", [stream, first_norm], "layer.0.states", axis=-1, epsilon=epsilon)
        for index, layer in enumerate(self.weights.decoder_layers):
            states, stream = self.layer(index, layer, states, stream)
        self.lm_head(states)
        inputs: list[Tensor] = [
            ("input_ids", TensorProto.INT64, ("batch", "tokens")),
            ("seqlens_k", TensorProto.INT32, ("batch",)),
            ("total_sequence_length", TensorProto.INT32, ()),
            ("logit_index", TensorProto.INT64, ("logit_rows",)),
        ]
        logits: Tensor = ("logits", TensorProto.FLOAT, ("logit_rows", self.config.vocabulary_size))
        return self.graph.model(inputs + self.caches(past_name), [logits, *self.caches(present_name)])

    def caches(self, name: Callable[[str, int], str]) -> list[Tensor]:
        """Return the cache tensors, keys before values, layer by layer."""
        shape = ("batch", self.config.kv_heads, "capacity", self.config.head_dim)
        pairs = [(side, layer) for layer in range(self.config.layers) for side in ("key", "value")]
        return [(name(side, layer), TensorProto.FLOAT, shape) for side, layer in pairs]

    def embed(self) -> str:
        """Token ids to [batch, tokens, hidden]."""
        if self.form == WeightForm.FP32:
            table = self.graph.constant("embedding", dense(self.weights.embedding))  # [vocabulary, hidden]
            return self.graph.node("Gather", [table, "input_ids"], "embedded", axis=0)
        codes, scales = self.block_weights("embedding", to_int8(self.weights.embedding))
        # The gather wants [vocabulary, hidden] where MatMulNBits wants blocks. This reshape costs nothing, and with it
        # the largest matrix of a small model is in the file and in memory once.
        shape = self.axes("embedding.shape", self.config.vocabulary_size, self.config.hidden_size)
        table = self.graph.node("Reshape", [codes, shape], "embedding.table")
        attributes = {"bits": 8, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        return self.graph.node(
            "GatherBlockQuantized", [table, "input_ids", scales], "embedded", MICROSOFT, **attributes
        )

    def layer(self, index: int, layer: DecoderLayer[Matrix], states: str, stream: str) -> tuple[str, str]:
        """One block: normalised states and residual stream in, those of the next block out."""
        name = f"layer.{index}"
        attended = self.attention(index, layer, states)
        output = self.linear(attended, [layer.output], f"{name}.output")
        states, stream = self.add_and_norm(stream, output, layer.ffn_norm, f"{name}.ffn")
        # Of all that linear layers read, these have by far the largest outliers.
        down = self.linear(self.gated(states, layer, name), [layer.down], f"{name}.down", outliers=True)
        last = index + 1 == self.config.layers
        norm = self.weights.final_norm if last else self.weights.decoder_layers[index + 1].attention_norm
        return self.add_and_norm(stream, down, norm, f"layer.{index + 1}")

    def attention(self, index: int, layer: DecoderLayer[Matrix], states: str) -> str:
        """Grouped-query attention with rotary embeddings, before its last projection; writes the layer's cache."""
        name = f"layer.{index}"
        # Query, key and value are one multiplication, as are gate and up: fewer, larger ones are faster.
        qkv = self.linear(states, [layer.query, layer.key, layer.value], f"{name}.qkv")
        packed = self.graph.node("Reshape", [qkv, "attention.shape"], f"{name}.packed")
        past = [past_name("key", index), past_name("value", index)]
        self.graph.nodes(
            "GroupQueryAttention",
            [packed, "", "", *past, "seqlens_k", "total_sequence_length", "cosines", "sines"],
            [f"{name}.attended", present_name("key", index), present_name("value", index)],
            MICROSOFT,
            num_heads=self.config.heads,
            kv_num_heads=self.config.kv_heads,
            do_rotary=1,
        )
        return self.flat(f"{name}.attended", f"{name}.values")

    def gated(self, states: str, layer: DecoderLayer[Matrix], name: str) -> str:
        """SwiGLU, before its last projection."""
        both = self.linear(states, [layer.gate, layer.up], f"{name}.gate_up")
        gate, up = f"{name}.gate", f"{name}.up"
        self.graph.nodes("Split", [both], [gate, up], axis=-1, num_outputs=2)
        silu = self.graph.node("Mul", [gate, self.graph.node("Sigmoid", [gate], f"{name}.sigmoid")], f"{name}.silu")
        return self.graph.node("Mul", [silu, up], f"{name}.gated")

    def lm_head(self, states: str) -> None:
        """Logits of the rows that the caller names."""
        rows = self.graph.node("Gather", [states, "logit_index"], "named_states", axis=0)  # [logit_rows, hidden]
        name, table = "lm_head", self.weights.lm_head
        if table is None:
            name, table = "embedding", self.weights.embedding
        if self.form == WeightForm.FP32:
            self.graph.node("Gemm", [rows, self.graph.constant(name, dense(table))], "logits", transB=1)
        else:
            self.matmul_nbits(rows, to_int8(table), name, "logits")

    def linear(self, x: str, matrices: Sequence[Matrix], name: str, outliers: bool = False) -> str:
        """[rows, inputs] to [rows, sum of outputs], in the graph's weight form."""
        if self.form == WeightForm.FP32:
            weight = np.concatenate([dense(matrix) for matrix in matrices]).T  # [inputs, outputs]
            return self.graph.node("MatMul", [x, self.graph.constant(f"{name}.weight", weight)], name)
        if self.form == WeightForm.INT8:
            return self.integer_linear(x, np.concatenate([dense(matrix) for matrix in matrices]), name, outliers)
        return self.matmul_nbits(x, stack([to_int8(matrix) for matrix in matrices]), f"{name}.weight", name)

    def integer_linear(self, x: str, weight: Floats, name: str, outliers: bool) -> str:
        """Multiply quantised rows by a weight [outputs, inputs]; where there are outliers, in two steps."""
        magnitudes = self.graph.node("Abs", [x], f"{name}.magnitudes")
        rows = quantize_rows(
            self.graph, name, x, magnitudes, steps=127, zero_point=SYMMETRIC, zero_points=self.zero_points
        )
        self.zero_points = rows.zero_points
        integers, scales = quantize_columns(weight.T)
        if outliers:
            return fine_product(self.graph, name, x, rows, integers, scales)
        return product(self.graph, name, rows, integers, scales)

    def matmul_nbits(self, x: str, matrix: BlockMatrix, weight: str, name: str) -> str:
        """Multiply by codes around MatMulNBits' own zero point, 2^(bits - 1)."""
        outputs, blocks, _ = matrix.codes.shape
        return self.graph.node(
            "MatMulNBits",
            [x, *self.block_weights(weight, matrix)],
            name,
            MICROSOFT,
            K=blocks * BLOCK,
            N=outputs,
            bits=matrix.bits,
            block_size=BLOCK,
            accuracy_level=self.activations,
        )

    def block_weights(self, name: str, matrix: BlockMatrix) -> tuple[str, str]:
        """8-bit codes, which MatMulNBits takes as they are, and scales."""
        return self.graph.constant(f"{name}.codes", matrix.codes), self.graph.constant(f"{name}.scales", matrix.scales)

    def add_and_norm(self, stream: str, addend: str, weight: Floats, name: str) -> tuple[str, str]:
        """Residual addition and the normalisation after it: the normalised sum, and the sum."""
        norm = self.graph.constant(f"{name}.norm", weight)
        outputs = [f"{name}.states", "", "", f"{name}.stream"]
        epsilon = self.config.rms_epsilon
        self.graph.nodes(
            "SkipSimplifiedLayerNormalization", [stream, addend, norm], outputs, MICROSOFT, epsilon=epsilon
        )
        return outputs[0], outputs[3]

    def flat(self, x: str, name: str) -> str:
        """[batch, tokens, n] to [rows, n]."""
        return self.graph.node("Flatten", [x], name, axis=2)

    def axes(self, name: str, *sizes: int) -> str:
        """A constant shape or list of axes."""
        return self.graph.constant(name, np.array(sizes, np.int64))
