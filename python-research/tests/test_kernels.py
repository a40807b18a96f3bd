"""Our own operators give what their NumPy references give, to the last bit, by every path that this processor has.

And no input makes them read or write what is not theirs: it is an error that names what is wrong.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import kernel_paths
import numpy as np
import onnxruntime
import pytest
import tiny_decoder as tiny
from onnx import TensorProto

from triptych_research import kernels
from triptych_research.blocks import BlockMatrix, Floats, Matrix
from triptych_research.decoder.graph import build, rotary_tables
from triptych_research.decoder.session import DecoderSession, Row
from triptych_research.decoder.weights import DecoderWeights
from triptych_research.graph import GraphBuilder, Tensor
from triptych_research.json_fields import CheckpointError
from triptych_research.packing import gate_and_up, pack
from triptych_research.reference import operators
from triptych_research.sessions import open_session

pytestmark = pytest.mark.bits

PATHS = pytest.mark.parametrize("path", kernel_paths.available())
BITS = pytest.mark.parametrize("bits", [4, 8])
SHAPES = ((32, 16), (64, 48), (576, 160), (1536, 32))  # inputs, outputs
ROWS = (1, 2, 3, 4, 7, 8, 9, 33)
EPSILON = 1e-5
ELEMENTS = {"e": TensorProto.FLOAT16, "f": TensorProto.FLOAT, "i": TensorProto.INT32, "l": TensorProto.INT64}
CACHES = {"present_key": TensorProto.FLOAT16, "present_value": TensorProto.FLOAT16}  # outputs that are not float32
Feeds = Mapping[str, np.ndarray]


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def hard_rows(count: int, size: int) -> Floats:
    """Rows of all kinds: as activations are, with outliers, zeros, subnormals, the largest codes, and no numbers."""
    rows = random(size).standard_normal((count, size), np.float32) * 3
    for row, change in zip(range(1, count), itertools.cycle(range(8))):
        match change:
            case 0:
                rows[row] = 0
            case 1:
                rows[row, row % size] = 1e6
            case 2:
                rows[row] *= np.float32(1e-40)
            case 3:
                rows[row] = np.sign(rows[row])
            case 4:
                rows[row, : size // 2] *= np.float32(1e-30)
            case 5:
                rows[row] *= np.float32(1e25)
            case 6:
                rows[row, -1] = np.inf
            case 7:
                rows[row, 0] = np.nan
    return rows


def hard_matrix(bits: int, outputs: int, inputs: int) -> BlockMatrix:
    """Weights with extreme codes and factors in some blocks."""
    generator = random(outputs)
    codes = generator.integers(0, 2**bits, (outputs, inputs // 32, 32), np.uint8)
    codes[0], codes[1] = 2**bits - 1, 0
    factors = generator.standard_normal((2, outputs, inputs // 32)) * 0.05
    factors[:, 2::7] = 0
    factors[:, 3::7] = 2.0**-24
    factors[0, 4::11] = 60000
    scales, offsets = factors.astype(np.float16).astype(np.float32)
    return BlockMatrix(codes, scales, offsets if bits == 4 else None)


def session(
    path: str,
    operator: str,
    inputs: Feeds,
    outputs: Mapping[str, int],
    attributes: Mapping[str, float],
    constants: Sequence[str] = (),
    missing: Sequence[str] = (),
    threads: int = 1,
) -> onnxruntime.InferenceSession:
    """A graph of one operator. `outputs` have so many axes; of the inputs some are constants and some are missing."""
    graph = GraphBuilder("operator")
    for name in constants:
        graph.constant(name, inputs[name])
    names = ["" if name in missing else name for name in inputs]
    graph.nodes(operator, names, list(outputs), kernels.DOMAIN, **attributes)
    fed: list[Tensor] = [
        (name, ELEMENTS[value.dtype.char], tuple(f"{name}.{axis}" for axis in range(value.ndim)))
        for name, value in inputs.items()
        if name not in {*constants, *missing}
    ]
    made: list[Tensor] = [
        (name, CACHES.get(name, TensorProto.FLOAT), tuple(f"{name}.{axis}" for axis in range(axes)))
        for name, axes in outputs.items()
    ]
    with kernel_paths.forced(path):
        return open_session(graph.model(fed, made).SerializeToString(), threads, own_operators=True)


def same(actual: np.ndarray, expected: np.ndarray, message: str = "") -> None:
    """To the last bit, but for those of what is no number."""
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    integers, nan = f"u{actual.itemsize}", actual.dtype.type(np.nan)
    bits = [np.where(np.isnan(each), nan, each).view(integers) for each in (actual, expected)]
    np.testing.assert_array_equal(bits[0], bits[1], message)


def sizes(matrix: BlockMatrix) -> dict[str, float]:
    return {"bits": matrix.bits, "K": 32 * matrix.codes.shape[1], "N": len(matrix.codes)}


@BITS
@PATHS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products(path: str, bits: int, shape: tuple[int, int]) -> None:
    inputs, outputs = shape
    x, w = hard_rows(max(ROWS), inputs), hard_matrix(bits, outputs, inputs)
    with np.errstate(all="ignore"):
        expected = operators.product(x, w)
    for threads in (1, 2):
        run = session(path, "MatMulQ", {"x": x, "w": pack(w)}, {"y": 2}, sizes(w), ["w"], threads=threads)
        for count in ROWS:
            same(run.run(None, {"x": x[:count]})[0], expected[:count], f"{count} rows, {threads} threads")


@BITS
@PATHS
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_normalised_products(path: str, bits: int, shape: tuple[int, int], adds: bool) -> None:
    inputs, outputs = shape
    x, w = hard_rows(max(ROWS), inputs), hard_matrix(bits, outputs, inputs)
    addend, norm = random(1).standard_normal(x.shape, np.float32), random(2).standard_normal(inputs, np.float32)
    with np.errstate(all="ignore"):
        expected, stream = operators.norm_product(x, addend if adds else None, norm, w, EPSILON)
    values: Feeds = {"x": x, "addend": addend, "norm": norm, "w": pack(w)}
    attributes, missing = sizes(w) | {"epsilon": EPSILON, "gated": 0}, [] if adds else ["addend"]
    run = session(path, "NormMatMulQ", values, {"y": 2, "sum": 2}, attributes, ["norm", "w"], missing)
    for count in ROWS:
        feeds = {"x": x[:count]} | ({"addend": addend[:count]} if adds else {})
        y, total = run.run(None, feeds)
        same(y, expected[:count], f"{count} rows")
        same(total, stream[:count], f"{count} rows")


@BITS
@PATHS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gated_products(path: str, bits: int, shape: tuple[int, int]) -> None:
    inputs, outputs = shape
    x, both = hard_rows(max(ROWS), inputs), hard_matrix(bits, 2 * outputs, inputs)
    addend, norm = random(1).standard_normal(x.shape, np.float32), random(2).standard_normal(inputs, np.float32)
    gate, up = both.rows(np.arange(outputs)), both.rows(np.arange(outputs, 2 * outputs))
    with np.errstate(all="ignore"):
        expected, stream = operators.gated_norm_product(x, addend, norm, gate, up, EPSILON)
    values: Feeds = {"x": x, "addend": addend, "norm": norm, "w": pack(both.rows(gate_and_up(outputs)))}
    attributes = sizes(both) | {"epsilon": EPSILON, "gated": 1}
    for threads in (1, 2):
        run = session(path, "NormMatMulQ", values, {"y": 2, "sum": 2}, attributes, ["norm", "w"], threads=threads)
        for count in ROWS:
            y, total = run.run(None, {"x": x[:count], "addend": addend[:count]})
            same(y, expected[:count], f"{count} rows, {threads} threads")
            same(total, stream[:count], f"{count} rows, {threads} threads")


@BITS
@PATHS
def test_rows_of_a_table(path: str, bits: int) -> None:
    table, ids = hard_matrix(bits, 48, 96), np.array([0, 47, 3, 3, 17])
    run = session(path, "GatherQ", {"ids": ids, "w": pack(table)}, {"y": 2}, sizes(table), ["w"])
    same(run.run(None, {"ids": ids})[0], operators.gather(ids, table))


def test_threads_run_one_session_at_once() -> None:
    w, norm = hard_matrix(4, 160, 576), random(2).standard_normal(576, np.float32)
    values: Feeds = {"x": hard_rows(9, 576), "addend": hard_rows(9, 576), "norm": norm, "w": pack(w)}
    attributes = sizes(w) | {"epsilon": EPSILON, "gated": 1}
    run = session("scalar", "NormMatMulQ", values, {"y": 2, "sum": 2}, attributes, ["norm", "w"], threads=2)
    feeds = [
        {name: random(seed).standard_normal((1 + seed % 9, 576), np.float32) for name in ("x", "addend")}
        for seed in range(40)
    ]
    alone = [run.run(None, each) for each in feeds]
    with ThreadPoolExecutor(4) as threads:
        for together, expected in zip(threads.map(lambda each: run.run(None, each), feeds), alone, strict=True):
            for actual, correct in zip(together, expected, strict=True):
                same(actual, correct)


HEADS = [(4, 2, 16), (9, 3, 64), (8, 1, 32), (6, 6, 48)]  # of queries, of keys and values, and how long each is
SEQUENCES, CAPACITY = 3, 70
# Of three sequences: a prompt, a single token far on, and one token after the other out of order.
PLACES = [*((0, position) for position in range(20)), (1, 69), (2, 9), (2, 8), (0, 20), (2, 10)]


def attention(heads: tuple[int, int, int], count: int = len(PLACES)) -> tuple[operators.CachedAttention, Feeds]:
    """The operator's reference, and inputs of it, whose cache holds no numbers where nothing was written."""
    queries, shared, size = heads
    angles = random(3).uniform(0, 10, (CAPACITY, size // 2))
    cosines, sines = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    rows = random(4).standard_normal((len(PLACES), (queries + 2 * shared) * size), np.float32) * 2
    # With numbers among them that float16 does not hold.
    rows[3::5, ::7] *= np.float32(1e5)
    keys, values = random(5).standard_normal((2, SEQUENCES, shared, CAPACITY, size), np.float32).astype(np.float16)
    for cache in (keys, values):
        cache[0], cache[2, :, 11:] = np.nan, np.nan
    sequences, positions = np.array(PLACES, np.int32).T
    feeds = {
        "rows": rows[:count],
        "past_key": keys,
        "past_value": values,
        "sequences": np.ascontiguousarray(sequences[:count]),
        "positions": np.ascontiguousarray(positions[:count]),
        "cosines": cosines,
        "sines": sines,
    }
    return operators.CachedAttention(operators.Heads(*heads), cosines, sines), feeds


def attention_session(
    path: str, heads: tuple[int, int, int], feeds: Feeds, threads: int = 1
) -> onnxruntime.InferenceSession:
    attributes = dict(zip(("heads", "kv_heads", "head_dim"), heads, strict=True))
    outputs = {"y": 2, "present_key": 4, "present_value": 4}
    return session(path, "CachedAttention", feeds, outputs, attributes, threads=threads)


@PATHS
@pytest.mark.parametrize("heads", HEADS, ids=str)
def test_attention(path: str, heads: tuple[int, int, int]) -> None:
    reference, feeds = attention(heads)
    keys, values = feeds["past_key"].copy(), feeds["past_value"].copy()
    expected = reference.run(feeds["rows"], keys, values, feeds["sequences"], feeds["positions"])
    assert np.isfinite(expected).all()
    for threads in (1, 2):
        run = attention_session(path, heads, feeds, threads)
        for actual, correct in zip(run.run(None, feeds), (expected, keys, values), strict=True):
            same(actual, correct, f"{threads} threads")


@PATHS
def test_attention_writes_where_the_past_lies(path: str) -> None:
    reference, feeds = attention(HEADS[0])
    keys, values = feeds["past_key"].copy(), feeds["past_value"].copy()
    expected = reference.run(feeds["rows"], keys, values, feeds["sequences"], feeds["positions"])
    y = np.empty_like(expected)
    binding = (run := attention_session(path, HEADS[0], feeds)).io_binding()
    for name, value in feeds.items():
        binding.bind_input(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
    present = {"y": y, "present_key": feeds["past_key"], "present_value": feeds["past_value"]}
    for name, value in present.items():
        binding.bind_output(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
    run.run_with_iobinding(binding)
    for actual, correct in zip(present.values(), (expected, keys, values), strict=True):
        same(actual, correct)


@PATHS
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("weights", [tiny.weights(), tiny.dense_weights()], ids=["4 bits", "8 bits"])
def test_a_whole_graph(path: str, threads: int, weights: DecoderWeights[Matrix]) -> None:
    model = build(weights).SerializeToString()
    ids = random(5).integers(0, tiny.CONFIG.vocabulary_size, 150).tolist()
    prompts = [ids[:1], ids[3:20], ids[:129], ids[40:105]]

    def said(name: str, threads: int) -> list[tuple[Floats, list[int], list[float]]]:
        with kernel_paths.forced(name):
            decoder = DecoderSession(model, len(prompts), tiny.CONFIG.context_tokens, threads)
        return [(each.next_token_logits, each.token_ids, each.margins) for each in decoder.greedy(prompts, 8)]

    for actual, expected in zip(said(path, threads), said("scalar", 1), strict=True):
        same(actual[0], expected[0])
        assert actual[1:] == expected[1:]


@pytest.mark.parametrize(
    ("name", "values", "complaint"),
    [
        ("sequences", [0, 3], r"a row of sequence 3 at position 1, in a cache of 3 with room for 70"),
        ("sequences", [-1, 0], r"a row of sequence -1 at position 0, "),
        ("positions", [0, 70], r"a row of sequence 0 at position 70, "),
        ("positions", [-(2**31), 0], r"a row of sequence 0 at position -2147483648, "),
        ("positions", [0], r"rows do not fit the heads"),
        ("sequences", [0], r"rows do not fit the heads"),
        ("rows", np.zeros((2, 100)), r"rows do not fit the heads"),
        ("past_key", np.zeros((3, 2, 70, 8)), r"the cache does not fit the heads"),
        ("past_key", np.zeros((3, 2, 69, 16)), r"the cache does not fit the heads"),
        ("past_value", np.zeros((2, 2, 70, 16)), r"the cache does not fit the heads"),
        ("cosines", np.zeros((70, 7)), r"angles do not fit the heads"),
        ("sines", np.zeros((69, 8)), r"angles do not fit the heads"),
    ],
)
def test_attention_refuses_what_is_not_in_its_cache(name: str, values: object, complaint: str) -> None:
    _, feeds = attention(HEADS[0], count=2)
    run = attention_session("scalar", HEADS[0], feeds)
    assert len(run.run(None, feeds)) == 3
    damaged = {**feeds, name: np.array(values, feeds[name].dtype)}
    with pytest.raises(Exception, match=complaint):  # ONNX Runtime's exceptions have no common base
        run.run(None, damaged)


def test_angles_bound_positions_too() -> None:
    _, feeds = attention(HEADS[0], count=2)
    run = attention_session("scalar", HEADS[0], feeds)
    few = {**feeds, "cosines": feeds["cosines"][:1], "sines": feeds["sines"][:1]}
    with pytest.raises(Exception, match="a row of sequence 0 at position 1, in a cache of 3 with room for 1"):
        run.run(None, few)


@pytest.mark.parametrize("identifier", [-1, 48, 2**40, -(2**63)])
def test_no_row_is_gathered_that_a_table_does_not_have(identifier: int) -> None:
    table, ids = hard_matrix(8, 48, 96), np.array([0, identifier])
    run = session("scalar", "GatherQ", {"ids": ids, "w": pack(table)}, {"y": 2}, sizes(table), ["w"])
    with pytest.raises(Exception, match=f"id {identifier} is not among 48 rows"):
        run.run(None, {"ids": ids})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"bits": 5}, "attribute bits is 5, and not 4 or 8"),
        ({"K": 96}, "there are 5440 bytes of weights, and not"),
        ({"N": 32}, "there are 5440 bytes of weights, and not 2176"),
        ({"N": 40}, "40 outputs of 64 inputs cannot be cut into tiles of 16 and blocks of 32"),
        ({"K": 2**62, "N": 2**40}, "bytes of weights, and not|cannot be cut"),
        ({"N": 0}, "cannot be cut"),
        ({"K": -64}, "attribute K is -64"),
    ],
)
def test_weights_are_as_many_as_the_attributes_say(changes: dict[str, int], complaint: str) -> None:
    w = hard_matrix(8, 80, 64)
    with pytest.raises(Exception, match=complaint):
        session("scalar", "MatMulQ", {"x": hard_rows(2, 64), "w": pack(w)}, {"y": 2}, sizes(w) | changes, ["w"])


def test_rows_of_another_length_are_refused() -> None:
    w = hard_matrix(8, 80, 64)
    run = session("scalar", "MatMulQ", {"x": hard_rows(2, 64), "w": pack(w)}, {"y": 2}, sizes(w), ["w"])
    with pytest.raises(Exception, match="198 numbers are no rows of 64"):
        run.run(None, {"x": np.zeros((2, 99), np.float32)})


def test_an_addend_of_another_length_is_refused() -> None:
    w, x = hard_matrix(8, 80, 64), hard_rows(2, 64)
    values: Feeds = {"x": x, "addend": x, "norm": x[0], "w": pack(w)}
    attributes = sizes(w) | {"epsilon": EPSILON, "gated": 0}
    run = session("scalar", "NormMatMulQ", values, {"y": 2}, attributes, ["w"])
    for damaged in ({"addend": x[:1]}, {"norm": x[0, :63]}):
        with pytest.raises(Exception, match="x, addend and norm are not of one width"):
            run.run(None, {"x": x, "addend": x, "norm": x[0]} | damaged)


@pytest.mark.parametrize(
    "row", [Row(96, 0, 0), Row(-1, 0, 0), Row(0, 2, 0), Row(0, -1, 0), Row(0, 0, 300), Row(0, 0, 10), Row(0, 0, -1)]
)
def test_a_graph_refuses_rows_that_are_nowhere(row: Row) -> None:
    decoder = DecoderSession(build(tiny.weights()).SerializeToString(), slots=2, capacity=10)
    with pytest.raises(RuntimeError, match=r"id -?\d+ is not among 96 rows|a row of sequence -?\d+ at position -?\d+"):
        decoder.run([Row(1, 0, 0), row], [0])
    assert decoder.run([Row(1, 0, 0)], [0]).shape == (1, 96)
    with pytest.raises(Exception, match="indices element out of data bounds"):
        decoder.run([Row(1, 0, 0)], [1])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("scale", [1e5, np.inf, np.nan, 1 / 3])
def test_factors_that_float16_does_not_hold_are_refused(bits: int, scale: float) -> None:
    w = hard_matrix(bits, 16, 32)
    factors = w.scales.copy()
    factors[3] = scale
    with pytest.raises(CheckpointError, match=r"^w: a block has a scale or an offset that float16 does not hold$"):
        pack(BlockMatrix(w.codes, factors, w.offsets), "w")


def refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(kernels.LIBRARY, str(path))
    with pytest.raises(kernels.KernelsError) as error:
        kernels.register(onnxruntime.SessionOptions())
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{path}: ")
    assert line.endswith(
        "; `make kernels` builds the operators that our graphs are made of, and TRIPTYCH_KERNELS may name another place"
    )
    return line.removeprefix(f"{path}: ").split("; ")[0]


def test_a_library_that_is_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(tmp_path / "none.so", monkeypatch) == "no such file"


@pytest.mark.parametrize("content", [b"", b"no library"])
def test_what_is_no_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    (path := tmp_path / "damaged.so").write_bytes(content)
    assert re.search("too short|invalid ELF header|not a mach-o|no suitable image", refused(path, monkeypatch))


@pytest.mark.parametrize("share", [0.001, 0.3, 0.6, 0.999])
def test_a_library_that_is_cut_short_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float) -> None:
    content = kernels.library().read_bytes()
    (path := tmp_path / "short.so").write_bytes(content[: int(share * len(content))])
    assert refused(path, monkeypatch) == "cut short"


def test_another_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime*"))
    assert "hotpath_kernels_version" in refused(path, monkeypatch)


def test_a_library_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "VERSION", 3)
    assert refused(kernels.library(), monkeypatch) == "version 2, not 3"


def test_a_path_that_this_processor_does_not_have_is_refused() -> None:
    complaint = r'HOTPATH_KERNELS: this processor cannot run kernels for "abacus"; it can for scalar'
    with pytest.raises(kernels.KernelsError, match=complaint), kernel_paths.forced("abacus"):
        kernels.register(onnxruntime.SessionOptions())


def test_angles_of_a_config_are_those_of_its_positions() -> None:
    cosines, sines = rotary_tables(tiny.CONFIG)
    assert cosines.shape == sines.shape == (tiny.CONFIG.context_tokens, tiny.CONFIG.head_dim // 2)
    np.testing.assert_allclose(cosines**2 + sines**2, 1, rtol=1e-6)
    np.testing.assert_allclose(sines[7, 0], np.sin(7), rtol=1e-6)
