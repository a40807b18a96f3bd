"""The default model, as `make models` left it."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.bundle.v1 import bundle_pb2
from triptych_research import bundle
from triptych_research.bundle import Bundle
from triptych_research.embedding import evaluate
from triptych_research.embedding.inference import Encoder


@pytest.fixture(scope="module")
def encoder(minilm: Bundle) -> Encoder:
    return minilm.encoder(minilm.manifest.graphs[0])


def test_it_is_whole(minilm: Bundle) -> None:
    assert bundle.verify(minilm.path) == minilm


def test_it_says_what_a_reader_needs(minilm: Bundle) -> None:
    manifest = minilm.manifest
    assert manifest.source.license == "Apache-2.0"
    assert list(manifest.embedding.dimensions) == [384]
    assert manifest.embedding.normalize
    assert manifest.embedding.pooling == bundle_pb2.POOLING_MEAN
    assert manifest.tokenizer.max_tokens == 256  # what its authors trained it with, not the backbone's 512
    assert [graph.precision for graph in manifest.graphs] == [bundle_pb2.PRECISION_BLOCK_QUANTIZED]


def test_its_card_is_there_and_passes_the_gates(minilm: Bundle) -> None:
    assert {path.name for path in minilm.path.iterdir()} >= bundle.CARD_FILES
    measured = json.loads((minilm.path / bundle.MEASUREMENTS).read_bytes())
    assert evaluate.Quality(**measured["quality"]).failures() == []
    assert measured["size_bytes"] < 30e6


@settings(max_examples=15)
@given(
    batch=st.lists(st.lists(st.integers(0, 30521), min_size=1, max_size=60), min_size=1, max_size=8),
    longest=st.lists(st.integers(0, 30521), min_size=200, max_size=256),
)
def test_a_vector_is_bitwise_the_same_alone_and_in_any_batch(
    encoder: Encoder, batch: list[list[int]], longest: list[int]
) -> None:
    together = encoder.embed([*batch, longest])
    for vector, token_ids in zip(together, [*batch, longest], strict=True):
        np.testing.assert_array_equal(vector, encoder.embed([token_ids])[0])


def test_what_means_the_same_is_near(encoder: Encoder, minilm: Bundle) -> None:
    tokenizer = minilm.tokenizer()

    def embed(texts: Sequence[str]) -> np.ndarray:
        return encoder.embed([tokenizer.encode(text).ids for text in texts])

    (question,) = embed(["How do I change my password?"])
    answer, other = (
        embed(["Open the settings to set a new passphrase.", "The train to Basel leaves at noon."]) @ question
    )
    assert answer > 0.4 > 0.15 > other


def test_an_id_outside_of_the_vocabulary_is_an_error(encoder: Encoder) -> None:
    with pytest.raises(Exception, match="id 30522 is not among 30522 rows"):
        encoder.embed([[101, 30522, 102]])
