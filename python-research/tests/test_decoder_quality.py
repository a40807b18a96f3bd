"""The measures of a graph's distance from float32, and the bounds that stop an export."""

import dataclasses

import numpy as np
import pytest
import tiny_decoder as tiny
from tokenizers import Tokenizer, models, pre_tokenizers

from triptych_research.decoder import quality
from triptych_research.decoder.blocks import Matrix
from triptych_research.decoder.graph import WeightForm, build
from triptych_research.decoder.session import DecoderSession
from triptych_research.decoder.weights import DecoderWeights

GOOD = quality.Quality(positions=100, nll=2.51, reference_nll=2.5, kl=0.004, kl_p99=0.02, top1=0.96, widest_flip=0.5)
BOUNDS = quality.Bounds(max_nll_increase=0.01, max_kl=0.01, min_top1=0.93)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Letters of the passages as ids of the tiny vocabulary, so that texts are a few tokens long."""
    vocabulary = {chr(97 + index): index for index in range(26)} | {"?": 26}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def session(weights: DecoderWeights[Matrix], form: WeightForm) -> DecoderSession:
    return DecoderSession(build(weights, form).SerializeToString(), 1, tiny.CONFIG.context_tokens)


def test_a_graph_is_no_distance_from_itself(tokenizer: Tokenizer) -> None:
    reference = session(tiny.weights(), WeightForm.FP32)
    result = quality.compare(reference, reference, tokenizer, [[3, 4, 5]]).summary()
    assert (result.kl, result.top1, result.widest_flip, result.nll_increase) == (0, 1, 0, 0)
    texts = [len(tokenizer.encode(text).ids) for text in quality.passages()]
    assert result.positions == sum(texts) + quality.REPLY_TOKENS
    assert len(texts) > 20


def test_rounding_is_a_small_distance_and_other_weights_a_large_one(tokenizer: Tokenizer) -> None:
    reference = session(tiny.weights(), WeightForm.FP32)
    near = quality.compare(session(tiny.weights(), WeightForm.INT8), reference, tokenizer, [[3, 4, 5]]).summary()
    far = quality.compare(
        session(tiny.dense_weights(seed=1), WeightForm.INT8), reference, tokenizer, [[3, 4, 5]]
    ).summary()
    assert 0 < near.kl < 0.1 < far.kl
    assert near.top1 > 0.9 > far.top1
    assert near.widest_flip < far.widest_flip


def test_log_softmax_is_the_logarithm_of_shares() -> None:
    logits = np.array([[1.0, 2.0, 900.0], [0.0, 0.0, 0.0]], np.float32)
    result = quality.log_softmax(logits)
    np.testing.assert_allclose(np.exp(result).sum(axis=-1), 1, rtol=1e-6)
    np.testing.assert_allclose(result[1], np.log(1 / 3), rtol=1e-6)


def test_a_good_graph_is_within_bounds() -> None:
    assert BOUNDS.failures(GOOD) == []


@pytest.mark.parametrize(
    ("measure", "value", "complaint"),
    [
        ("nll", 2.53, "nll rises by 1.20%, more than 1.00%"),
        ("kl", 0.011, "kl is 0.0110, above 0.01"),
        ("kl", float("nan"), "kl is nan, above 0.01"),
        ("top1", 0.92, "top1 is 0.9200, below 0.93"),
    ],
)
def test_each_bound_says_by_how_much_it_is_missed(measure: str, value: float, complaint: str) -> None:
    assert BOUNDS.failures(quality.Quality(**{**dataclasses.asdict(GOOD), measure: value})) == [complaint]
