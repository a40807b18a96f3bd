"""Weight matrices in blocks of 32 along the input, the form in which both GGUF and our own operators keep them.

Knows numbers only: no file format and no graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
CENTRE = 128  # the code of zero among those of 8 bits

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class BlockMatrix:
    """Quantised weights, with a scale for each block: scale * code + offset of 4 bits, scale * (code - 128) of 8."""

    codes: NDArray[np.uint8]  # [outputs, inputs / 32, 32], one code a byte
    scales: Floats  # [outputs, inputs / 32]
    offsets: Floats | None = None  # [outputs, inputs / 32]; None: codes have 8 bits

    @property
    def bits(self) -> int:
        return 8 if self.offsets is None else 4

    def dense(self) -> Floats:
        """The weights as float32 [outputs, inputs]."""
        codes, scales = self.codes.astype(np.float32), self.scales[..., None]
        values: Floats = scales * (codes - CENTRE) if self.offsets is None else scales * codes + self.offsets[..., None]
        return values.reshape(len(self.codes), -1)

    def rows(self, order: NDArray[np.intp]) -> "BlockMatrix":
        """The same matrix with its outputs in another order."""
        offsets = None if self.offsets is None else self.offsets[order]
        return BlockMatrix(self.codes[order], self.scales[order], offsets)


Matrix = BlockMatrix | Floats  # [outputs, inputs] either way


def dense(matrix: Matrix) -> Floats:
    """Any matrix as float32 [outputs, inputs]."""
    return matrix.dense() if isinstance(matrix, BlockMatrix) else matrix


def take_rows(matrix: Matrix, order: NDArray[np.intp]) -> Matrix:
    """The same matrix with its outputs in another order."""
    return matrix.rows(order) if isinstance(matrix, BlockMatrix) else matrix[order]


def in_blocks(matrices: Sequence[Matrix]) -> BlockMatrix:
    """Matrices over the same inputs as one, outputs one after the other.

    Matrices that a source has in blocks keep its bits; others are rounded to 8 bits. Of several forms all take the
    widest, which is 8 bits too.
    """
    parts = [matrix if isinstance(matrix, BlockMatrix) else to_int8(matrix) for matrix in matrices]
    if any(part.offsets is None for part in parts):
        parts = [to_int8(part) for part in parts]
    offsets = [part.offsets for part in parts if part.offsets is not None]
    return BlockMatrix(
        np.concatenate([part.codes for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate(offsets) if offsets else None,
    )


def to_int8(matrix: Matrix) -> BlockMatrix:
    """Round to 8-bit codes. A matrix that has this form already is returned as it is."""
    if isinstance(matrix, BlockMatrix) and matrix.offsets is None:
        return matrix
    values = dense(matrix)
    blocks = values.reshape(len(values), -1, BLOCK)  # [outputs, inputs / 32, 32]
    scales = _float16_above(np.abs(blocks).max(axis=-1) / np.float32(127))
    # A block of zeros has no scale of its own; any will do.
    scales = np.where(scales == 0, np.float32(1), scales)
    codes = np.rint(blocks / scales[..., None]) + CENTRE
    return BlockMatrix(codes.astype(np.uint8), scales)


def _float16_above(values: Floats) -> Floats:
    """The smallest float16 numbers that are not below: with one as its scale no block has codes beyond 127."""
    with np.errstate(over="ignore"):  # what is beyond float16 becomes infinite, and no graph is made of it
        halves = values.astype(np.float16)
        above = np.nextafter(halves, np.float16(np.inf))
    return np.where(halves.astype(np.float32) < values, above, halves).astype(np.float32)
