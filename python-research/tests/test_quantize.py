"""What quantisation promises in numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from triptych_research import encoder, quantize
from triptych_research.checkpoint import Checkpoint
from triptych_research.inference import Encoder
from triptych_research.reference.bert import SentenceEncoder

WEIGHTS = arrays.arrays(np.float32, (8, 5), elements=st.floats(-100, 100, width=32))


@given(weight=WEIGHTS)
def test_a_quantised_weight_is_within_half_a_step(weight: np.ndarray) -> None:
    quantized, scales = quantize.quantize_columns(weight)
    assert quantized.dtype == np.int8
    assert np.abs(quantized.astype(int)).max() <= 127
    assert np.all(np.abs(quantized * scales - weight) <= scales * 0.5001)


@given(weight=WEIGHTS, activations=arrays.arrays(np.float64, 8, elements=st.floats(0, 1e4)))
def test_smoothing_is_finite_and_changes_no_overall_size(weight: np.ndarray, activations: np.ndarray) -> None:
    factors = quantize.smoothing_factors(activations, weight)
    assert np.all(factors > 0)
    assert np.exp(np.log(factors).mean()) == pytest.approx(1)


def test_smoothing_balances_activation_and_weight() -> None:
    activations, weight = np.array([16.0, 1.0]), np.array([[1.0], [1.0]], np.float32)
    large, small = quantize.smoothing_factors(activations, weight)
    assert large / small == pytest.approx(4)  # the square root of 16: half of the range each


def test_gelu_is_never_below_the_bound_that_the_graph_relies_on(checkpoint: Checkpoint) -> None:
    seen: dict[str, float] = {}

    def observe(layer: str, x: np.ndarray) -> None:
        seen[layer] = float(x.min())

    SentenceEncoder(checkpoint, observe).embed(list(range(48)))
    lowest = min(low for layer, low in seen.items() if layer.endswith("output.dense") and "attention" not in layer)
    assert encoder.GELU_LOWER_BOUND <= lowest < 0


def test_calibration_sees_each_merged_layer_once(checkpoint: Checkpoint) -> None:
    activations = quantize.calibrate(checkpoint, [[2, 7, 3], [2, 8, 9, 3]])
    layers = [name for layer in range(checkpoint.config.layers) for name in encoder.linear_layers(layer)]
    assert list(activations) == layers
    alone = [quantize.calibrate(checkpoint, [text]) for text in ([2, 7, 3], [2, 8, 9, 3])]
    for name, largest in activations.items():
        np.testing.assert_array_equal(largest, np.maximum(alone[0][name], alone[1][name]))


def test_an_all_zero_row_stays_a_number(checkpoint: Checkpoint) -> None:
    silent = {name: np.zeros_like(tensor) for name, tensor in checkpoint.tensors.items()}
    silenced = Checkpoint(checkpoint.config, silent, checkpoint.tokenizer_json, checkpoint.max_tokens, normalize=False)
    weights = quantize.Int8Weights(quantize.calibrate(silenced, [[2, 3]]))
    vectors = Encoder(encoder.build(silenced, weights).SerializeToString(), normalize=False).embed([[2, 5, 3]])
    assert np.all(vectors == 0)
