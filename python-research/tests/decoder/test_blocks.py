"""Weights in blocks: nothing is lost on the way in, and rounding stays within half a step."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from triptych_research.decoder.blocks import BlockMatrix, dense, stack, take_rows, to_int8

MATRICES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.sampled_from([32, 64, 96])),
    elements=st.floats(-100, 100, width=32, allow_subnormal=False),
)


def four_bit(seed: int, rows: int) -> BlockMatrix:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 16, (rows, 2, 32), np.uint8)
    scales, offsets = random.standard_normal((2, rows, 2)).astype(np.float32)
    return BlockMatrix(4, 0, codes, scales, offsets)


@given(MATRICES)
def test_rounding_to_8_bits_moves_a_weight_by_half_a_step_at_most(values: np.ndarray) -> None:
    matrix = to_int8(values)
    step = np.repeat(matrix.scales, 32, axis=-1)  # [outputs, inputs]
    # A hair more than half, for float32's own rounding of large quotients.
    assert (np.abs(matrix.dense() - values) <= step * np.float32(0.5001)).all()


@given(MATRICES)
def test_each_block_s_largest_weight_has_the_largest_code(values: np.ndarray) -> None:
    largest = np.abs(to_int8(values).codes.astype(int) - 128).max(axis=-1)  # [outputs, blocks]
    assert set(largest[np.abs(values).reshape(*largest.shape, 32).max(axis=-1) > 1e-30]) <= {127}


@given(MATRICES)
def test_8_bit_weights_are_left_alone(values: np.ndarray) -> None:
    matrix = to_int8(values)
    assert to_int8(matrix) is matrix


def test_a_block_of_zeros_stays_zero() -> None:
    assert not to_int8(np.zeros((2, 64), np.float32)).dense().any()


def test_stacked_matrices_are_one_above_the_other() -> None:
    upper, lower = (to_int8(four_bit(seed, rows)) for seed, rows in ((1, 3), (2, 5)))
    np.testing.assert_array_equal(stack([upper, lower]).dense(), np.concatenate([upper.dense(), lower.dense()]))


def test_matrices_of_different_forms_are_not_stacked() -> None:
    with_offsets, eight = four_bit(1, 3), to_int8(np.ones((3, 64), np.float32))
    four = BlockMatrix(4, 8, with_offsets.codes, with_offsets.scales)
    for lower in (four, with_offsets):
        with pytest.raises(ValueError, match="with offsets, or of different numeric forms"):
            stack([eight, lower])


def test_rows_keep_their_scales_and_offsets_in_a_new_order() -> None:
    matrix, order = four_bit(1, 4), np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(dense(take_rows(matrix, order)), matrix.dense()[order])
