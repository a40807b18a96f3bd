"""What every operator of an exported graph must keep on every processor, and that no graph has one that is not here.

A row has the same bits alone and in a batch, whatever kernel ONNX Runtime takes for so many rows, and products of
integers are those of integer arithmetic. That is promised for an operator in one precision, and may be broken by the
same operator in another: `MatMulNBits` with 4 bits gives a single row other bits where AVX2 is all that there is.
docs/processors.md says on which processors all of this was run.
"""

import platform
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_decoder
from onnx import TensorProto

from triptych_research import bundle, cpu
from triptych_research.classification import graph as classification
from triptych_research.classification.head import Head, HeadLabel
from triptych_research.decoder.blocks import BLOCK
from triptych_research.decoder.chunks import MIN_CHUNK_TOKENS, chunk_plan, largest_chunk
from triptych_research.decoder.export import GRAPHS
from triptych_research.decoder.graph import INT8_ACTIVATIONS, OPSET, build
from triptych_research.embedding import graph as embedding
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.embedding.quantize import Int8Weights
from triptych_research.graph import MICROSOFT, GraphBuilder, Tensor
from triptych_research.recipes import RECIPES
from triptych_research.sessions import open_session, session_options
from triptych_research.store import Store

TABLE = Path(__file__).parents[2] / "docs/processors.md"
pytestmark = pytest.mark.bits

RANDOM = np.random.default_rng(0)
ROWS = 33
BATCHES = (2, 3, 4, 5, 8, 13, 16, ROWS)  # another number of rows may be another kernel
# Inputs and outputs of a product: as many inputs as the default models have and few, and outputs that fill a kernel's
# tiles and that do not. An emulated processor multiplies some millions of numbers a second.
SHAPES = ((1536, 8), (576, 40), (64, 96), (64, 13))
INTEGER_PRODUCT = "MatMulIntegerToFloat"
ANYWHERE, EXACT_KERNELS = f"{INTEGER_PRODUCT}: uint8, int8, float32", f"{INTEGER_PRODUCT}: uint8, float32"

# Writes an operator that reads x [rows, inputs] and writes y [rows, any]; the numbers are inputs and outputs.
Write = Callable[[GraphBuilder, int, int], object]
Run = Callable[[np.ndarray], np.ndarray]
Level = onnxruntime.GraphOptimizationLevel


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def integers(low: int, high: int, dtype: type, *shape: int) -> np.ndarray:
    """Random ones, and in the first row and column nothing but the largest: if any sum overflows, theirs does."""
    values = RANDOM.integers(low, high, shape, dtype, endpoint=True)
    values[0] = values[:, 0] = high
    return values


def constants(graph: GraphBuilder, *values: np.ndarray | np.generic) -> list[str]:
    return [graph.constant(f"constant.{index}", value) for index, value in enumerate(values)]


def matmul(graph: GraphBuilder, inputs: int, outputs: int) -> None:
    graph.node("MatMul", ["x", *constants(graph, floats(inputs, outputs))], "y")


def gemm(graph: GraphBuilder, inputs: int, outputs: int) -> None:
    graph.node("Gemm", ["x", *constants(graph, floats(inputs, outputs), floats(outputs))], "y")


def gemm_transposed(
    graph: GraphBuilder, inputs: int, outputs: int, operator: str = "Gemm", domain: str = "", **attributes: object
) -> None:
    values = constants(graph, floats(outputs, inputs) * np.float32(0.1), floats(outputs))
    graph.node(operator, ["x", *values], "y", domain, transB=1, **attributes)


def gemm_sigmoid(graph: GraphBuilder, inputs: int, outputs: int) -> None:
    gemm_transposed(graph, inputs, outputs, "FusedGemm", MICROSOFT, activation="Sigmoid")


def integer_product(graph: GraphBuilder, inputs: int, outputs: int, weights: np.ndarray | None = None) -> None:
    one, weights = np.float32(1), integers(-127, 127, np.int8, inputs, outputs) if weights is None else weights
    values = constants(graph, weights, one, np.ones(outputs, np.float32), np.uint8(128))
    graph.node(INTEGER_PRODUCT, ["x", *values], "y", MICROSOFT)


def unsigned_product(graph: GraphBuilder, inputs: int, outputs: int, weights: np.ndarray | None = None) -> None:
    """The same with the weights shifted to be unsigned, as ONNX Runtime's exact kernels have them."""
    one, weights = np.float32(1), integers(-127, 127, np.int8, inputs, outputs) if weights is None else weights
    shifted = (weights.astype(np.int16) + 128).astype(np.uint8)
    values = constants(graph, shifted, one, np.ones(outputs, np.float32), np.uint8(128))
    graph.node(INTEGER_PRODUCT, ["x", *values, values[-1]], "y", MICROSOFT)


def blocks(inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """8-bit codes and their scales."""
    codes = integers(0, 255, np.uint8, outputs, inputs // BLOCK, BLOCK)
    return codes, floats(outputs, inputs // BLOCK)


def block_product(
    graph: GraphBuilder, inputs: int, outputs: int, weights: tuple[np.ndarray, np.ndarray] | None = None
) -> None:
    values = constants(graph, *(weights or blocks(inputs, outputs)))
    sizes = {"K": inputs, "N": outputs, "bits": 8, "block_size": BLOCK, "accuracy_level": INT8_ACTIVATIONS}
    graph.node("MatMulNBits", ["x", *values], "y", MICROSOFT, **sizes)


def of_x(operator: str, domain: str = "", times: int = 1, **attributes: object) -> Write:
    return lambda graph, inputs, outputs: graph.node(operator, ["x"] * times, "y", domain, **attributes)


def with_rows(operator: str, domain: str = "", rows: int = 1, **attributes: object) -> Write:
    """An operator that also reads constants with one number for each column."""

    def write(graph: GraphBuilder, inputs: int, _: int) -> None:
        graph.node(operator, ["x", *constants(graph, *floats(rows, inputs))], "y", domain, **attributes)

    return write


def skip_normalization(graph: GraphBuilder, inputs: int, _: int) -> None:
    graph.node("SkipSimplifiedLayerNormalization", ["x", "x", *constants(graph, floats(inputs))], "y", MICROSOFT)


def reduce_max(graph: GraphBuilder, *_: int) -> None:
    graph.node("ReduceMax", ["x", *constants(graph, np.array([-1], np.int64))], "y")


def quantize_and_back(graph: GraphBuilder, *_: int) -> None:
    """Each row with a scale of its own."""
    (axis,) = constants(graph, np.array([-1], np.int64))
    scales = graph.node("ReduceMax", [graph.node("Abs", ["x"], "magnitudes"), axis], "scales", keepdims=0)
    value = onnx.numpy_helper.from_array(np.array([128], np.uint8))
    zero_points = graph.node("ConstantOfShape", [graph.node("Shape", [scales], "count")], "zero_points", value=value)
    rows = graph.node("QuantizeLinear", ["x", scales, zero_points], "rows", axis=0)
    graph.node("DequantizeLinear", [rows, scales, zero_points], "y", axis=0)


ROW_BY_ROW: Mapping[str, Iterable[Write]] = {
    "MatMul: float32": [matmul],
    "Gemm: float32": [gemm, gemm_transposed],
    "FusedGemm, Sigmoid: float32": [gemm_sigmoid],
    "MatMulNBits, 8 bits, level 4: float32, uint8": [block_product],
    ANYWHERE: [integer_product],
    EXACT_KERNELS: [unsigned_product],
    "LayerNormalization: float32": [with_rows("LayerNormalization", rows=2, axis=-1)],
    "RMSNormalization: float32": [with_rows("RMSNormalization", axis=-1)],
    "SkipSimplifiedLayerNormalization: float32": [skip_normalization],
    "BiasGelu: float32": [with_rows("BiasGelu", MICROSOFT)],
    "QuickGelu: float32": [of_x("QuickGelu", MICROSOFT, alpha=1.0)],
    "Sigmoid: float32": [of_x("Sigmoid")],
    "Abs: float32": [of_x("Abs")],
    "ReduceMax: float32": [reduce_max],
    "Add: float32": [with_rows("Add"), of_x("Add", times=2)],
    "Sub: float32": [of_x("Sub", times=2)],
    "Mul: float32": [with_rows("Mul"), of_x("Mul", times=2)],
    "Sum: float32": [with_rows("Sum"), of_x("Sum", times=3)],
    "QuantizeLinear: float32, uint8": [quantize_and_back],
    "DequantizeLinear: uint8, float32": [quantize_and_back],
}
# Their rows are not those of a matrix, so they have tests of their own.
ATTENTION = {
    "GroupQueryAttention, causal: float32": "rows of any lengths that decode together; a prompt in chunks",
    "GroupQueryAttention, not causal: float32": "a text alone and beside longer ones",
}
# These move numbers, count, convert integers or, as the last one, multiply each number by a scale: no order of sums.
EXACT = {"Cast", "Concat", "ConstantOfShape", "Flatten", "Gather", "Identity", "Reshape", "Shape", "Split"}
EXACT |= {"GatherBlockQuantized"}
KNOWN = ROW_BY_ROW.keys() | ATTENTION.keys() | EXACT
# Indices, sizes and axes: what an operator reads them in is no precision.
COUNTS = {"int32", "int64"}
FLOATS = {"tensor(float)": "float32", "tensor(double)": "float64"}  # whose names here are others than NumPy's


def kind(node: onnx.NodeProto, types: Mapping[str, str]) -> str:
    """Name what a promise is about: an operator, with what decides which kernels it has, and its precision."""
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    match node.op_type:
        case operator if operator in EXACT:
            return str(operator)
        case "MatMulNBits":
            name = f"MatMulNBits, {attributes['bits']} bits, level {attributes['accuracy_level']}"
        case "FusedGemm":
            name = f"FusedGemm, {attributes['activation'].decode()}"
        case "GroupQueryAttention":
            name = f"GroupQueryAttention, {'causal' if attributes.get('causal', 1) else 'not causal'}"
        case operator:
            name = str(operator)
    read = dict.fromkeys(types[value] for value in node.input if value)
    return f"{name}: {', '.join(each for each in read if each not in COUNTS)}"


def open_at(
    graph: Path | bytes, level: onnxruntime.GraphOptimizationLevel, save: Path | None = None
) -> onnxruntime.InferenceSession:
    options = session_options()
    options.graph_optimization_level = level
    options.log_severity_level = 3  # else it warns that what is saved is for this processor alone
    if save is not None:
        options.optimized_model_filepath = str(save)
    content = graph if isinstance(graph, bytes) else str(graph)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def element_types(model: onnx.ModelProto) -> dict[str, str]:
    """Return the type of each value's elements: a session tells those of inputs and outputs, so all become outputs."""
    graph, every = model.graph, onnx.ModelProto()
    every.CopyFrom(model)
    told = {each.name for each in (*graph.input, *graph.output)}
    computed = {name for node in graph.node for name in node.output if name}
    every.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(computed - told))
    session = open_at(every.SerializeToString(), Level.ORT_DISABLE_ALL)
    types = {each.name: each.type for each in (*session.get_inputs(), *session.get_outputs())}
    types = {name: FLOATS.get(tensor, tensor[len("tensor(") : -1]) for name, tensor in types.items()}
    constants = {each.name: onnx.helper.tensor_dtype_to_np_dtype(each.data_type) for each in graph.initializer}
    return types | {name: str(dtype) for name, dtype in constants.items()}


def kinds(graph: Path | bytes, folder: Path) -> set[str]:
    """Return what a graph is made of: as it is written, and with what ONNX Runtime puts in the place of that here."""
    found, saved = set(), folder / "saved.onnx"
    for level in (Level.ORT_DISABLE_ALL, Level.ORT_ENABLE_ALL):
        open_at(graph, level, saved)
        model = onnx.load(saved)
        types = element_types(model)
        found |= {kind(node, types) for node in model.graph.node}
    return found


def test_exported_graphs_have_these_operators_and_no_others(
    checkpoint: Checkpoint, int8_weights: Int8Weights, tmp_path: Path
) -> None:
    head = Head("tiny", "0" * 64, [HeadLabel("rude", 0.5, False, 0.1, [0.1] * checkpoint.config.hidden_size)])
    exported = {
        "encoder, fp32": embedding.build(checkpoint, embedding.Float32Weights()),
        "encoder, int8": embedding.build(checkpoint, int8_weights),
        "head": classification.build(head),
        **{f"decoder, {form}": build(tiny_decoder.weights(), form) for form in GRAPHS},
    }
    used = {name: kinds(model.SerializeToString(), tmp_path) for name, model in exported.items()}
    unknown = {name: found - KNOWN for name, found in used.items() if found - KNOWN}
    assert not unknown, "operators or precisions whose promises no test here looks at"
    exact_kernels = platform.machine() in ("x86_64", "AMD64") and not cpu.has_int8_dot_product()
    elsewhere = set() if exact_kernels else {EXACT_KERNELS}
    assert set().union(*used.values()) == KNOWN - elsewhere, "no exported graph has these any more"


def promise(kind: str) -> str:
    if kind in EXACT:
        return "exact"
    if kind in (ANYWHERE, EXACT_KERNELS):
        return "rows, sums"
    return ATTENTION.get(kind, "rows")


def test_the_documents_have_this_table() -> None:
    written = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", TABLE.read_text(), re.M)
    assert len({(operator, precision) for operator, precision, _ in written}) == len(written)
    lines = {f"{operator}: {precision}".removesuffix(": any"): promised for operator, precision, promised in written}
    assert lines == {kind: promise(kind) for kind in KNOWN}


@pytest.mark.parametrize("name", RECIPES)
def test_default_models_have_no_other_operators(real_models: Store, name: str, tmp_path: Path) -> None:
    found = bundle.read(real_models.current_path(name))
    for graph in found.manifest.graphs:
        assert kinds(found.path / graph.file, tmp_path) <= KNOWN, graph.file


def test_an_operator_in_another_precision_is_noticed(tmp_path: Path) -> None:
    graph = GraphBuilder("double")
    graph.node("MatMul", ["x", graph.constant("weight", np.ones((8, 8)))], "y")
    model = graph.model([("x", TensorProto.DOUBLE, (1, 8))], [("y", TensorProto.DOUBLE, (1, 8))])
    assert kinds(model.SerializeToString(), tmp_path) - KNOWN == {"MatMul: float64"}


def opened(write: Write, shape: tuple[int, int], element: int = TensorProto.FLOAT) -> Run:
    graph = GraphBuilder("operator", OPSET)
    write(graph, *shape)
    model = graph.model([("x", element, ("rows", shape[0]))], [("y", TensorProto.FLOAT, ("rows", "columns"))])
    session = open_session(model.SerializeToString())

    def run(x: np.ndarray) -> np.ndarray:
        y: np.ndarray = session.run(None, {"x": x})[0]
        return y

    return run


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_a_row_has_the_same_bits_alone_and_in_a_batch(name: str, shape: tuple[int, int]) -> None:
    for write in ROW_BY_ROW[name]:
        if name in (ANYWHERE, EXACT_KERNELS):
            x, element = integers(0, 255, np.uint8, ROWS, shape[0]), TensorProto.UINT8
        else:
            x, element = floats(ROWS, shape[0]) * 3, TensorProto.FLOAT
        run = opened(write, shape, element)
        alone = np.concatenate([run(x[row : row + 1]) for row in range(ROWS)])
        assert np.isfinite(alone).all()
        for count in BATCHES:
            np.testing.assert_array_equal(run(x[:count]), alone[:count], f"in a batch of {count}")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("write", [integer_product, unsigned_product])
def test_products_of_integers_are_those_of_integer_arithmetic(
    write: Callable[[GraphBuilder, int, int, np.ndarray], None], shape: tuple[int, int]
) -> None:
    x, weights = integers(0, 255, np.uint8, ROWS, shape[0]), integers(-127, 127, np.int8, *shape)
    expected = ((x.astype(np.int64) - 128) @ weights.astype(np.int64)).astype(np.float32)
    run = opened(lambda graph, *_: write(graph, *shape, weights), shape, TensorProto.UINT8)
    for count in (1, *BATCHES):
        np.testing.assert_array_equal(run(x[:count]), expected[:count])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_in_blocks_are_those_of_rounded_activations(shape: tuple[int, int]) -> None:
    """What float32 loses in adding up blocks is all that is lost: a sum of integers that overflowed would show.

    On arm64 without dot products, activations are not rounded in the first place.
    """
    codes, scales = blocks(*shape)
    x = floats(ROWS, shape[0]).reshape(ROWS, -1, BLOCK)
    x[0], x[1] = 1, -1  # the largest integers, beside the largest codes
    steps = np.abs(x).max(axis=-1, keepdims=True).astype(np.float64) / 127  # [rows, blocks, 1]
    rounded = np.rint(x / steps) * steps
    weights = (codes.astype(np.float64) - 128) * scales[..., None]  # [outputs, blocks, 32]
    read = x if platform.machine() == "aarch64" and not cpu.has_int8_dot_product() else rounded
    expected = np.einsum("rbi,obi->ro", read, weights)
    largest = np.einsum("rbi,obi->ro", np.abs(rounded), np.abs(weights))
    run = opened(lambda graph, *_: block_product(graph, *shape, (codes, scales)), shape)
    for count in (1, *BATCHES):
        error = np.abs(run(x.reshape(ROWS, -1)[:count]) - expected[:count])
        assert (error / largest[:count]).max() < 1e-4


HEADS, KV_HEADS, CAPACITY = 2, 1, 160
LENGTHS = (1, 2, 17, 33, 64, 70)
HEAD_DIMS = pytest.mark.parametrize("head_dim", [16, 64])  # the small one has small tiles, which a prompt of 70 crosses


def attention(head_dim: int, inputs: list[str], extra: tuple[list[Tensor], list[Tensor]], **attributes: int) -> bytes:
    graph = GraphBuilder("attention", OPSET)
    more_inputs, more_outputs = extra
    outputs = ["y", *(name for name, *_ in more_outputs)]
    graph.nodes("GroupQueryAttention", inputs, outputs, MICROSOFT, num_heads=HEADS, **attributes)
    packed = ("x", TensorProto.FLOAT, ("batch", "tokens", "columns"))
    lengths = ("seqlens_k", TensorProto.INT32, ("batch",)), ("total", TensorProto.INT32, ())
    y = ("y", TensorProto.FLOAT, ("batch", "tokens", HEADS * head_dim))
    return graph.model([packed, *lengths, *more_inputs], [y, *more_outputs]).SerializeToString()


class CachedAttention:
    """The decoder's, with past and present in the same memory."""

    def __init__(self, head_dim: int) -> None:
        self.head_dim, self.columns = head_dim, (HEADS + 2 * KV_HEADS) * head_dim
        shape = ("batch", KV_HEADS, "capacity", head_dim)
        past: list[Tensor] = [(f"past_{side}", TensorProto.FLOAT, shape) for side in "kv"]
        present: list[Tensor] = [(f"present_{side}", TensorProto.FLOAT, shape) for side in "kv"]
        angles: list[Tensor] = [(name, TensorProto.FLOAT, (CAPACITY, head_dim // 2)) for name in ("cosines", "sines")]
        inputs = ["x", "", "", "past_k", "past_v", "seqlens_k", "total", "cosines", "sines"]
        graph = attention(head_dim, inputs, ([*past, *angles], present), kv_num_heads=KV_HEADS, do_rotary=1)
        self.session = open_session(graph)
        turns = np.outer(np.arange(CAPACITY), 100.0 ** (-np.arange(0, head_dim, 2) / head_dim))
        self.angles = {"cosines": np.cos(turns).astype(np.float32), "sines": np.sin(turns).astype(np.float32)}

    def cache(self, batch: int) -> list[np.ndarray]:
        return [floats(batch, KV_HEADS, CAPACITY, self.head_dim) for _ in "kv"]

    def run(self, x: np.ndarray, lengths: list[int], cache: list[np.ndarray]) -> np.ndarray:
        """Return what rows x [batch, tokens, columns] attend to; their keys and values go into the cache."""
        y = np.empty((*x.shape[:2], HEADS * self.head_dim), np.float32)
        sizes = {"seqlens_k": np.array(lengths, np.int32) - np.int32(1), "total": np.array(max(lengths), np.int32)}
        feeds = {"x": x, **sizes, **self.angles, "past_k": cache[0], "past_v": cache[1]}
        binding = self.session.io_binding()
        for name, value in feeds.items():
            binding.bind_input(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
        for name, value in (("y", y), ("present_k", cache[0]), ("present_v", cache[1])):
            binding.bind_output(name, "cpu", 0, value.dtype, value.shape, value.ctypes.data)
        self.session.run_with_iobinding(binding)
        return y


@HEAD_DIMS
def test_a_decoding_row_has_the_same_bits_alone_and_beside_rows_of_other_lengths(head_dim: int) -> None:
    decoder, batch = CachedAttention(head_dim), len(LENGTHS)
    x, past = floats(batch, 1, decoder.columns), decoder.cache(batch)
    caches = [[side[row : row + 1].copy() for side in past] for row in range(batch)]
    alone = [decoder.run(x[row : row + 1], [LENGTHS[row]], caches[row])[0] for row in range(batch)]
    for count in range(2, batch + 1):
        cache = [side[:count].copy() for side in past]
        np.testing.assert_array_equal(decoder.run(x[:count], list(LENGTHS[:count]), cache), alone[:count])
        for side in (0, 1):
            np.testing.assert_array_equal(cache[side], np.concatenate([each[side] for each in caches[:count]]))


@HEAD_DIMS
def test_a_prompt_has_the_same_bits_in_chunks(head_dim: int) -> None:
    decoder, tokens = CachedAttention(head_dim), LENGTHS[-1]
    x, past = floats(1, tokens, decoder.columns), decoder.cache(1)

    def prefilled(chunk_tokens: int) -> list[np.ndarray]:
        start, attended, cache = 0, [], [side.copy() for side in past]
        for size in chunk_plan(tokens, chunk_tokens):
            chunk = np.ascontiguousarray(x[:, start : start + size])
            attended.append(decoder.run(chunk, [start + size], cache)[0])
            start += size
        return [np.concatenate(attended), *cache]

    whole = prefilled(largest_chunk(head_dim))
    for chunk_tokens in (MIN_CHUNK_TOKENS, 12, 28):
        for part, expected in zip(prefilled(chunk_tokens), whole, strict=True):
            np.testing.assert_array_equal(part, expected, f"in chunks of {chunk_tokens}")


@HEAD_DIMS
def test_a_text_attends_with_the_same_bits_alone_and_beside_longer_ones(head_dim: int) -> None:
    inputs = ["x", "", "", "", "", "seqlens_k", "total"]
    session = open_session(attention(head_dim, inputs, ([], []), kv_num_heads=HEADS, causal=0))

    def run(texts: list[np.ndarray]) -> list[np.ndarray]:
        longest = max(map(len, texts))
        x = np.stack([np.pad(text, ((0, longest - len(text)), (0, 0))) for text in texts])
        lengths = np.array([len(text) - 1 for text in texts], np.int32)
        (y,) = session.run(None, {"x": x, "seqlens_k": lengths, "total": np.array(longest, np.int32)})
        return [row[: len(text)] for row, text in zip(y, texts, strict=True)]

    texts = [floats(length, 3 * HEADS * head_dim) for length in LENGTHS]
    alone = [run([text])[0] for text in texts]
    for count in range(2, len(texts) + 1):
        for row, expected in zip(run(texts[:count]), alone, strict=False):
            np.testing.assert_array_equal(row, expected)
