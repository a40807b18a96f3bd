"""A graph computes what the reference computes, for each text as if it were alone."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych_research.embedding import float32, graph, inference
from triptych_research.embedding.checkpoint import Checkpoint, tensor_shapes
from triptych_research.embedding.float32 import Float32Encoder
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
    fp32_encoder: Float32Encoder, checkpoint: Checkpoint, batch: list[list[int]]
) -> None:
    reference = SentenceEncoder(checkpoint)
    expected = np.stack([reference.embed(token_ids) for token_ids in batch])
    np.testing.assert_allclose(fp32_encoder.embed(batch), expected, rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def fp32_encoder(checkpoint: Checkpoint) -> Float32Encoder:
    return Float32Encoder(checkpoint)


@given(batch=BATCHES)
def test_a_graph_is_near_the_reference(tiny_encoder: Encoder, checkpoint: Checkpoint, batch: list[list[int]]) -> None:
    reference = SentenceEncoder(checkpoint)
    expected = np.stack([reference.embed(token_ids) for token_ids in batch])
    np.testing.assert_allclose(tiny_encoder.embed(batch), expected, rtol=0, atol=0.03)


@given(batch=BATCHES)
def test_padding_changes_no_real_token(fp32_encoder: Float32Encoder, batch: list[list[int]]) -> None:
    longest = max(map(len, batch))
    padded = fp32_encoder.run(float32.pad(batch)).reshape(len(batch), longest, -1)
    real = np.concatenate([states[: len(ids)] for states, ids in zip(padded, batch, strict=True)])
    np.testing.assert_allclose(fp32_encoder.run(float32.pack(batch)), real, rtol=0, atol=1e-5)


def test_an_id_outside_of_the_vocabulary_is_an_error(tiny_encoder: Encoder) -> None:
    with pytest.raises(Exception, match=r"id 100 is not among 100 rows"):
        tiny_encoder.embed([[2, 100, 3]])


@given(batch=BATCHES)
def test_packing_loses_and_moves_no_token(batch: list[list[int]]) -> None:
    inputs = float32.pack(batch)
    grid = inputs["input_ids"][inputs["pad_index"]]  # [batch, longest]
    assert [row[: len(ids)].tolist() for row, ids in zip(grid, batch, strict=True)] == batch
    assert grid.ravel()[inputs["unpad_index"]].tolist() == inputs["input_ids"].tolist()
    assert inputs["position_ids"].tolist() == [position for ids in batch for position in range(len(ids))]
    assert {name: inputs[name].tolist() for name in ("input_ids", "position_ids")} == {
        name: values.tolist() for name, values in inference.pack(batch).items()
    }
    assert inputs["seqlens_k"].tolist() == [len(ids) - 1 for ids in batch]
    assert inputs["total_sequence_length"] == max(map(len, batch))


@given(batch=BATCHES, bound=st.integers(1, 100))
def test_batches_keep_order_and_bound(batch: list[list[int]], bound: int) -> None:
    split = list(inference.batches(batch, bound))
    assert [list(ids) for part in split for ids in part] == batch
    assert all(len(part) == 1 or sum(map(len, part)) <= bound for part in split)


def test_the_same_checkpoint_gives_the_same_bytes(checkpoint: Checkpoint) -> None:
    first, second = (graph.build(checkpoint).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_an_all_zero_row_stays_a_number(checkpoint: Checkpoint) -> None:
    silent = {name: np.zeros_like(tensor) for name, tensor in checkpoint.tensors.items()}
    silenced = dataclasses.replace(checkpoint, tensors=silent, normalize=False)
    vectors = Encoder(graph.build(silenced).SerializeToString(), normalize=False).embed([[2, 5, 3]])
    assert np.all(vectors == 0)


@pytest.mark.parametrize(("hidden", "heads", "inner"), [(52, 2, 100), (33, 1, 65), (48, 6, 64), (24, 3, 40)])
def test_sizes_that_the_operators_lack_are_filled_up(
    hidden: int, heads: int, inner: int, checkpoint: Checkpoint
) -> None:
    sizes = {"hidden_size": hidden, "heads": heads, "intermediate_size": inner}
    config = dataclasses.replace(checkpoint.config, **sizes)
    random = np.random.default_rng(3)
    tensors = {
        name: (random.normal(0, shape[-1] ** -0.5, shape) + name.endswith("LayerNorm.weight")).astype(np.float32)
        for name, shape in tensor_shapes(config).items()
    }
    other = dataclasses.replace(checkpoint, config=config, tensors=tensors)
    batch = [[2, 7, 9, 3], [2, 5, 3], list(range(40))]
    vectors = Encoder(graph.build(other).SerializeToString(), other.normalize).embed(batch)
    reference = SentenceEncoder(other)
    expected = np.stack([reference.embed(token_ids) for token_ids in batch])
    assert vectors.shape == (3, hidden)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=0.03)
