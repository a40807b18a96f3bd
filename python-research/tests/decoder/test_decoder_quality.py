"""The measures of a graph's distance from float32, and the bounds that stop an export."""

import dataclasses

import numpy as np
import pytest
import tiny_decoder as tiny
from tokenizers import Tokenizer, models, pre_tokenizers

from triptych_research.blocks import Matrix
from triptych_research.decoder import quality
from triptych_research.decoder.float32 import Float32Decoder
from triptych_research.decoder.graph import build
from triptych_research.decoder.session import DecoderSession
from triptych_research.decoder.weights import DecoderWeights

GOOD = quality.Quality(
    positions=100,
    nll=2.51,
    reference_nll=2.5,
    kl=0.004,
    kl_p99=0.02,
    top1=0.96,
    widest_flip=0.5,
    kl_by_place=(0.003, 0.005),
    largest=24,
)
BOUNDS = quality.Bounds(max_nll_increase=0.01, max_kl=0.01, min_top1=0.93, max_part_kl=0.02)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Letters of the passages as ids of the tiny vocabulary, so that texts are a few tokens long."""
    vocabulary = {chr(97 + index): index for index in range(26)} | {"?": 26}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def session(weights: DecoderWeights[Matrix]) -> DecoderSession:
    return DecoderSession(build(weights).SerializeToString(), 1, tiny.CONFIG.context_tokens)


def summary(graph: quality.Score, texts: list[quality.Text]) -> quality.Quality:
    comparison = quality.compare(graph, Float32Decoder(tiny.weights()).score, texts)
    return comparison.summary(comparison, largest=1)


REPLIES = [([3, 4, 5], [7, 8, 9, 10])]


def test_texts_are_the_passages_and_the_replies(tokenizer: Tokenizer) -> None:
    *written, reply = quality.texts(tokenizer, REPLIES, limit=50)
    assert len(written) == len(quality.passages()) > 20
    assert [text.ids for text in written] == [tokenizer.encode(text).ids[:50] for text in quality.passages()]
    assert all(text.is_passage for text in written)
    assert (reply.ids, reply.first) == ([3, 4, 5, 7, 8, 9], 2)  # each position predicts one token of the reply


def test_of_a_long_text_some_positions_are_compared_part_by_part(tokenizer: Tokenizer) -> None:
    text = quality.long_text(tokenizer, ["a b c", "d e"] * 10, limit=18)
    assert text.ids == [0, 1, 2, 3, 4] * 3 + [0, 1, 2]
    assert list(text.places) == [0, 8, 16]
    reference = Float32Decoder(tiny.weights())
    whole = quality.compare(session(tiny.weights()).score, reference.score, [quality.Text(text.ids)])
    some = quality.compare(session(tiny.weights()).score, reference.score, [text])
    np.testing.assert_allclose(some.kl, whole.kl[::8], atol=1e-6)
    np.testing.assert_allclose(some.nll, whole.nll[::8], rtol=1e-5)
    assert some.by_place() == pytest.approx(some.kl)  # three positions are three parts


def test_the_largest_key_or_value_is_that_of_all_texts() -> None:
    decoder = session(tiny.weights())
    texts = [[5], [7, 9, 80, 3], [5]]
    found = []
    for text in texts:
        decoder.score(text, [0])
        found.append(decoder.largest)
    largest = max(float(np.abs(slab.astype(np.float32)).max()) for slab in decoder.slabs.values())
    assert 0 < found[0] < found[1] == found[2]
    assert found[2] >= largest
    decoder.slabs["value", 1][0, 1, 2, 3] = np.nan
    decoder.score([5], [0])
    assert np.isnan(decoder.largest)


def test_a_graph_is_no_distance_from_itself(tokenizer: Tokenizer) -> None:
    reference = Float32Decoder(tiny.weights())
    texts = quality.texts(tokenizer, REPLIES, limit=300)
    result = summary(reference.score, texts)
    assert (result.kl, result.top1, result.widest_flip, result.nll_increase) == (0, 1, 0, 0)
    assert result.positions == sum(len(text.ids) - text.first for text in texts)


def test_likelihood_is_that_of_what_somebody_wrote() -> None:
    reference = Float32Decoder(tiny.weights())
    ids = [5, 9, 80, 3]
    written, reply = quality.Text(ids), quality.Text(ids, first=2)
    comparison = quality.compare(reference.score, reference.score, [written, reply])
    expected = [-quality.log_softmax(reference.score(ids, range(4)))[place, ids[place + 1]] for place in range(3)]
    np.testing.assert_allclose(comparison.nll, expected)  # of the passage alone
    assert len(comparison.kl) == 4 + 2


def test_rounding_is_a_small_distance_and_other_weights_a_large_one(tokenizer: Tokenizer) -> None:
    texts = quality.texts(tokenizer, REPLIES, limit=300)
    near, far = (summary(session(weights).score, texts) for weights in (tiny.weights(), tiny.dense_weights(seed=1)))
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
        ("kl_by_place", (0.001, 0.021, 0.02), "kl is 0.0210 in a part of the long text, above 0.02"),
        ("kl_by_place", (float("nan"), 0.02), "kl is nan in a part of the long text, above 0.02"),
        ("largest", 65504.0, "a key or value is 65,504 or more, which float16 does not hold"),
        ("largest", float("nan"), "a key or value is 65,504 or more, which float16 does not hold"),
    ],
)
def test_each_bound_says_by_how_much_it_is_missed(measure: str, value: object, complaint: str) -> None:
    assert BOUNDS.failures(quality.Quality(**{**dataclasses.asdict(GOOD), measure: value})) == [complaint]
