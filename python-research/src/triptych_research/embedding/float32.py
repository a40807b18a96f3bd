"""The same encoder in float32, of ONNX Runtime's own operators: what a bundle's graph is judged by. It is in no bundle.

Tokens of all texts stand one after the other; only attention sees the padded grid [batch, longest].
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto

from triptych_research.embedding import inference
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.embedding.inference import Batch, Encoder, Inputs
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


def build(checkpoint: Checkpoint) -> onnx.ModelProto:
    """Return the packed graph of a checkpoint."""
    return _Builder(checkpoint).build()


def pack(batch: Batch) -> Inputs:
    """Return a batch of token ids as this graph's inputs."""
    lengths = np.array([len(ids) for ids in batch])
    longest = int(lengths.max())
    places = np.arange(longest)  # [longest]
    occupied = places < lengths[:, None]  # [batch, longest]
    starts = np.cumsum(lengths) - lengths  # [batch]: where each text begins among the tokens
    return {
        **inference.pack(batch),
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


class Float32Encoder(Encoder):
    """One session over this graph."""

    pack = staticmethod(pack)

    def __init__(self, checkpoint: Checkpoint, threads: int = 1) -> None:
        """Build and load the graph of a checkpoint."""
        super().__init__(build(checkpoint).SerializeToString(), checkpoint.normalize, threads)


class _Builder:
    def __init__(self, checkpoint: Checkpoint) -> None:
        self._config = checkpoint.config
        self._tensors = checkpoint.tensors
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
        words = self._constant("embeddings.words", self._tensors["embeddings.word_embeddings.weight"])
        word = self._graph.node("Gather", [words, "input_ids"], "embeddings.word")
        position = self._graph.node("Gather", [positions, "position_ids"], "embeddings.position")
        return self._sum_and_norm("embeddings", [word, position])

    def _layer(self, layer: int, x: str) -> str:
        prefix = f"encoder.layer.{layer}"
        projections = [f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")]
        qkv = self._linear(f"{prefix}.attention.qkv", projections, x)
        output = f"{prefix}.attention.output.dense"
        attended = self._linear(output, [output], self._attention(f"{prefix}.attention", qkv))
        x = self._sum_and_norm(f"{prefix}.attention.output", [attended, x])
        inner, output = f"{prefix}.intermediate.dense", f"{prefix}.output.dense"
        gelu = self._graph.node("Gelu", [self._linear(inner, [inner], x)], f"{prefix}.gelu", MICROSOFT)
        return self._sum_and_norm(f"{prefix}.output", [self._linear(output, [output], gelu), x])

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

    def _linear(self, name: str, parts: Sequence[str], x: str) -> str:
        """x times the parts' weights, side by side, and their biases."""
        weight = np.concatenate([self._tensors[f"{part}.weight"].T for part in parts], axis=1)  # [in, out]
        bias = np.concatenate([self._tensors[f"{part}.bias"] for part in parts])  # [out]
        product = self._graph.node("MatMul", [x, self._constant(f"{name}.weight", weight)], f"{name}.product")
        return self._graph.node("Add", [product, self._constant(f"{name}.bias", bias)], f"{name}.sum")

    def _sum_and_norm(self, name: str, terms: list[str]) -> str:
        # Sum rather than Add: ONNX Runtime merges Add and LayerNormalization into SkipLayerNormalization, whose CPU
        # kernel sums element by element, which is slower (1.31.1).
        total = self._graph.node("Sum", terms, f"{name}.sum")
        weight, bias = f"{name}.LayerNorm.weight", f"{name}.LayerNorm.bias"
        inputs = [total, self._constant(weight, self._tensors[weight]), self._constant(bias, self._tensors[bias])]
        return self._graph.node(
            "LayerNormalization", inputs, f"{name}.normed", axis=-1, epsilon=self._config.layer_norm_eps
        )

    def _constant(self, name: str, value: np.ndarray) -> str:
        return self._graph.constant(name, value)
