"""The operators that encoders have beside those of decoders give the bits of their NumPy reference, on every path."""

import numpy as np
import pytest
from test_kernels import PATHS, hard_matrix, hard_rows, random, same, session, sizes

from triptych_research.packing import pack
from triptych_research.reference import operators

pytestmark = pytest.mark.bits

ROWS = 13
SIZE = 96


def norm(channels: int) -> operators.LayerNorm:
    weight, bias = random(1).standard_normal((2, SIZE)).astype(np.float32)
    weight[channels:] = bias[channels:] = 0
    return operators.LayerNorm(weight, bias, 1e-12, channels)


def terms(channels: int) -> tuple[np.ndarray, np.ndarray]:
    x, addend = hard_rows(ROWS, SIZE), random(2).standard_normal((ROWS, SIZE)).astype(np.float32)
    x[:, channels:] = addend[:, channels:] = 0
    return x, addend


@PATHS
@pytest.mark.parametrize("channels", [SIZE, 93, 65])
def test_layer_norms(path: str, channels: int) -> None:
    (x, addend), of = terms(channels), norm(channels)
    with np.errstate(all="ignore"):
        expected = of.run(x, addend)
    feeds = {"x": x, "addend": addend, "weight": of.weight, "bias": of.bias}
    attributes = {"epsilon": of.epsilon, "channels": channels}
    run = session(path, "AddLayerNorm", feeds, {"y": 2}, attributes, ["weight", "bias"])
    same(run.run(None, {"x": x, "addend": addend})[0], expected)


@PATHS
@pytest.mark.parametrize("gelu", [0, 1])
def test_products_with_bias_and_norm(path: str, gelu: int) -> None:
    (x, addend), of, w = terms(SIZE), norm(SIZE), hard_matrix(8, 160, SIZE)
    bias = random(3).standard_normal(160).astype(np.float32) * 3
    with np.errstate(all="ignore"):
        normed = of.run(x, addend)
        alone, behind = (operators.biased_product(rows, w, bias, bool(gelu)) for rows in (x, normed))
    feeds = {"x": x, "w": pack(w), "bias": bias}
    run = session(path, "MatMulQ", feeds, {"y": 2}, sizes(w) | {"gelu": gelu}, ["w", "bias"])
    same(run.run(None, {"x": x})[0], alone)
    feeds = {"x": x, "addend": addend, "weight": of.weight, "shift": of.bias, "w": pack(w), "bias": bias}
    attributes = sizes(w) | {"gelu": gelu, "epsilon": of.epsilon, "channels": SIZE}
    constants = ["weight", "shift", "w", "bias"]
    for threads in (1, 2):
        run = session(path, "LayerNormMatMulQ", feeds, {"y": 2, "z": 2}, attributes, constants, threads=threads)
        for found, expected in zip(run.run(None, {"x": x, "addend": addend}), (behind, normed), strict=True):
            same(found, expected)


@PATHS
@pytest.mark.parametrize(("heads", "size"), [(1, 8), (3, 32), (2, 24)])
def test_attention_within_texts(path: str, heads: int, size: int) -> None:
    lengths = (1, 5, 17, 8)
    positions = np.concatenate([np.arange(length) for length in lengths])
    rows = random(size).standard_normal((len(positions), 3 * heads * size)).astype(np.float32)
    rows[3, 0], rows[8, heads * size + 1] = np.nan, np.inf
    with np.errstate(all="ignore"):
        expected = operators.packed_attention(rows, positions, heads)
    feeds = {"rows": rows, "positions": positions}
    for threads in (1, 2):
        run = session(path, "PackedAttention", feeds, {"y": 2}, {"heads": heads, "head_dim": size}, threads=threads)
        same(run.run(None, feeds)[0], expected)


@pytest.mark.parametrize("positions", [[1, 2, 3], [0, 2, 3], [0, 1, 1], [0, -1, 0]])
def test_rows_that_are_no_packed_batch_are_refused(positions: list[int]) -> None:
    feeds = {"rows": np.zeros((3, 48), np.float32), "positions": np.array(positions)}
    run = session("scalar", "PackedAttention", feeds, {"y": 2}, {"heads": 2, "head_dim": 8})
    with pytest.raises(Exception, match=r"which neither begins a text nor goes on with one"):
        run.run(None, feeds)


def test_no_row_is_gathered_that_only_fills_a_table_up() -> None:
    table = hard_matrix(8, 16, 32)
    feeds = {"ids": np.array([9]), "table": pack(table)}
    run = session("scalar", "GatherQ", feeds, {"y": 2}, sizes(table) | {"rows": 10}, ["table"])
    same(run.run(None, {"ids": np.array([9])})[0], operators.gather(np.array([9]), table))
    with pytest.raises(Exception, match="id 10 is not among 10 rows"):
        run.run(None, {"ids": np.array([10])})
