"""Weight matrices in blocks of 32 along the input, the form in which both GGUF and ONNX's MatMulNBits keep them.

Knows numbers only: no file format and no graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 32

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class BlockMatrix:
    """Quantised weights: value = scale * (code - zero_point) + offset, with one scale and offset for each block."""

    bits: int  # 4 or 8
    zero_point: int
    codes: NDArray[np.uint8]  # [outputs, inputs / 32, 32], one code a byte
    scales: Floats  # [outputs, inputs / 32]
    offsets: Floats | None = None  # [outputs, inputs / 32]

    def dense(self) -> Floats:
        """The weights as float32 [outputs, inputs]."""
        values = self.scales[..., None] * (self.codes.astype(np.float32) - np.float32(self.zero_point))
        if self.offsets is not None:
            values += self.offsets[..., None]
        return values.reshape(len(self.codes), -1)

    def rows(self, order: NDArray[np.intp]) -> "BlockMatrix":
        """The same matrix with its outputs in another order."""
        offsets = None if self.offsets is None else self.offsets[order]
        return BlockMatrix(self.bits, self.zero_point, self.codes[order], self.scales[order], offsets)


Matrix = BlockMatrix | Floats  # [outputs, inputs] either way


def dense(matrix: Matrix) -> Floats:
    """Any matrix as float32 [outputs, inputs]."""
    return matrix.dense() if isinstance(matrix, BlockMatrix) else matrix


def take_rows(matrix: Matrix, order: NDArray[np.intp]) -> Matrix:
    """The same matrix with its outputs in another order."""
    return matrix.rows(order) if isinstance(matrix, BlockMatrix) else matrix[order]


def stack(matrices: Sequence[BlockMatrix]) -> BlockMatrix:
    """Matrices of one numeric form over the same inputs as one, outputs one after the other."""
    first = matrices[0]
    if any((each.bits, each.zero_point, each.offsets) != (first.bits, first.zero_point, None) for each in matrices):
        raise ValueError("matrices with offsets, or of different numeric forms, cannot be stacked")
    codes, scales = [each.codes for each in matrices], [each.scales for each in matrices]
    return BlockMatrix(first.bits, first.zero_point, np.concatenate(codes), np.concatenate(scales))


def to_int8(matrix: Matrix) -> BlockMatrix:
    """Round to 8-bit codes around 128. A matrix that has this form already is returned as it is: Q8_0 stays exact."""
    if isinstance(matrix, BlockMatrix) and matrix.bits == 8 and matrix.offsets is None:
        return matrix
    values = dense(matrix)
    blocks = values.reshape(len(values), -1, BLOCK)  # [outputs, inputs / 32, 32]
    scales = np.abs(blocks).max(axis=-1) / np.float32(127)
    # A block of zeros has no scale of its own; any will do.
    scales = np.where(scales == 0, np.float32(1), scales).astype(np.float32)
    codes = np.rint(blocks / scales[..., None]) + 128
    return BlockMatrix(8, 128, codes.astype(np.uint8), scales)
