"""Smoothing: the same decoder, whose linear layers read smaller outliers."""

import dataclasses

import numpy as np
import pytest
import tiny_decoder as tiny

from triptych_research.decoder.blocks import Floats, dense
from triptych_research.decoder.smoothing import Magnitudes, calibrate, smooth
from triptych_research.decoder.weights import DecoderWeights
from triptych_research.reference.decoder import Input, ReferenceDecoder

TEXT = list(range(2, 80))


@pytest.fixture(scope="module")
def weights() -> DecoderWeights[Floats]:
    """Weights with outliers in what each kind of linear layer reads."""
    plain = tiny.dense_weights()
    layers = []
    for layer in plain.decoder_layers:
        attention_norm, ffn_norm, value, up = (
            array.copy() for array in (layer.attention_norm, layer.ffn_norm, layer.value, layer.up)
        )
        attention_norm[3] *= 40
        ffn_norm[5] *= 40
        value[7] *= 40
        up[9] *= 40
        layers.append(dataclasses.replace(layer, attention_norm=attention_norm, ffn_norm=ffn_norm, value=value, up=up))
    return dataclasses.replace(plain, decoder_layers=tuple(layers))


@pytest.fixture(scope="module")
def activations(weights: DecoderWeights[Floats]) -> Magnitudes:
    return calibrate(weights, [TEXT])


def test_a_smoothed_decoder_says_the_same(weights: DecoderWeights[Floats], activations: Magnitudes) -> None:
    before, after = ReferenceDecoder(weights), ReferenceDecoder(smooth(weights, activations))
    expected = before.logits(TEXT, before.empty_cache())
    np.testing.assert_allclose(after.logits(TEXT, after.empty_cache()), expected, atol=1e-4)


@pytest.mark.parametrize("name", list(Input))
def test_what_linear_layers_read_has_smaller_outliers(
    weights: DecoderWeights[Floats], activations: Magnitudes, name: Input
) -> None:
    after = calibrate(smooth(weights, activations), [TEXT])
    for layer in range(weights.config.layers):
        before_ratio, after_ratio = (
            seen[layer, name].max() / np.median(seen[layer, name]) for seen in (activations, after)
        )
        assert after_ratio < before_ratio / 3


def test_nothing_is_rounded(weights: DecoderWeights[Floats], activations: Magnitudes) -> None:
    smoothed = smooth(weights, activations)
    for before, after in zip(weights.decoder_layers, smoothed.decoder_layers, strict=True):
        for matrix, changed in zip(before.matrices(), after.matrices(), strict=True):
            ratio = dense(changed) / matrix
            np.testing.assert_array_equal(ratio, np.exp2(np.rint(np.log2(ratio))))


def test_calibration_is_the_largest_of_all_texts(weights: DecoderWeights[Floats]) -> None:
    texts = [TEXT[:20], TEXT[30:]]
    alone = [calibrate(weights, [text]) for text in texts]
    for place, largest in calibrate(weights, texts).items():
        np.testing.assert_array_equal(largest, np.maximum(alone[0][place], alone[1][place]))
