"""A graph computes what the reference computes, for each text as if it were alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych_research.embedding import graph, inference
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.embedding.inference import Encoder
from triptych_research.reference.bert import SentenceEncoder

TOKEN_IDS = st.lists(st.integers(0, 99), min_size=1, max_size=48)
BATCHES = st.lists(TOKEN_IDS, min_size=1, max_size=9)


@pytest.mark.bits
@given(batch=BATCHES)
def test_a_vector_is_bitwise_the_same_alone_and_in_any_batch(tiny_encoder: Encoder, batch: list[list[int]]) -> None:
    together = tiny_encoder.embed(batch)
    alone = np.concatenate([tiny_encoder.embed([token_ids]) for token_ids in batch])
    np.testing.assert_array_equal(together, alone)


@given(batch=BATCHES)
def test_a_fp32_graph_computes_what_the_reference_computes(
    fp32_encoder: Encoder, checkpoint: Checkpoint, batch: list[list[int]]
) -> None:
    reference = SentenceEncoder(checkpoint)
    expected = np.stack([reference.embed(token_ids) for token_ids in batch])
    np.testing.assert_allclose(fp32_encoder.embed(batch), expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def fp32_encoder(checkpoint: Checkpoint) -> Encoder:
    return Encoder(graph.build(checkpoint, graph.Float32Weights()).SerializeToString(), checkpoint.normalize)


@given(batch=BATCHES)
def test_padding_changes_no_real_token(fp32_encoder: Encoder, batch: list[list[int]]) -> None:
    longest = max(map(len, batch))
    padded = fp32_encoder.run(inference.pad(batch)).reshape(len(batch), longest, -1)
    real = np.concatenate([states[: len(ids)] for states, ids in zip(padded, batch, strict=True)])
    np.testing.assert_allclose(fp32_encoder.run(inference.pack(batch)), real, rtol=0, atol=1e-5)


def test_an_id_outside_of_the_vocabulary_is_an_error(tiny_encoder: Encoder) -> None:
    with pytest.raises(Exception, match=r"indices element out of data bounds, idx=100 "):
        tiny_encoder.embed([[2, 100, 3]])


@given(batch=BATCHES)
def test_packing_loses_and_moves_no_token(batch: list[list[int]]) -> None:
    inputs = inference.pack(batch)
    grid = inputs["input_ids"][inputs["pad_index"]]  # [batch, longest]
    assert [row[: len(ids)].tolist() for row, ids in zip(grid, batch, strict=True)] == batch
    assert grid.ravel()[inputs["unpad_index"]].tolist() == inputs["input_ids"].tolist()
    assert inputs["position_ids"].tolist() == [position for ids in batch for position in range(len(ids))]
    assert inputs["seqlens_k"].tolist() == [len(ids) - 1 for ids in batch]
    assert inputs["total_sequence_length"] == max(map(len, batch))


@given(batch=BATCHES, bound=st.integers(1, 100))
def test_batches_keep_order_and_bound(batch: list[list[int]], bound: int) -> None:
    split = list(inference.batches(batch, bound))
    assert [list(ids) for part in split for ids in part] == batch
    assert all(len(part) == 1 or sum(map(len, part)) <= bound for part in split)


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Checkpoint, weights: graph.Weights) -> None:
    first, second = (graph.build(checkpoint, weights).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second
