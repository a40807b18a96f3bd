"""What 8-bit rows promise in numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto

from triptych_research.graph import GraphBuilder
from triptych_research.integer_rows import (
    SYMMETRIC,
    fine_product,
    product,
    quantize_columns,
    quantize_rows,
    smoothing_factors,
)
from triptych_research.sessions import open_session

pytestmark = pytest.mark.bits

WEIGHTS = arrays.arrays(np.float32, (8, 5), elements=st.floats(-100, 100, width=32))
INPUTS, OUTPUTS = 64, 48


@given(weight=WEIGHTS)
def test_a_quantised_weight_is_within_half_a_step(weight: np.ndarray) -> None:
    quantized, scales = quantize_columns(weight)
    assert quantized.dtype == np.int8
    assert np.abs(quantized.astype(int)).max() <= 127
    assert np.all(np.abs(quantized * scales - weight) <= scales * 0.5001)


@given(weight=WEIGHTS, activations=arrays.arrays(np.float64, 8, elements=st.floats(0, 1e4)))
def test_smoothing_is_finite_and_changes_no_overall_size(weight: np.ndarray, activations: np.ndarray) -> None:
    factors = smoothing_factors(activations, np.abs(weight).max(axis=1))
    assert np.all(factors > 0)
    assert np.exp(np.log(factors).mean()) == pytest.approx(1)


def test_smoothing_balances_activation_and_weight() -> None:
    large, small = smoothing_factors(np.array([16.0, 1.0]), np.ones(2, np.float32))
    assert large / small == pytest.approx(4)  # the square root of 16: half of the range each


def run(x: np.ndarray, weight: np.ndarray, fine: bool) -> np.ndarray:
    """Multiply x [rows, in] by weight [in, out] as a graph does."""
    graph = GraphBuilder("product")
    magnitudes = graph.node("Abs", ["x"], "magnitudes")
    rows = quantize_rows(graph, "layer", "x", magnitudes, 127, SYMMETRIC)
    integers, scales = quantize_columns(weight)
    if fine:
        result = fine_product(graph, "layer", "x", rows, integers, scales)
    else:
        result = product(graph, "layer", rows, integers, scales)
    graph.node("Identity", [result], "y")
    model = graph.model(
        [("x", TensorProto.FLOAT, ("rows", INPUTS))], [("y", TensorProto.FLOAT, ("rows", weight.shape[1]))]
    )
    session = open_session(model.SerializeToString())
    y: np.ndarray = session.run(None, {"x": x})[0]
    return y


@pytest.fixture(scope="module")
def weight() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((INPUTS, OUTPUTS)).astype(np.float32)


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Rows of all sizes, with an outlier each."""
    random = np.random.default_rng(2)
    rows = random.standard_normal((7, INPUTS)) * np.geomspace(1e-3, 1e3, 7)[:, None]
    rows[:, 5] *= 50
    return rows.astype(np.float32)


@pytest.mark.parametrize("fine", [False, True])
def test_a_product_is_that_of_the_rounded_numbers(x: np.ndarray, weight: np.ndarray, fine: bool) -> None:
    """What is left of float32 is the error of rounding: half a step of each row, or of that a 254th."""
    integers, scales = quantize_columns(weight)
    exact = x.astype(np.float64) @ (integers * scales.astype(np.float64))
    step = np.abs(x).max(axis=1, keepdims=True) / 127 / (254 if fine else 1)
    bound = step / 2 * np.abs(integers * scales).sum(axis=0)
    error = np.abs(run(x, weight, fine) - exact)
    assert np.all(error <= bound + 1e-5 * np.abs(exact).max(axis=1, keepdims=True))
    assert error.max() > 0


@pytest.mark.parametrize("fine", [False, True])
def test_a_row_s_numbers_are_batch_invariant(x: np.ndarray, weight: np.ndarray, fine: bool) -> None:
    together = run(x, weight, fine)
    for index in range(len(x)):
        np.testing.assert_array_equal(run(x[index : index + 1], weight, fine)[0], together[index])


@pytest.mark.parametrize("fine", [False, True])
def test_a_row_of_zeros_stays_zeros(x: np.ndarray, weight: np.ndarray, fine: bool) -> None:
    rows = x.copy()
    rows[3] = 0
    np.testing.assert_array_equal(run(rows, weight, fine)[3], 0)
