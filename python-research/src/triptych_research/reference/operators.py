"""Our own operators in plain NumPy, to the last bit: each is what its definition in rust-hotpath/crates/kernels says.

All is float32 arithmetic as IEEE 754 defines it, one rounding an operation, in an order that is fixed. NumPy has no
fused multiply-add, so `fma` makes one. It is slow; a test holds the library to it on every path that a processor has.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from triptych_research.blocks import BLOCK, CENTRE, BlockMatrix, Floats

LANES = 8  # numbers that are added up side by side
SMALLEST = np.float32(1e-30)  # a block of smaller numbers is zeros
LARGEST = np.float32(np.finfo(np.float16).max)  # magnitude that a cache keeps

Halves = NDArray[np.float16]


def fma(a: ArrayLike, b: ArrayLike, c: ArrayLike) -> Floats:
    """a * b + c of float32 numbers, rounded once.

    In float64 the product is exact, but the sum may be rounded, and to round that again to float32 may go the wrong
    way. So where the sum is not exact, of the two float64 numbers around it the one is taken whose last bit is set: it
    is never half-way between two of float32 (Boldo and Melquiond, 2008, "Emulation of FMA and correctly rounded sums").
    """
    with np.errstate(invalid="ignore", over="ignore"):
        product, addend = np.asarray(a, np.float64) * np.asarray(b, np.float64), np.asarray(c, np.float64)
        total = np.asarray(product + addend)
        back = total - product
        lost = (product - (total - back)) + (addend - back)  # what rounding took, exactly (Knuth)
        even = total.view(np.int64) & 1 == 0
        other = np.nextafter(total, np.copysign(np.inf, lost))
        result: Floats = np.where(np.isfinite(total) & (lost != 0) & even, other, total).astype(np.float32)
    return result


@dataclass(frozen=True)
class Rounded:
    """Rows in integers of 8 bits, block by block."""

    integers: NDArray[np.int64]  # [rows, blocks, 32]
    scales: Floats  # [rows, blocks]
    sums: Floats  # [rows, blocks]: of the integers, times the scale


def round_rows(x: Floats) -> Rounded:
    """Round rows [rows, inputs], so that each block's largest magnitude becomes 127."""
    blocks = x.reshape(len(x), -1, BLOCK)
    largest = np.abs(blocks).max(axis=-1)  # [rows, blocks]
    finite, some = np.isfinite(largest), largest >= SMALLEST
    divisor = np.where(finite & some, largest, np.float32(1))
    integers = np.rint(np.where((finite & some)[..., None], blocks, 0) * (np.float32(127) / divisor)[..., None])
    scales = np.where(some, divisor / np.float32(127), np.float32(0))
    scales = np.where(finite, scales, np.float32(np.nan))
    return Rounded(integers.astype(np.int64), scales, scales * integers.sum(axis=-1, dtype=np.float32))


def product(x: Floats, w: BlockMatrix) -> Floats:
    """`MatMulQ`: rows [rows, inputs] to [rows, outputs]. Sums of integers are exact; blocks are added in order."""
    rows, codes = round_rows(x), w.codes.astype(np.int64)
    result = np.zeros((len(x), len(w.codes)), np.float32)
    for block in range(w.scales.shape[1]):
        integers = rows.integers[:, block]
        sums = integers @ codes[:, block].T  # [rows, outputs]
        if w.offsets is None:
            sums -= CENTRE * integers.sum(axis=-1, keepdims=True)
        result = fma(w.scales[:, block] * rows.scales[:, block, None], sums.astype(np.float32), result)
        if w.offsets is not None:
            result = fma(w.offsets[:, block], rows.sums[:, block, None], result)
    return result


def gather(ids: NDArray[np.int64], table: BlockMatrix) -> Floats:
    """`GatherQ`: rows of a table, exactly."""
    return table.dense()[ids]


def norm_product(
    x: Floats, addend: Floats | None, norm: Floats, w: BlockMatrix, epsilon: float
) -> tuple[Floats, Floats]:
    """`NormMatMulQ`: the product of the normalised sum of x and addend, and that sum."""
    stream = x if addend is None else x + addend
    return product(rms_norm(stream, norm, epsilon), w), stream


def gated_norm_product(
    x: Floats, addend: Floats, norm: Floats, gate: BlockMatrix, up: BlockMatrix, epsilon: float
) -> tuple[Floats, Floats]:
    """`NormMatMulQ` whose weights are tiles of gate and of up in turn."""
    gates, stream = norm_product(x, addend, norm, gate, epsilon)
    return swiglu(gates, norm_product(x, addend, norm, up, epsilon)[0]), stream


def rms_norm(x: Floats, weight: Floats, epsilon: float) -> Floats:
    """Rows [rows, size], each divided by the root of its mean square, and multiplied by the weight."""
    squares = np.zeros((len(x), LANES), np.float32)
    for lanes in np.split(x, x.shape[1] // LANES, axis=1):
        squares = fma(lanes, lanes, squares)
    mean = total(squares) / np.float32(x.shape[1])
    scale = np.float32(1) / np.sqrt(mean + np.float32(epsilon))
    normalised: Floats = x * scale[:, None] * weight
    return normalised


def swiglu(gate: Floats, up: Floats) -> Floats:
    """gate / (1 + e^-gate) * up."""
    return gate / (np.float32(1) + exp(-gate)) * up


def total(lanes: Floats) -> Floats:
    """The sum of the last axis, which has eight numbers: those four apart are added first, then two, then one."""
    for distance in (4, 2, 1):
        lanes = lanes[..., :distance] + lanes[..., distance:]
    result: Floats = lanes[..., 0]
    return result


def exp(x: Floats) -> Floats:
    """e to the power of x, by Cephes' polynomial; beyond -87 and 88 that of the bound."""
    bounded = np.clip(x, np.float32(-87), np.float32(88))  # what is no number stays so
    n = np.rint(bounded * np.float32(np.log2(np.e)))
    rest = fma(n, np.float32(2.1219444e-4), fma(n, np.float32(-0.6933594), bounded))  # ln 2 is in two parts
    power = np.full_like(rest, np.float32(1.9875692e-4))
    for coefficient in (1.3981999e-3, 8.333452e-3, 4.1665796e-2, 1.6666665e-1, 0.5):
        power = fma(power, rest, np.float32(coefficient))
    power = fma(power, rest * rest, rest) + np.float32(1)
    result: Floats = np.ldexp(power, np.nan_to_num(n).astype(np.int32))
    return result


@dataclass(frozen=True)
class Heads:
    """How many heads there are of queries, how many of keys and of values, and how long each is."""

    queries: int
    shared: int
    size: int


@dataclass(frozen=True)
class CachedAttention:
    """`CachedAttention`, with the angles of every position, each [positions, size / 2]."""

    heads: Heads
    cosines: Floats
    sines: Floats

    def run(
        self,
        rows: Floats,
        keys: Halves,
        values: Halves,
        sequences: NDArray[np.int32],
        positions: NDArray[np.int32],
    ) -> Floats:
        """Append rows [rows, (queries + 2 * shared) * size] to the cache, keys and values [sequences, shared, capacity,
        size] in float16; return what each sees of its sequence up to there, [rows, queries * size]."""
        queries, shared, size = self.heads.queries, self.heads.shared, self.heads.size
        heads = rows.reshape(len(rows), -1, size)
        for row, sequence, position in zip(heads, sequences, positions, strict=True):
            keys[sequence, :, position] = kept(self.rotated(row[queries : queries + shared], position))
            values[sequence, :, position] = kept(row[queries + shared :])
        seen = [
            self.attended(self.rotated(row[:queries], position) * (np.float32(1) / np.sqrt(np.float32(size))), *cache)
            for row, position, cache in (
                (row, position, (keys[sequence, :, : position + 1], values[sequence, :, : position + 1]))
                for row, sequence, position in zip(heads, sequences, positions, strict=True)
            )
        ]
        return np.stack(seen).reshape(len(rows), queries * size)

    def rotated(self, heads: Floats, position: int) -> Floats:
        """Turn heads [heads, size] by a position's angles: number i with number i + size / 2."""
        first, second = np.split(heads, 2, axis=-1)
        cosines, sines = self.cosines[position], self.sines[position]
        return np.concatenate([fma(first, cosines, -(second * sines)), fma(second, cosines, first * sines)], axis=-1)

    def attended(self, queries: Floats, kept_keys: Halves, kept_values: Halves) -> Floats:
        """What one row's queries [queries, size] see of keys and values, each [shared, tokens, size]."""
        group = self.heads.queries // self.heads.shared
        keys, values = (
            each.astype(np.float32).repeat(group, axis=0) for each in (kept_keys, kept_values)
        )  # [queries, tokens, size]
        products = np.zeros((*keys.shape[:2], LANES), np.float32)
        for lanes in range(0, self.heads.size, LANES):
            some = slice(lanes, lanes + LANES)
            products = fma(keys[..., some], queries[:, None, some], products)
        weights, inverses = softmax(total(products))
        weights, seen = weights * inverses, np.zeros_like(queries)
        for token in range(keys.shape[1]):
            seen = fma(weights[:, token, None], values[:, token], seen)
        return seen


def kept(numbers: Floats) -> Halves:
    """What a cache keeps of keys and values: the nearest float16, ties to even, and its largest for what is beyond."""
    result: Halves = np.clip(numbers, -LARGEST, LARGEST).astype(np.float16)  # what is no number stays so
    return result


def softmax(scores: Floats) -> tuple[Floats, Floats]:
    """Weights of scores [heads, tokens] before they are divided by their sums, and the inverse of those, [heads, 1]."""
    weights = exp(scores - scores.max(axis=-1, keepdims=True))
    missing = -weights.shape[1] % LANES
    sums = np.zeros((len(weights), LANES), np.float32)
    padded = np.pad(weights, ((0, 0), (0, missing)))
    for lanes in np.split(padded, padded.shape[1] // LANES, axis=1):
        sums = sums + lanes
    return weights, (np.float32(1) / total(sums))[:, None]


@dataclass(frozen=True)
class LayerNorm:
    """A layer norm of rows, of which the first `channels` numbers are the model's and the others are zeros."""

    weight: Floats  # [size]
    bias: Floats  # [size]
    epsilon: float
    channels: int

    def run(self, x: Floats, addend: Floats) -> Floats:
        """`AddLayerNorm`: the norm of rows x + addend, each [rows, size]."""
        sums, channels = x + addend, np.float32(self.channels)
        lanes = np.zeros((len(x), LANES), np.float32)
        for some in np.split(sums, x.shape[1] // LANES, axis=1):
            lanes = lanes + some
        centred = sums - (total(lanes) / channels)[:, None]
        of_model = np.where(np.arange(x.shape[1]) < self.channels, centred, np.float32(0))
        squares = np.zeros((len(x), LANES), np.float32)
        for some in np.split(of_model, x.shape[1] // LANES, axis=1):
            squares = fma(some, some, squares)
        scale = np.float32(1) / np.sqrt(total(squares) / channels + np.float32(self.epsilon))
        return fma(centred * scale[:, None], self.weight, self.bias)


def biased_product(x: Floats, w: BlockMatrix, bias: Floats, activated: bool) -> Floats:
    """`MatMulQ` with a bias [outputs], and GELU if it is asked for."""
    result: Floats = product(x, w) + bias
    return gelu(result) if activated else result


def gelu(x: Floats) -> Floats:
    """x * Φ(x), where Φ - 1/2 is x times a quotient of polynomials of its square; beyond 5.5, Φ is 0 or 1."""
    near = np.clip(x, np.float32(-5.5), np.float32(5.5))  # what is no number stays so
    square = near * near

    def polynomial(*coefficients: float) -> Floats:
        value = np.full_like(square, np.float32(coefficients[0]))
        for coefficient in coefficients[1:]:
            value = fma(value, square, np.float32(coefficient))
        return value

    upper = polynomial(
        1.1175744e-10, -2.2082315e-8, 3.2410585e-6, 1.703738e-4, 4.5091636e-3, 3.5922222e-2, 3.9894214e-1
    )
    lower = polynomial(6.232645e-5, 1.8306427e-3, 2.9091496e-2, 2.5670823e-1, 1)
    result: Floats = x * (near * upper / lower + np.float32(0.5))
    return result


def packed_attention(rows: Floats, positions: NDArray[np.int64], heads: int) -> Floats:
    """`PackedAttention`: what each of rows [rows, 3 * heads * size] sees of its text, which begins at position 0."""
    starts = np.flatnonzero(positions == 0)
    texts = np.split(rows, starts[1:])
    return np.concatenate([_text_attention(text.reshape(len(text), 3, heads, -1)) for text in texts])


def _text_attention(text: Floats) -> Floats:
    """Queries, keys and values of a text [tokens, 3, heads, size], the queries scaled; [tokens, heads * size]."""
    seen = []
    for query in text[:, 0]:
        scores = np.zeros(text.shape[:1] + text.shape[2:3], np.float32)  # [tokens, heads]
        for number in range(text.shape[3]):
            scores = fma(text[:, 1, :, number], query[:, number], scores)
        weights, inverses = softmax(scores.T)
        value = np.zeros_like(query)
        for token in range(len(text)):
            value = fma(weights[:, token, None], text[token, 2], value)
        seen.append((value * inverses).ravel())
    return np.stack(seen)
