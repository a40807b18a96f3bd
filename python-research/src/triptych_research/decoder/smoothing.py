"""Moves the outliers of activations into weights, so that 8 bits a row lose less (integer_rows.py).

In this architecture it costs no operation: each linear layer reads a normalisation or another layer's outputs, and
these take the division. Factors are powers of two, so that nothing is rounded and calibration decides no last bits.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from triptych_research.decoder.blocks import Floats, Matrix, dense
from triptych_research.decoder.weights import DecoderConfig, DecoderLayer, DecoderWeights
from triptych_research.integer_rows import smoothing_factors, widen
from triptych_research.reference.decoder import Input, ReferenceDecoder

# For each layer and input, the largest magnitude of each channel.
Magnitudes = dict[tuple[int, Input], Floats]


def calibrate(weights: DecoderWeights[Matrix], texts: Sequence[Sequence[int]]) -> Magnitudes:
    """Run texts (token ids) through the NumPy reference and return what its linear layers have read."""
    largest: Magnitudes = {}

    decoder = ReferenceDecoder(weights, lambda layer, name, x: widen(largest, (layer, name), x))
    for text in texts:
        decoder.states(list(text), decoder.empty_cache())
    return largest


def smooth(weights: DecoderWeights[Matrix], activations: Magnitudes) -> DecoderWeights[Matrix]:
    """Return weights of the same decoder whose linear layers read smaller outliers."""
    layers = [
        _smooth_layer(weights.config, layer, {name: activations[index, name] for name in Input})
        for index, layer in enumerate(weights.map_matrices(dense).decoder_layers)
    ]
    return dataclasses.replace(weights, decoder_layers=tuple(layers))


def _smooth_layer(
    config: DecoderConfig, layer: DecoderLayer[Floats], activations: dict[Input, Floats]
) -> DecoderLayer[Floats]:
    attention = _factors(activations[Input.ATTENTION], _largest(layer.query, layer.key, layer.value))  # [hidden]
    ffn = _factors(activations[Input.FFN], _largest(layer.gate, layer.up))  # [hidden]
    gated = _factors(activations[Input.GATED], _largest(layer.down))  # [intermediate]
    # The heads of a group read the same values, so they share factors.
    group = config.heads // config.kv_heads
    by_group = (config.kv_heads, group, config.head_dim)
    attended = activations[Input.ATTENDED].reshape(by_group).max(axis=1).ravel()
    values = _factors(attended, _largest(layer.output).reshape(by_group).max(axis=1).ravel())  # [kv_heads * head_dim]
    heads = values.reshape(config.kv_heads, 1, config.head_dim).repeat(group, axis=1).ravel()  # [heads * head_dim]
    return DecoderLayer(
        attention_norm=layer.attention_norm / attention,
        query=layer.query * attention,
        key=layer.key * attention,
        value=layer.value * attention / values[:, None],
        output=layer.output * heads,
        ffn_norm=layer.ffn_norm / ffn,
        gate=layer.gate * ffn,
        up=layer.up * ffn / gated[:, None],
        down=layer.down * gated,
    )


def _largest(*matrices: Floats) -> Floats:
    """Largest magnitude of each input's weights, [inputs]."""
    result: Floats = np.max([np.abs(matrix).max(axis=0) for matrix in matrices], axis=0)
    return result


def _factors(activations: Floats, weights: Floats) -> Floats:
    exponents: NDArray[np.float64] = np.rint(np.log2(smoothing_factors(activations, weights)))
    return np.exp2(exponents).astype(np.float32)
