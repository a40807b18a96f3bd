"""Weights in 8-bit integers, batch-invariant: a text has the same vector alone and in any batch.

Activations have one scale for each row, and outliers are smoothed (integer_rows.py). What is known to be above a bound
(GELU's output) is shifted to start at 0, so that all 256 steps are used; the shift times the weight is a constant and
goes to the bias. The model card says what is still lost.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from onnx import TensorProto

from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.embedding.graph import linear_layers
from triptych_research.graph import GraphBuilder
from triptych_research.integer_rows import SYMMETRIC, product, quantize_columns, quantize_rows, smoothing_factors, widen
from triptych_research.reference.bert import SentenceEncoder


def calibrate(checkpoint: Checkpoint, texts: Iterable[Sequence[int]]) -> dict[str, np.ndarray]:
    """Return, for each linear layer of the graph, the largest magnitude of each input channel [in] over the texts.

    It runs the NumPy reference in float64, so that the same texts give the same weights on every machine.
    """
    largest: dict[str, np.ndarray] = {}

    encoder = SentenceEncoder(checkpoint, lambda layer, x: widen(largest, layer, x))
    for token_ids in texts:
        encoder.hidden_states(token_ids)
    layers = [linear_layers(layer) for layer in range(checkpoint.config.layers)]
    # Merged layers read the same input, so any of them stands for all.
    return {name: largest[parts[0]] for merged in layers for name, parts in merged.items()}


class Int8Weights:
    """Writes int8 weights: one scale for each output channel, and one for each row of the activations."""

    def __init__(self, activations: Mapping[str, np.ndarray]) -> None:
        """`activations` is what `calibrate` returns."""
        self._activations = activations

    def linear(
        self, graph: GraphBuilder, layer: str, x: str, weight: np.ndarray, bias: np.ndarray, lower_bound: float | None
    ) -> tuple[str, np.ndarray]:
        if lower_bound is None:
            smoothing = smoothing_factors(self._activations[layer], np.abs(weight).max(axis=1))  # [in]
            inverse = graph.constant(f"{layer}.smoothing", (1 / smoothing).astype(np.float32))
            x = graph.node("Mul", [x, inverse], f"{layer}.smooth")
            quantized, scales = quantize_columns(weight * smoothing[:, None])
            magnitudes = graph.node("Abs", [x], f"{layer}.magnitudes")
            rows = quantize_rows(graph, layer, x, magnitudes, steps=127, zero_point=SYMMETRIC)
        else:
            quantized, scales = quantize_columns(weight)
            x = graph.node("Add", [x, graph.constant(f"{layer}.shift", np.float32(-lower_bound))], f"{layer}.shifted")
            rows = quantize_rows(graph, layer, x, x, steps=255, zero_point=0)
            # What was multiplied is x + shift: take shift @ weight away, of the weight as it is after quantisation.
            bias = bias + lower_bound * (quantized.sum(axis=0, dtype=np.int64) * scales.astype(np.float64))
        return product(graph, layer, rows, quantized, scales), bias.astype(np.float32)

    def lookup(self, graph: GraphBuilder, layer: str, table: np.ndarray, ids: str) -> str:
        # Not GatherBlockQuantized, which does not check its indices (ONNX Runtime 1.31.1): an id that is outside of the
        # vocabulary would read foreign memory.
        quantized, scales = quantize_columns(table.T)  # one scale for each word
        rows = graph.node("Gather", [graph.constant(f"{layer}.table", quantized.T), ids], f"{layer}.integers")
        words = graph.constant(f"{layer}.scales", scales[:, None])  # [vocabulary, 1]
        row_scales = graph.node("Gather", [words, ids], f"{layer}.row_scales")  # [tokens, 1]
        floats = graph.node("Cast", [rows], f"{layer}.floats", to=TensorProto.FLOAT)
        return graph.node("Mul", [floats, row_scales], f"{layer}.rows")
