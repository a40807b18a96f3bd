"""The golden gate: out of tolerance, or not batch-invariant, is an error."""

from collections.abc import Sequence

import numpy as np
import pytest

from triptych.bundle.v1 import bundle_pb2
from triptych_research.embedding import golden
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.embedding.inference import Encoder
from triptych_research.golden import GoldenError, OutOfToleranceError

TOLERANCE = bundle_pb2.Tolerance(max_abs_error=1e-5, min_cosine=0.99999)


class FakeEncoder(Encoder):
    """Says what the golden file says, changed by `error`; other things in a batch if `sociable`."""

    def __init__(self, cases: bundle_pb2.GoldenFile, error: float = 0, sociable: bool = False) -> None:
        self._vectors = {tuple(case.token_ids): np.array(case.vector, np.float32) + error for case in cases.embeddings}
        self._sociable = sociable

    def embed(self, batch: Sequence[Sequence[int]]) -> np.ndarray:
        vectors = np.stack([self._vectors[tuple(token_ids)] for token_ids in batch])
        return np.nextafter(vectors, 1) if self._sociable and len(batch) > 1 else vectors


@pytest.fixture(scope="module")
def cases(checkpoint: Checkpoint) -> bundle_pb2.GoldenFile:
    return golden.make(checkpoint, [])


def test_the_golden_vectors_pass(cases: bundle_pb2.GoldenFile) -> None:
    golden.check_encoder(cases, FakeEncoder(cases, error=9e-6), TOLERANCE)


@pytest.mark.parametrize("error", [1.1e-5, -1.1e-5, float("nan")])
def test_a_vector_out_of_tolerance_fails(cases: bundle_pb2.GoldenFile, error: float) -> None:
    with pytest.raises(GoldenError, match=r"embeddings\[0\].vector: max_abs_error is "):
        golden.check_encoder(cases, FakeEncoder(cases, error), TOLERANCE)


@pytest.mark.parametrize("length", [0.01, 1, 100])
def test_a_tolerance_is_of_the_vector_at_length_1(cases: bundle_pb2.GoldenFile, length: float) -> None:
    longer = bundle_pb2.GoldenFile()
    for case in cases.embeddings:
        longer.embeddings.add(token_ids=case.token_ids, vector=np.array(case.vector, np.float32) * length)
    golden.check_encoder(longer, FakeEncoder(longer, error=9e-6 * length), TOLERANCE)
    with pytest.raises(OutOfToleranceError, match=r"embeddings\[0\].vector: max_abs_error is 1.1e-05, above 1e-05"):
        golden.check_encoder(longer, FakeEncoder(longer, error=1.1e-5 * length), TOLERANCE)


def test_a_vector_in_another_direction_fails(cases: bundle_pb2.GoldenFile) -> None:
    wide = bundle_pb2.Tolerance(max_abs_error=1, min_cosine=0.99999)
    with pytest.raises(GoldenError, match=r"embeddings\[0\].vector: min_cosine is "):
        golden.check_encoder(cases, FakeEncoder(cases, error=0.1), wide)


def test_a_vector_that_depends_on_its_batch_fails(cases: bundle_pb2.GoldenFile) -> None:
    with pytest.raises(GoldenError, match=r"embeddings\[0\].vector: not the same alone and in a batch of "):
        golden.check_encoder(cases, FakeEncoder(cases, sociable=True), TOLERANCE)


def test_cases_differ_in_length_and_fit_the_model(cases: bundle_pb2.GoldenFile, checkpoint: Checkpoint) -> None:
    assert len(set(golden.lengths(cases))) > 2
    assert max(golden.lengths(cases)) <= checkpoint.max_tokens


def test_a_graph_that_gives_other_bits_than_where_it_was_exported_fails(
    checkpoint: Checkpoint, tiny_encoder: Encoder
) -> None:
    own = golden.make(checkpoint, [tiny_encoder])
    golden.check_bits(own, tiny_encoder, 0)
    own.embeddings[1].graphs[0].values[3] = np.nextafter(
        np.float32(own.embeddings[1].graphs[0].values[3]), np.float32(1)
    )
    with pytest.raises(GoldenError, match=r"embeddings\[1\].graphs\[0\]: this processor gives other bits"):
        golden.check_bits(own, tiny_encoder, 0)
