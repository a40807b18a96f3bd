"""Weights as the operators read them from a graph's constants (rust-hotpath/crates/kernels/src/layout.rs).

Outputs are cut into tiles of 16, and inputs into blocks of 32; a tile's blocks follow each other. In a block, four
inputs of one output lie together, and beside them those of the next one; then come 16 scales, and of 4 bits 16 offsets,
all of them float16: 5 or 8.5 bits a weight.
"""

import numpy as np
from numpy.typing import NDArray

from triptych_research.blocks import BLOCK, CENTRE, BlockMatrix, Floats
from triptych_research.json_fields import CheckpointError

TILE = 16


def pack(matrix: BlockMatrix, name: str = "weights") -> NDArray[np.uint8]:
    """Return a matrix's bytes, [any]. Raises CheckpointError, with its name, where float16 does not hold a factor.

    Outputs that do not fill their tile are followed by some that are zeros.
    """
    matrix = _whole_tiles(matrix)
    outputs, blocks, _ = matrix.codes.shape
    codes = matrix.codes.reshape(outputs // TILE, TILE, blocks, BLOCK // 4, 4).transpose(0, 2, 3, 1, 4)
    factors = [_halves(matrix.scales, name)]
    if matrix.offsets is not None:
        # A byte's low half is of an input, its high half of the fourth after it.
        codes = np.bitwise_or(codes[:, :, 0::2], codes[:, :, 1::2] << 4, dtype=np.uint8)
        factors.append(_halves(matrix.offsets, name))
    parts = [codes, *factors]
    return np.concatenate([part.reshape(outputs // TILE, blocks, -1) for part in parts], axis=-1).ravel()


def padded(outputs: int) -> int:
    """Return how many outputs a matrix has when its tiles are whole."""
    return -(-outputs // TILE) * TILE


def gate_and_up(gate_outputs: int) -> NDArray[np.intp]:
    """Return the order of a stacked gate and up in which their tiles take turns, as the gated operator wants them."""
    order: NDArray[np.intp] = np.arange(2 * gate_outputs).reshape(2, -1, TILE).swapaxes(0, 1).ravel()
    return order


def _whole_tiles(matrix: BlockMatrix) -> BlockMatrix:
    missing = padded(len(matrix.codes)) - len(matrix.codes)
    if not missing:
        return matrix
    codes = np.pad(matrix.codes, ((0, missing), (0, 0), (0, 0)), constant_values=CENTRE if matrix.bits == 8 else 0)
    rows = ((0, missing), (0, 0))
    offsets = None if matrix.offsets is None else np.pad(matrix.offsets, rows)
    return BlockMatrix(codes, np.pad(matrix.scales, rows), offsets)


def _halves(values: Floats, name: str) -> NDArray[np.uint8]:
    """Numbers of each block, [outputs, blocks], as bytes of the tiles' float16 numbers, [tiles, blocks, 2 * 16]."""
    with np.errstate(over="ignore"):
        halves = values.astype("<f2")
    if not np.isfinite(halves).all() or not np.array_equal(halves.astype(np.float32), values):
        raise CheckpointError(f"{name}: a block has a scale or an offset that float16 does not hold")
    return np.ascontiguousarray(halves.reshape(-1, TILE, values.shape[1]).swapaxes(1, 2)).view(np.uint8)
