"""Builds a decoder's ONNX graph from its weights.

Inputs and outputs (docs/architecture.md says what they mean):

    input_ids              int64  [batch, tokens]
    seqlens_k              int32  [batch]
    total_sequence_length  int32  []
    logit_index            int64  [logit_rows]
    past_key.N, past_value.N        float32 [batch, kv_heads, capacity, head_dim]
    logits                 float32 [logit_rows, vocabulary]
    present_key.N, present_value.N  float32 [batch, kv_heads, capacity, head_dim]

One graph serves every use, because the caller picks the rows that it wants logits of, counted through the flattened
[batch * tokens]: none in the middle of a prompt, the last one at its end, all where the prompt itself is scored, and one
for each sequence when it decodes. Linear layers run on such rows; only attention sees batch and tokens apart.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from triptych_research.decoder.blocks import BLOCK, BlockMatrix, Floats, Matrix, dense, stack, to_int8
from triptych_research.decoder.weights import DecoderLayer, DecoderWeights, rotary_tables

OPSET = 23  # the first with RMSNormalization
CONTRIB = "com.microsoft"  # ONNX Runtime's own operators, documented in its ContribOperators.md
INT8_ACTIVATIONS = 4  # MatMulNBits' accuracy_level: activations are rounded to 8 bits in blocks, like the weights


class WeightForm(StrEnum):
    """Numeric form of the linear layers."""

    FP32 = "fp32"  # dequantised; to judge the others by
    INT8 = "int8"  # 8 bits in blocks of 32, rounded anew from the source's values
    INT4 = "int4"  # the source's own 4 bits in blocks of 32 with their float offsets, to the last bit


def build_decoder(weights: DecoderWeights, form: WeightForm, activations: int = INT8_ACTIVATIONS) -> onnx.ModelProto:
    """The whole decoder as one checked model.

    `activations` is MatMulNBits' accuracy_level: 1 keeps activations in float32, which is slow and shows what rounding
    them costs. Raises ValueError when the weights do not have the form.
    """
    model = _DecoderGraph(weights, form, activations).model()
    # Declared shapes are a promise to readers that bind buffers of just that shape: infer them and compare.
    onnx.checker.check_model(model)
    return model


def past_name(side: str, layer: int) -> str:
    """Name of a cache input; `side` is "key" or "value"."""
    return f"past_{side}.{layer}"


def present_name(side: str, layer: int) -> str:
    """Name of a cache output; `side` is "key" or "value"."""
    return f"present_{side}.{layer}"


class _DecoderGraph:
    """Collects the nodes and initialisers of one decoder. Methods add nodes and return the name of their output."""

    def __init__(self, weights: DecoderWeights, form: WeightForm, activations: int) -> None:
        self.weights, self.config, self.form, self.activations = weights, weights.config, form, activations
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}

    def model(self) -> onnx.ModelProto:
        cosines, sines = rotary_tables(self.config)
        self.constant("cosines", cosines)
        self.constant("sines", sines)
        stream = self.rows(self.embed(), "stream")  # [rows, hidden], as are all states from here on
        norm = self.constant("layer.0.attention_norm", self.weights.decoder_layers[0].attention_norm)
        states = self.add(
            "RMSNormalization", [stream, norm], "layer.0.states", axis=-1, epsilon=self.config.rms_epsilon
        )
        # Attention takes its rows as [batch, tokens, …].
        batch_tokens = self.add("Shape", ["input_ids"], "batch_tokens")
        self.add("Concat", [batch_tokens, self.constant("rest", [-1])], "attention.shape", axis=0)
        for index, layer in enumerate(self.weights.decoder_layers):
            states, stream = self.layer(index, layer, states, stream)
        self.lm_head(states)
        graph = helper.make_graph(
            self.nodes, "decoder", self.inputs(), self.outputs(), list(self.initializers.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=11, producer_name="triptych")

    def inputs(self) -> list[onnx.ValueInfoProto]:
        """The declared inputs, in order."""
        declared = [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"]),
            helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, ["batch"]),
            helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, []),
            helper.make_tensor_value_info("logit_index", TensorProto.INT64, ["logit_rows"]),
        ]
        return declared + self.caches(past_name)

    def outputs(self) -> list[onnx.ValueInfoProto]:
        """The declared outputs, in order."""
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["logit_rows", self.config.vocabulary_size])
        return [logits, *self.caches(present_name)]

    def caches(self, name: Any) -> list[onnx.ValueInfoProto]:
        """Cache tensors, keys before values, layer by layer."""
        shape = ["batch", self.config.kv_heads, "capacity", self.config.head_dim]
        return [
            helper.make_tensor_value_info(name(side, layer), TensorProto.FLOAT, shape)
            for layer in range(self.config.layers)
            for side in ("key", "value")
        ]

    def embed(self) -> str:
        """[batch, tokens] ids to [batch, tokens, hidden]."""
        if self.form == WeightForm.FP32:
            table = self.constant("embedding", dense(self.weights.embedding))  # [vocabulary, hidden]
            return self.add("Gather", [table, "input_ids"], "embedded", axis=0)
        codes, scales = self.int8_table("embedding", self.weights.embedding)
        # The gather wants [vocabulary, hidden] where MatMulNBits wants blocks. The reshape costs nothing, and so the
        # largest matrix of a small model is in the file and in memory once.
        shape = self.constant("embedding.shape", [self.config.vocabulary_size, self.config.hidden_size])
        flat = self.add("Reshape", [codes, shape], "embedding.flat")
        attributes = {"bits": 8, "block_size": BLOCK, "gather_axis": 0, "quantize_axis": 1}
        return self.add("GatherBlockQuantized", [flat, "input_ids", scales], "embedded", CONTRIB, **attributes)

    def rows(self, states: str, name: str) -> str:
        """[batch, tokens, n] to [rows, n]."""
        return self.add("Flatten", [states], name, axis=2)

    def layer(self, index: int, layer: DecoderLayer, states: str, stream: str) -> tuple[str, str]:
        """One block: normalised states and residual stream in, those of the next block out; [rows, hidden]."""
        config, name = self.config, f"layer.{index}"
        # Query, key and value in one multiplication, as are gate and up: fewer, larger ones are faster.
        qkv = self.linear(states, [layer.query, layer.key, layer.value], f"{name}.qkv")
        packed = self.add("Reshape", [qkv, "attention.shape"], f"{name}.packed")  # [batch, tokens, …]
        caches = [past_name("key", index), past_name("value", index)]
        self.nodes.append(
            helper.make_node(
                "GroupQueryAttention",
                [packed, "", "", *caches, "seqlens_k", "total_sequence_length", "cosines", "sines"],
                [f"{name}.attended", present_name("key", index), present_name("value", index)],
                f"{name}.attention",
                domain=CONTRIB,
                num_heads=config.heads,
                kv_num_heads=config.kv_heads,
                do_rotary=1,
            )
        )
        output = self.linear(self.rows(f"{name}.attended", f"{name}.values"), [layer.output], f"{name}.output")
        ffn_norm = self.constant(f"{name}.ffn_norm", layer.ffn_norm)
        states, stream = self.add_and_norm(stream, output, ffn_norm, f"{name}.ffn")
        down = self.linear(self.gated(states, layer, name), [layer.down], f"{name}.down")
        if index + 1 < config.layers:
            weight = self.weights.decoder_layers[index + 1].attention_norm
            norm = self.constant(f"layer.{index + 1}.attention_norm", weight)
        else:
            norm = self.constant("final_norm", self.weights.final_norm)
        return self.add_and_norm(stream, down, norm, f"layer.{index + 1}")

    def gated(self, states: str, layer: DecoderLayer, name: str) -> str:
        """SwiGLU before its last projection: [rows, intermediate]."""
        both = self.linear(states, [layer.gate, layer.up], f"{name}.gate_up")
        gate, up = f"{name}.gate", f"{name}.up"
        self.nodes.append(helper.make_node("Split", [both], [gate, up], f"{name}.split", axis=-1, num_outputs=2))
        sigmoid = self.add("Sigmoid", [gate], f"{name}.sigmoid")
        silu = self.add("Mul", [gate, sigmoid], f"{name}.silu")
        return self.add("Mul", [silu, up], f"{name}.gated")

    def lm_head(self, states: str) -> None:
        """Logits of the rows that the caller asks for: [logit_rows, vocabulary]."""
        rows = self.add("Gather", [states, "logit_index"], "states.asked", axis=0)
        tied = self.weights.lm_head is None
        name = "embedding" if tied else "lm_head"
        table = self.weights.embedding if self.weights.lm_head is None else self.weights.lm_head
        if self.form == WeightForm.FP32:
            self.add("Gemm", [rows, self.constant(name, dense(table))], "logits", transB=1)
        else:
            codes, scales = self.int8_table(name, table)
            self.matmul_nbits(rows, to_int8(table), codes, scales, "logits")

    def linear(self, x: str, matrices: Sequence[Matrix], name: str) -> str:
        """[rows, inputs] to [rows, sum of outputs], in the graph's weight form."""
        if self.form == WeightForm.FP32:
            weight = np.concatenate([dense(matrix) for matrix in matrices]).T  # [inputs, outputs]
            return self.add("MatMul", [x, self.constant(f"{name}.weight", weight)], name)
        if self.form == WeightForm.INT8:
            matrix = stack([to_int8(matrix) for matrix in matrices])
            return self.matmul_nbits(x, matrix, *self.block_weights(f"{name}.weight", matrix), name)
        four_bit = [matrix for matrix in matrices if isinstance(matrix, BlockMatrix) and matrix.bits == 4]
        if len(four_bit) != len(matrices):
            raise ValueError(f"{name}: the 4-bit form needs weights that are 4-bit in their source")
        return self.linear_with_offsets(x, stack(four_bit), name)

    def linear_with_offsets(self, x: str, matrix: BlockMatrix, name: str) -> str:
        """Exact for float offsets, which MatMulNBits has no fast way for.

        scale*(code - zero) + offset = scale*(code - 8) + (offset + scale*(8 - zero)), and the bracket, constant in its
        block, needs of the activations only their sum over each block.
        """
        quantised = self.matmul_nbits(x, matrix, *self.block_weights(f"{name}.weight", matrix), f"{name}.quantised")
        offsets = matrix.scales * np.float32(8 - matrix.zero_point)  # [outputs, blocks]
        if matrix.offsets is not None:
            offsets = offsets + matrix.offsets
        shape = self.constant("blocks.shape", [0, -1, BLOCK])
        blocks = self.add("Reshape", [x, shape], f"{name}.blocks")  # [rows, blocks, 32]
        sums = self.add("ReduceSum", [blocks, self.constant("last_axis", [-1])], f"{name}.sums", keepdims=0)
        return self.add("Gemm", [sums, self.constant(f"{name}.offsets", offsets), quantised], name, transB=1)

    def matmul_nbits(self, x: str, matrix: BlockMatrix, codes: str, scales: str, name: str) -> str:
        """Multiply by quantised weights around the operator's default zero point, 2^(bits - 1)."""
        outputs, blocks, _ = matrix.codes.shape
        attributes = {"K": blocks * BLOCK, "N": outputs, "bits": matrix.bits, "block_size": BLOCK}
        return self.add("MatMulNBits", [x, codes, scales], name, CONTRIB, **attributes, accuracy_level=self.activations)

    def int8_table(self, name: str, table: Matrix) -> tuple[str, str]:
        """Names of an embedding table's codes and scales; the same ones for every use of it."""
        return self.block_weights(name, to_int8(table))

    def block_weights(self, name: str, matrix: BlockMatrix) -> tuple[str, str]:
        """Names of a matrix' codes, packed as MatMulNBits has them, and scales."""
        codes = matrix.codes if matrix.bits == 8 else matrix.codes[..., 0::2] | matrix.codes[..., 1::2] << 4
        return self.constant(f"{name}.codes", codes), self.constant(f"{name}.scales", matrix.scales)

    def add_and_norm(self, stream: str, addend: str, weight: str, name: str) -> tuple[str, str]:
        """Residual addition and the normalisation after it: names of the normalised sum and of the sum."""
        outputs = [f"{name}.states", "", "", f"{name}.stream"]
        self.nodes.append(
            helper.make_node(
                "SkipSimplifiedLayerNormalization",
                [stream, addend, weight],
                outputs,
                f"{name}.add_and_norm",
                domain=CONTRIB,
                epsilon=self.config.rms_epsilon,
            )
        )
        return outputs[0], outputs[3]

    def add(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], output, domain=domain, **attributes))
        return output

    def constant(self, name: str, values: Floats | NDArray[np.uint8] | list[int]) -> str:
        """An initialiser; the first one of a name stays. Lists become int64."""
        if name not in self.initializers:
            array = np.array(values, np.int64) if isinstance(values, list) else np.ascontiguousarray(values)
            self.initializers[name] = numpy_helper.from_array(array, name)
        return name
