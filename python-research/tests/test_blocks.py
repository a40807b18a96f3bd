"""Weights in blocks: nothing is lost on the way in, and rounding stays within half a step."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from triptych_research.blocks import BlockMatrix, dense, in_blocks, take_rows, to_int8

MATRICES = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.sampled_from([32, 64, 96])), elements=st.floats(-100, 100, width=32)
)


def four_bit(seed: int, rows: int) -> BlockMatrix:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 16, (rows, 2, 32), np.uint8)
    scales, offsets = random.standard_normal((2, rows, 2)).astype(np.float16).astype(np.float32)
    return BlockMatrix(codes, scales, offsets)


@given(MATRICES)
def test_rounding_to_8_bits_moves_a_weight_by_half_a_step_at_most(values: np.ndarray) -> None:
    matrix = to_int8(values)
    step = np.repeat(matrix.scales, 32, axis=-1)  # [outputs, inputs]
    # A hair more than half, for float32's own rounding of large quotients.
    assert (np.abs(matrix.dense() - values) <= step * np.float32(0.5001)).all()


@given(MATRICES)
def test_a_step_is_the_smallest_of_float16_that_127_of_them_reach_the_largest_weight(values: np.ndarray) -> None:
    matrix = to_int8(values)
    assert set(np.abs(matrix.codes.astype(int) - 128).ravel()) <= set(range(128))
    steps = np.abs(values).reshape(*matrix.scales.shape, 32).max(axis=-1) / np.float32(127)
    some = steps > 0  # else the block is zeros, to float32
    halves = matrix.scales[some].astype(np.float16)
    np.testing.assert_array_equal(halves, matrix.scales[some])
    assert (np.nextafter(halves, np.float16(0)).astype(np.float32) < steps[some]).all()


@given(MATRICES)
def test_8_bit_weights_are_left_alone(values: np.ndarray) -> None:
    matrix = to_int8(values)
    assert to_int8(matrix) is matrix


def test_a_block_of_zeros_stays_zero() -> None:
    assert not to_int8(np.zeros((2, 64), np.float32)).dense().any()


def test_matrices_of_one_form_are_one_above_the_other_bit_for_bit() -> None:
    for upper, lower in ((four_bit(1, 3), four_bit(2, 5)), (to_int8(four_bit(1, 3)), to_int8(four_bit(2, 5)))):
        both = in_blocks([upper, lower])
        assert both.bits == upper.bits
        np.testing.assert_array_equal(both.dense(), np.concatenate([upper.dense(), lower.dense()]))


def test_of_several_forms_all_take_the_widest() -> None:
    four, floats = four_bit(1, 3), np.random.default_rng(3).standard_normal((2, 64), np.float32)
    both = in_blocks([four, floats])
    assert both.bits == 8
    np.testing.assert_array_equal(both.dense(), np.concatenate([to_int8(four).dense(), to_int8(floats).dense()]))


def test_rows_keep_their_scales_and_offsets_in_a_new_order() -> None:
    matrix, order = four_bit(1, 4), np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(dense(take_rows(matrix, order)), matrix.dense()[order])
