"""What quantisation promises in numbers."""

import numpy as np

from triptych_research.embedding import graph, quantize
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.embedding.inference import Encoder
from triptych_research.reference.bert import SentenceEncoder


def test_gelu_is_never_below_the_bound_that_the_graph_relies_on(checkpoint: Checkpoint) -> None:
    seen: dict[str, float] = {}

    def observe(layer: str, x: np.ndarray) -> None:
        seen[layer] = float(x.min())

    SentenceEncoder(checkpoint, observe).embed(list(range(48)))
    lowest = min(low for layer, low in seen.items() if layer.endswith("output.dense") and "attention" not in layer)
    assert graph.GELU_LOWER_BOUND <= lowest < 0


def test_calibration_sees_each_merged_layer_once(checkpoint: Checkpoint) -> None:
    activations = quantize.calibrate(checkpoint, [[2, 7, 3], [2, 8, 9, 3]])
    layers = [name for layer in range(checkpoint.config.layers) for name in graph.linear_layers(layer)]
    assert list(activations) == layers
    alone = [quantize.calibrate(checkpoint, [text]) for text in ([2, 7, 3], [2, 8, 9, 3])]
    for name, largest in activations.items():
        np.testing.assert_array_equal(largest, np.maximum(alone[0][name], alone[1][name]))


def test_an_all_zero_row_stays_a_number(checkpoint: Checkpoint) -> None:
    silent = {name: np.zeros_like(tensor) for name, tensor in checkpoint.tensors.items()}
    silenced = Checkpoint(checkpoint.config, silent, checkpoint.tokenizer_json, checkpoint.max_tokens, normalize=False)
    weights = quantize.Int8Weights(quantize.calibrate(silenced, [[2, 3]]))
    vectors = Encoder(graph.build(silenced, weights).SerializeToString(), normalize=False).embed([[2, 5, 3]])
    assert np.all(vectors == 0)
