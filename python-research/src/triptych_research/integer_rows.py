"""Linear layers in 8-bit integers: one scale for each output channel, and one for each row of the activations.

A row's numbers never depend on its neighbours, and the sums are exact integers, so they depend neither on the batch nor
on the processor. Activations are unsigned, because the fast integer kernels multiply unsigned by signed.

A few channels are ten times as large as the others and would take the row's 8 bits for themselves. Smoothing (Xiao et
al., "SmoothQuant", 2023) divides each channel of x by s and multiplies the weight's row by it, where s balances what
calibration saw of the activation with what the weight has.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from onnx import numpy_helper

from triptych_research.graph import MICROSOFT, GraphBuilder

# Smoothing's exponent: 0 leaves activations as they are, 1 moves all of their range into the weights.
ALPHA = 0.5
SYMMETRIC = 128  # the zero point of activations that may be negative
_SMALLEST = 1e-5  # a channel that calibration saw as silent
_TINY = 1e-12  # keeps an output channel of zeros from dividing by zero
K = TypeVar("K")
_FINE = 254  # steps of a row's second quantisation in one step of its first, which rounds by half of one either way


@dataclass(frozen=True)
class Rows:
    """Quantised activations: names of values in the graph."""

    values: str  # uint8 [rows, in]
    scales: str  # float32 [rows]
    zero_point: int
    zero_points: str  # uint8 [rows], all of them `zero_point`; graphs may use them wherever there are as many rows


def widen(largest: dict[K, np.ndarray], place: K, x: np.ndarray) -> None:
    """Take note of what was read at a place, x [rows, in]: `largest` has each channel's largest magnitude, [in]."""
    seen = np.abs(x).max(axis=0)
    largest[place] = np.maximum(largest.get(place, seen), seen)


def smoothing_factors(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return how much of each input channel's range the weight takes over [in]; their geometric mean is 1.

    Both arguments are largest magnitudes, [in]: of what calibration saw, and of the weights.
    """
    x = np.maximum(activations, _SMALLEST)
    w = np.maximum(weights.astype(np.float64), _SMALLEST)
    factors = x**ALPHA / w ** (1 - ALPHA)
    balanced: np.ndarray = factors / np.exp(np.log(factors).mean())
    return balanced


def quantize_columns(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 weights [in, out] within ±127 and their scales [out] (float32)."""
    scales = np.maximum(np.abs(weight).max(axis=0) / 127, _TINY).astype(np.float32)
    return np.clip(np.round(weight / scales), -127, 127).astype(np.int8), scales


def quantize_rows(
    graph: GraphBuilder,
    layer: str,
    x: str,
    magnitudes: str,
    steps: int,
    zero_point: int,
    zero_points: str | None = None,
) -> Rows:
    """Map each row of x so that its largest magnitude is `steps` above the zero point.

    `zero_points` are those of other rows of the same graph, if there are as many.
    """
    # A row of zeros has a scale of 0 and its integers are arbitrary; multiplied by the scale they are zeros again.
    last_axis = graph.constant("last_axis", np.array([-1], np.int64))
    largest = graph.node("ReduceMax", [magnitudes, last_axis], f"{layer}.largest", keepdims=0)  # [rows]
    step = graph.constant(f"step.{steps}", np.float32(1 / steps))
    scales = graph.node("Mul", [largest, step], f"{layer}.row_scales")
    if zero_points is None:
        # The operator wants a zero point for each scale: the same number as often as there are scales.
        count = graph.node("Shape", [scales], f"{layer}.count")
        value = numpy_helper.from_array(np.array([zero_point], np.uint8))
        zero_points = graph.node("ConstantOfShape", [count], f"{layer}.zero_points", value=value)
    values = graph.node("QuantizeLinear", [x, scales, zero_points], f"{layer}.rows", axis=0)
    return Rows(values, scales, zero_point, zero_points)


def product(graph: GraphBuilder, layer: str, rows: Rows, weight: np.ndarray, scales: np.ndarray) -> str:
    """Multiply by what `quantize_columns` returns; [rows, out]."""
    weights = graph.constant(f"{layer}.weight", weight)
    one = graph.constant("one", np.float32(1))
    zero_point = graph.constant(f"zero_point.{rows.zero_point}", np.uint8(rows.zero_point))
    inputs = [rows.values, weights, one, graph.constant(f"{layer}.scales", scales), zero_point]
    columns = graph.node("MatMulIntegerToFloat", inputs, f"{layer}.columns", MICROSOFT)
    upright = graph.constant("upright", np.array([-1, 1], np.int64))
    row_scales = graph.node("Reshape", [rows.scales, upright], f"{layer}.row_scales.upright")  # [rows, 1]
    return graph.node("Mul", [columns, row_scales], f"{layer}.product")


def fine_product(graph: GraphBuilder, layer: str, x: str, rows: Rows, weight: np.ndarray, scales: np.ndarray) -> str:
    """As `product`, but what rounding took from x is quantised too, and multiplied by the same weights.

    So activations have some 16 bits, where a few channels are so large that 8 are not enough for the others. Both are
    rows of one multiplication, which reads the weights once. (Two that share their weights could not be loaded
    on x86 without VNNI, where ONNX Runtime's exact kernels make weights unsigned, for each operator under one name.)
    """
    coarse = graph.node("DequantizeLinear", [rows.values, rows.scales, rows.zero_points], f"{layer}.coarse", axis=0)
    rest = graph.node("Sub", [x, coarse], f"{layer}.rest")
    step = graph.constant(f"step.{_FINE}", np.float32(1 / _FINE))
    fine_scales = graph.node("Mul", [rows.scales, step], f"{layer}.fine.row_scales")
    fine = graph.node("QuantizeLinear", [rest, fine_scales, rows.zero_points], f"{layer}.fine.rows", axis=0)
    values = graph.node("Concat", [rows.values, fine], f"{layer}.both.rows", axis=0)
    both_scales = graph.node("Concat", [rows.scales, fine_scales], f"{layer}.both.row_scales", axis=0)
    # both: [2 * rows, out]
    both = product(graph, layer, Rows(values, both_scales, rows.zero_point, ""), weight, scales)
    parts = [f"{layer}.both.coarse", f"{layer}.both.fine"]
    graph.nodes("Split", [both], parts, axis=0, num_outputs=2)
    return graph.node("Add", parts, f"{layer}.sum")
