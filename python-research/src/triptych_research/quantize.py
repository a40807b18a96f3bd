"""Weights in 8-bit integers that give a text the same vector in any company.

Three ideas make up for what integers lose; the model card says what is left:

- Activations are quantised with one scale for each *row*, so a token's numbers never depend on its neighbours. They are
  unsigned, because the fast integer kernels multiply unsigned activations by signed weights.
- A few channels are ten times as large as the others and would take the row's 8 bits for themselves. Smoothing (Xiao et
  al., "SmoothQuant", 2023) divides each channel of x by s and multiplies the weight's row by it, where s balances what
  calibration saw of the activation with what the weight has.
- What is known to be above a bound (GELU's output) is shifted to start at 0, so that all 256 steps are used; the shift
  times the weight is a constant and goes to the bias.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, numpy_helper

from triptych_research.checkpoint import Checkpoint
from triptych_research.encoder import linear_layers
from triptych_research.graph import GraphBuilder
from triptych_research.reference.bert import SentenceEncoder

# Smoothing's exponent: 0 leaves activations as they are, 1 moves all of their range into the weights.
ALPHA = 0.5
_SMALLEST = 1e-5  # a channel that calibration saw as silent
_TINY = 1e-12  # keeps an all-zero row from dividing by zero


def calibrate(checkpoint: Checkpoint, texts: Iterable[Sequence[int]]) -> dict[str, np.ndarray]:
    """Return, for each linear layer of the graph, the largest magnitude of each input channel [in] over the texts.

    It runs the NumPy reference in float64, so that the same texts give the same weights on every machine.
    """
    largest: dict[str, np.ndarray] = {}

    def observe(layer: str, x: np.ndarray) -> None:
        seen = np.abs(x).max(axis=0)
        largest[layer] = np.maximum(largest[layer], seen) if layer in largest else seen

    encoder = SentenceEncoder(checkpoint, observe)
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
            smoothing = smoothing_factors(self._activations[layer], weight)  # [in]
            inverse = graph.constant(f"{layer}.smoothing", (1 / smoothing).astype(np.float32))
            x = graph.node("Mul", [x, inverse], f"{layer}.smooth")
            quantized, scales = quantize_columns(weight * smoothing[:, None])
            magnitudes = graph.node("Abs", [x], f"{layer}.magnitudes")
            rows = _quantize_rows(graph, layer, x, magnitudes, steps=127, zero_point=128)
        else:
            quantized, scales = quantize_columns(weight)
            x = graph.node("Add", [x, graph.constant(f"{layer}.shift", np.float32(-lower_bound))], f"{layer}.shifted")
            rows = _quantize_rows(graph, layer, x, x, steps=255, zero_point=0)
            # What was multiplied is x + shift: take shift @ weight away, of the weight as it is after quantisation.
            bias = bias + lower_bound * (quantized.sum(axis=0, dtype=np.int64) * scales.astype(np.float64))
        return _product(graph, layer, rows, quantized, scales), bias.astype(np.float32)

    def lookup(self, graph: GraphBuilder, layer: str, table: np.ndarray, ids: str) -> str:
        # Not GatherBlockQuantized, which does not check its indices (ONNX Runtime 1.31.1): an id that is outside of the
        # vocabulary would read foreign memory.
        quantized, scales = quantize_columns(table.T)  # one scale for each word
        rows = graph.node("Gather", [graph.constant(f"{layer}.table", quantized.T), ids], f"{layer}.integers")
        words = graph.constant(f"{layer}.scales", scales[:, None])  # [vocabulary, 1]
        row_scales = graph.node("Gather", [words, ids], f"{layer}.row_scales")  # [tokens, 1]
        floats = graph.node("Cast", [rows], f"{layer}.floats", to=TensorProto.FLOAT)
        return graph.node("Mul", [floats, row_scales], f"{layer}.rows")


def smoothing_factors(activations: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return how much of each input channel's range [in] the weight takes over; their geometric mean is 1."""
    x = np.maximum(activations, _SMALLEST)
    w = np.maximum(np.abs(weight.astype(np.float64)).max(axis=1), _SMALLEST)
    factors = x**ALPHA / w ** (1 - ALPHA)
    balanced: np.ndarray = factors / np.exp(np.log(factors).mean())
    return balanced


def quantize_columns(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 weights [in, out] within ±127 and their scales [out] (float32)."""
    scales = np.maximum(np.abs(weight).max(axis=0) / 127, _TINY).astype(np.float32)
    return np.clip(np.round(weight / scales), -127, 127).astype(np.int8), scales


@dataclass(frozen=True)
class _Rows:
    """Quantised activations: names of values in the graph."""

    values: str  # uint8 [tokens, in]
    scales: str  # float32 [tokens]
    zero_point: int


def _quantize_rows(graph: GraphBuilder, layer: str, x: str, magnitudes: str, steps: int, zero_point: int) -> _Rows:
    """Map each row of x so that its largest magnitude is `steps` above the zero point."""
    last_axis = graph.constant("last_axis", np.array([-1], np.int64))
    largest = graph.node("ReduceMax", [magnitudes, last_axis], f"{layer}.largest", keepdims=0)  # [tokens]
    step = graph.node("Mul", [largest, graph.constant(f"step.{steps}", np.float32(1 / steps))], f"{layer}.step")
    scales = graph.node("Max", [step, graph.constant("tiny", np.float32(_TINY))], f"{layer}.row_scales")
    # The operator wants a zero point for each scale: the same number as often as there are scales.
    count = graph.node("Shape", [scales], f"{layer}.tokens")
    value = numpy_helper.from_array(np.array([zero_point], np.uint8))
    zero_points = graph.node("ConstantOfShape", [count], f"{layer}.zero_points", value=value)  # uint8 [tokens]
    values = graph.node("QuantizeLinear", [x, scales, zero_points], f"{layer}.rows", axis=0)
    return _Rows(values, scales, zero_point)


def _product(graph: GraphBuilder, layer: str, rows: _Rows, weight: np.ndarray, scales: np.ndarray) -> str:
    weights = graph.constant(f"{layer}.weight", weight)
    zero_point = graph.constant(f"zero_point.{rows.zero_point}", np.uint8(rows.zero_point))
    integers = graph.node(
        "MatMulInteger", [rows.values, weights, zero_point], f"{layer}.integers"
    )  # int32 [tokens, out]
    floats = graph.node("Cast", [integers], f"{layer}.floats", to=TensorProto.FLOAT)
    columns = graph.node("Mul", [floats, graph.constant(f"{layer}.scales", scales)], f"{layer}.columns")
    upright = graph.constant("upright", np.array([-1, 1], np.int64))
    row_scales = graph.node("Reshape", [rows.scales, upright], f"{layer}.row_scales.upright")  # [tokens, 1]
    return graph.node("Mul", [columns, row_scales], f"{layer}.product")
