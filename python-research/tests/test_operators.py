"""What every operator of an exported graph must keep on every processor, and that no graph has one that is not here.

A row has the same bits alone and in a batch, whatever kernel ONNX Runtime takes for so many rows. That is promised for
an operator in one precision, and may be broken by the same operator in another. Our own operators promise more, which
test_kernels.py looks at. docs/processors.md says on which processors all of this was run.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny_decoder
from onnx import TensorProto

from triptych_research import bundle, kernels
from triptych_research.classification import graph as classification
from triptych_research.classification.head import Head, HeadLabel
from triptych_research.decoder.graph import build
from triptych_research.embedding import graph as embedding
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.graph import MICROSOFT, GraphBuilder
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

# Writes an operator that reads x [rows, inputs] and writes y [rows, any]; the numbers are inputs and outputs.
Write = Callable[[GraphBuilder, int, int], object]
Run = Callable[[np.ndarray], np.ndarray]
Level = onnxruntime.GraphOptimizationLevel


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def constants(graph: GraphBuilder, *values: np.ndarray | np.generic) -> list[str]:
    return [graph.constant(f"constant.{index}", value) for index, value in enumerate(values)]


def gemm(graph: GraphBuilder, inputs: int, outputs: int) -> None:
    graph.node("Gemm", ["x", *constants(graph, floats(inputs, outputs), floats(outputs))], "y")


def gemm_transposed(
    graph: GraphBuilder, inputs: int, outputs: int, operator: str = "Gemm", domain: str = "", **attributes: object
) -> None:
    values = constants(graph, floats(outputs, inputs) * np.float32(0.1), floats(outputs))
    graph.node(operator, ["x", *values], "y", domain, transB=1, **attributes)


def gemm_sigmoid(graph: GraphBuilder, inputs: int, outputs: int) -> None:
    gemm_transposed(graph, inputs, outputs, "FusedGemm", MICROSOFT, activation="Sigmoid")


def sigmoid(graph: GraphBuilder, *_: int) -> None:
    graph.node("Sigmoid", ["x"], "y")


ROW_BY_ROW: Mapping[str, Iterable[Write]] = {
    "Gemm: float32": [gemm, gemm_transposed],
    "FusedGemm, Sigmoid: float32": [gemm_sigmoid],
    "Sigmoid: float32": [sigmoid],
}
# These move numbers, count or convert integers: there is no order of sums.
EXACT = {"Gather", "Slice"}
# Whatever the precision, to the last bit what is defined.
OWN = {
    "AddLayerNorm",
    "CachedAttention",
    "GatherQ",
    "LayerNormMatMulQ",
    "MatMulQ",
    "NormMatMulQ",
    "PackedAttention",
}
KNOWN = ROW_BY_ROW.keys() | EXACT | OWN
# Indices, sizes and axes: what an operator reads them in is no precision.
COUNTS = {"int32", "int64"}
FLOATS = {"tensor(float)": "float32", "tensor(double)": "float64"}  # whose names here are others than NumPy's


def kind(node: onnx.NodeProto, types: Mapping[str, str]) -> str:
    """Name what a promise is about: an operator, with what decides which kernels it has, and its precision."""
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    match node.op_type:
        case operator if operator in EXACT or node.domain == kernels.DOMAIN:
            return str(operator)
        case "FusedGemm":
            name = f"FusedGemm, {attributes['activation'].decode()}"
        case operator:
            name = str(operator)
    read = dict.fromkeys(types[value] for value in node.input if value)
    return f"{name}: {', '.join(each for each in read if each not in COUNTS)}"


def open_at(
    graph: Path | bytes, level: onnxruntime.GraphOptimizationLevel, save: Path | None = None
) -> onnxruntime.InferenceSession:
    options = session_options()
    kernels.register(options)
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


def test_exported_graphs_have_these_operators_and_no_others(checkpoint: Checkpoint, tmp_path: Path) -> None:
    head = Head("tiny", "0" * 64, [HeadLabel("rude", 0.5, False, 0.1, [0.1] * checkpoint.config.hidden_size)])
    exported = {
        "encoder": embedding.build(checkpoint),
        "head": classification.build(head),
        "decoder": build(tiny_decoder.odd_vocabulary()),
    }
    used = {name: kinds(model.SerializeToString(), tmp_path) for name, model in exported.items()}
    unknown = {name: found - KNOWN for name, found in used.items() if found - KNOWN}
    assert not unknown, "operators or precisions whose promises no test here looks at"
    assert set().union(*used.values()) == KNOWN, "no exported graph has these any more"


def promise(kind: str) -> str:
    if kind in OWN:
        return "bits"
    return "exact" if kind in EXACT else "rows"


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


def opened(write: Write, shape: tuple[int, int]) -> Run:
    graph = GraphBuilder("operator")
    write(graph, *shape)
    model = graph.model([("x", TensorProto.FLOAT, ("rows", shape[0]))], [("y", TensorProto.FLOAT, ("rows", "columns"))])
    session = open_session(model.SerializeToString())

    def run(x: np.ndarray) -> np.ndarray:
        y: np.ndarray = session.run(None, {"x": x})[0]
        return y

    return run


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_a_row_has_the_same_bits_alone_and_in_a_batch(name: str, shape: tuple[int, int]) -> None:
    for write in ROW_BY_ROW[name]:
        x, run = floats(ROWS, shape[0]) * 3, opened(write, shape)
        alone = np.concatenate([run(x[row : row + 1]) for row in range(ROWS)])
        assert np.isfinite(alone).all()
        for count in BATCHES:
            np.testing.assert_array_equal(run(x[:count]), alone[:count], f"in a batch of {count}")
