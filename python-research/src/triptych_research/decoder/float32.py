"""The same decoder in float32, of ONNX Runtime's own operators: what a bundle's graph is judged by (quality.py).

It scores one whole text at a time and keeps no cache, and is never in a bundle.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto

from triptych_research.blocks import Floats, Matrix, dense
from triptych_research.decoder.graph import rotary_tables
from triptych_research.decoder.weights import DecoderLayer, DecoderWeights
from triptych_research.graph import MICROSOFT, GraphBuilder
from triptych_research.sessions import open_session

OPSET = 23  # the first with RMSNormalization


class Float32Decoder:
    """Scores texts."""

    def __init__(self, weights: DecoderWeights[Matrix], threads: int = 1) -> None:
        self._session = open_session(build(weights).SerializeToString(), threads)

    def score(self, text: Sequence[int], places: Sequence[int]) -> Floats:
        """Logits of some positions of a text, [places, vocabulary]."""
        feeds = {
            "input_ids": np.array(text, np.int64),
            "logit_index": np.array(places, np.int64),
            "last_position": np.array([len(text) - 1], np.int32),
            "tokens": np.array(len(text), np.int32),
        }
        logits: Floats = self._session.run(None, feeds)[0]
        return logits


def build(weights: DecoderWeights[Matrix]) -> onnx.ModelProto:
    """Return the checked model."""
    return _Float32Graph(weights).model()


class _Float32Graph:
    """Writes one decoder. Methods take names of values, [tokens, n], and return such."""

    def __init__(self, weights: DecoderWeights[Matrix]) -> None:
        self.weights, self.config = weights.map_matrices(dense), weights.config
        self.graph = GraphBuilder("float32_decoder", OPSET)

    def model(self) -> onnx.ModelProto:
        for name, table in zip(("cosines", "sines"), rotary_tables(self.config), strict=True):
            self.graph.constant(name, table)
        embedding = self.graph.constant("embedding", self.weights.embedding)
        stream = self.graph.node("Gather", [embedding, "input_ids"], "embedded", axis=0)
        for index, layer in enumerate(self.weights.decoder_layers):
            stream = self.layer(f"layer.{index}", layer, stream)
        stream = self.graph.node("Gather", [stream, "logit_index"], "named", axis=0)
        states = self.norm(stream, self.weights.final_norm, "final")
        head = embedding if self.weights.lm_head is None else self.graph.constant("lm_head", self.weights.lm_head)
        self.graph.node("Gemm", [states, head], "logits", transB=1)
        return self.graph.model(
            [
                ("input_ids", TensorProto.INT64, ("tokens",)),
                ("logit_index", TensorProto.INT64, ("logit_rows",)),
                ("last_position", TensorProto.INT32, (1,)),
                ("tokens", TensorProto.INT32, ()),
            ],
            [("logits", TensorProto.FLOAT, ("logit_rows", self.config.vocabulary_size))],
        )

    def layer(self, name: str, layer: DecoderLayer[Floats], stream: str) -> str:
        states = self.norm(stream, layer.attention_norm, f"{name}.attention")
        output = self.linear(self.attention(states, layer, name), layer.output, f"{name}.output")
        stream = self.graph.node("Add", [stream, output], f"{name}.attended_stream")
        states = self.norm(stream, layer.ffn_norm, f"{name}.ffn")
        gate = self.linear(states, layer.gate, f"{name}.gate")
        silu = self.graph.node("Mul", [gate, self.graph.node("Sigmoid", [gate], f"{name}.sigmoid")], f"{name}.silu")
        gated = self.graph.node("Mul", [silu, self.linear(states, layer.up, f"{name}.up")], f"{name}.gated")
        return self.graph.node("Add", [stream, self.linear(gated, layer.down, f"{name}.down")], f"{name}.stream")

    def attention(self, states: str, layer: DecoderLayer[Floats], name: str) -> str:
        """Attention of one text, whose tokens lie along the second axis of three."""
        first = self.graph.constant("first_axis", np.array([0]))
        sides = {"query": layer.query, "key": layer.key, "value": layer.value}
        parts = [
            self.graph.node("Unsqueeze", [self.linear(states, matrix, f"{name}.{side}"), first], f"{name}.{side}.text")
            for side, matrix in sides.items()
        ]
        attended = self.graph.node(
            "GroupQueryAttention",
            [*parts, "", "", "last_position", "tokens", "cosines", "sines"],
            f"{name}.attended",
            MICROSOFT,
            num_heads=self.config.heads,
            kv_num_heads=self.config.kv_heads,
            do_rotary=1,
        )
        return self.graph.node("Squeeze", [attended, first], f"{name}.attended.rows")

    def linear(self, x: str, weight: Floats, name: str) -> str:
        return self.graph.node("MatMul", [x, self.graph.constant(f"{name}.weight", weight.T)], name)

    def norm(self, x: str, weight: Floats, name: str) -> str:
        inputs = [x, self.graph.constant(f"{name}.norm", weight)]
        return self.graph.node("RMSNormalization", inputs, f"{name}.states", axis=-1, epsilon=self.config.rms_epsilon)
