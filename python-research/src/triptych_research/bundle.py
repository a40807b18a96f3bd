"""The bundle: a folder that the hot path can serve, and the manifest that says what is in it.

`read` believes nothing: every field must be there, every file must have its hash, every graph must have the inputs that
the manifest names. `verify` also replays the golden cases. The layout is described in docs/architecture.md.
"""

import errno
import hashlib
import os
import pathlib
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from tokenizers import Tokenizer

from triptych.bundle.v1 import bundle_pb2
from triptych_research import kernels, strict_json, tasks, tokenizer_file
from triptych_research.classification.encoders import TextEncoder
from triptych_research.embedding.inference import Encoder
from triptych_research.golden import GoldenError
from triptych_research.graph import MICROSOFT
from triptych_research.json_fields import CheckpointError
from triptych_research.sources import Source, max_bytes

FORMAT_VERSION = 2
MANIFEST = "bundle.json"
# What was measured when the bundle was made (card.py). It differs from run to run, so no revision names it.
CARD, MEASUREMENTS, QUALITY_PLOT, SPEED_PLOT = "CARD.md", "measurements.json", "quality.png", "speed.png"
CARD_FILES = frozenset({CARD, MEASUREMENTS, QUALITY_PLOT, SPEED_PLOT})
MAX_FILE_BYTES = 2**31 - 1  # of each that the manifest names; the largest is a graph, which is one protobuf message
MAX_CARD_BYTES = 16 * 2**20  # of each of CARD_FILES
NAME = re.compile(r"[a-z][a-z0-9._-]{0,63}")
REVISION = re.compile(r"[0-9a-f]{16}")

MAY_BE_EMPTY = frozenset(
    {
        "triptych.bundle.v1.Tensor.shape",  # of a scalar
        "triptych.bundle.v1.Graph.operator_sets",  # of a graph that has enough in those of ONNX Runtime
        "triptych.bundle.v1.GenerationTask.chat_template",  # of a model that only continues text
        "triptych.bundle.v1.Manifest.tokenizer",  # of a head, which uses its encoder's
    }
)

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ELEMENT_TYPES: Mapping[int, bundle_pb2.ElementType] = {
    onnx.TensorProto.FLOAT16: bundle_pb2.ELEMENT_TYPE_FLOAT16,
    onnx.TensorProto.FLOAT: bundle_pb2.ELEMENT_TYPE_FLOAT32,
    onnx.TensorProto.INT32: bundle_pb2.ELEMENT_TYPE_INT32,
    onnx.TensorProto.INT64: bundle_pb2.ELEMENT_TYPE_INT64,
}


class BundleError(Exception):
    """A bundle is not what it says; the message names file and field."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found whole."""

    path: pathlib.Path
    manifest: bundle_pb2.Manifest
    golden: tasks.GoldenFile

    @property
    def revision(self) -> str:
        return self.path.name

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_file(str(self.path / self.manifest.tokenizer.file))

    def encoder(self, graph: bundle_pb2.Graph, threads: int = 1) -> Encoder:
        return Encoder(self.path / graph.file, self.manifest.embedding.normalize, threads)


def check_name(name: str) -> None:
    """Raise BundleError unless a model may be named so."""
    if not NAME.fullmatch(name):
        raise BundleError(f"{name}: a model's name is 1 to 64 of a-z, 0-9, '.', '-' and '_', beginning with a letter")


def revision_of(manifest: bytes) -> str:
    """Return the revision that a manifest's bytes name."""
    return hashlib.sha256(manifest).hexdigest()[:16]


def with_manifest(
    name: str, source: Source, files: Mapping[str, bytes], partial: bundle_pb2.Manifest
) -> dict[str, bytes]:
    """Return a bundle's files with their manifest: `partial`, which says what the task needs, made complete."""
    manifest = bundle_pb2.Manifest(
        format_version=FORMAT_VERSION,
        name=name,
        source=bundle_pb2.Source(
            uri=source.pinned_uri, sha256=source.sha256, license=source.license, owner=source.owner
        ),
        files=describe_files(files),
        onnxruntime_version=onnxruntime.__version__,
    )
    manifest.MergeFrom(partial)
    return {**files, MANIFEST: strict_json.dump(manifest)}


def describe_files(files: Mapping[str, bytes]) -> list[bundle_pb2.File]:
    """Return the manifest's entries of some files."""
    return [
        bundle_pb2.File(path=path, sha256=hashlib.sha256(files[path]).hexdigest(), size_bytes=len(files[path]))
        for path in sorted(files)
    ]


def describe_graph(
    model: onnx.ModelProto,
    *,
    file: str,
    precision: bundle_pb2.Precision,
    tolerance: bundle_pb2.Tolerance,
) -> bundle_pb2.Graph:
    """Return the manifest's entry of a graph, its signature taken from the graph itself."""
    return bundle_pb2.Graph(
        precision=precision,
        file=file,
        opset=_opset(model),
        inputs=_describe_tensors(list(model.graph.input)),
        outputs=_describe_tensors(list(model.graph.output)),
        tolerance=tolerance,
        operator_sets=_operator_sets(model),
    )


def _operator_sets(model: onnx.ModelProto) -> list[bundle_pb2.OperatorSet]:
    """Return the sets of operators that a graph imports beyond those of ONNX and ONNX Runtime."""
    return [
        bundle_pb2.OperatorSet(domain=opset.domain, version=opset.version)
        for opset in model.opset_import
        if opset.domain not in ("", "ai.onnx", MICROSOFT)
    ]


def _describe_tensors(values: list[onnx.ValueInfoProto]) -> list[bundle_pb2.Tensor]:
    return [
        bundle_pb2.Tensor(
            name=value.name,
            element_type=_ELEMENT_TYPES.get(value.type.tensor_type.elem_type, bundle_pb2.ELEMENT_TYPE_UNSPECIFIED),
            shape=[axis.dim_param or str(axis.dim_value) for axis in value.type.tensor_type.shape.dim],
        )
        for value in values
    ]


def read(path: pathlib.Path) -> Bundle:
    """Read and check a bundle: manifest, hashes, and that graphs and golden cases are what the manifest says.

    Raises BundleError. Does not run the model: `verify` does.
    """
    content = _content(path, MANIFEST)
    try:
        manifest = strict_json.parse(content, bundle_pb2.Manifest, MANIFEST, MAY_BE_EMPTY)
        _check_manifest(manifest)
        if path.name != revision_of(content):
            raise BundleError(
                f"{MANIFEST}: revision: content is {revision_of(content)}, the folder is named {path.name}"
            )
        if path.resolve().parent.name != manifest.name:
            raise BundleError(f"{MANIFEST}: name: {manifest.name} is not the folder's, {path.resolve().parent.name}")
        _check_files(path, manifest)
        for index, graph in enumerate(manifest.graphs):
            _check_graph(path, graph, f"{MANIFEST}: graphs[{index}]")
        golden_type = tasks.of(manifest).golden_type
        cases = strict_json.parse(_content(path, manifest.golden_file), golden_type, manifest.golden_file)
    except strict_json.StrictJsonError as error:
        raise BundleError(str(error)) from error
    bundle = Bundle(path, manifest, cases)
    _check_golden(bundle)
    return bundle


# A model's name to the folder of its current revision.
FindCurrent = Callable[[str], pathlib.Path]


def verify(path: pathlib.Path, find_current: FindCurrent | None = None) -> Bundle:
    """Read a bundle and replay its golden cases on every graph. Raises BundleError, and what `find_current` raises.

    A head is replayed on the vectors of its encoder's current bundle, which `find_current` has to find.
    """
    bundle = read(path)
    encoders = text_encoders(bundle, find_current) if bundle.manifest.HasField("classification") else []
    for index, graph in enumerate(bundle.manifest.graphs):
        try:
            tasks.of(bundle.manifest).replay(path, bundle.manifest, bundle.golden, index, encoders)
        except GoldenError as error:
            raise BundleError(f"{bundle.manifest.golden_file}: {error} ({graph.file})") from error
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise BundleError(f"{MANIFEST}: graphs[{index}].file: {graph.file} does not run: {error}") from error
    return bundle


def is_head(path: pathlib.Path) -> bool:
    """Tell whether a bundle is a head, which needs another model."""
    return read(path).manifest.HasField("classification")


def text_encoders(bundle: Bundle, find_current: FindCurrent | None) -> list[TextEncoder]:
    """Return the current encoder of a head, once for each of its graphs. Raises BundleError if it is another one."""
    task = bundle.manifest.classification
    if find_current is None:
        raise BundleError(f"{MANIFEST}: classification.encoder: {task.encoder} is needed to replay the golden cases")
    encoder = read(find_current(task.encoder))
    if not encoder.manifest.HasField("embedding"):
        raise BundleError(f"{MANIFEST}: classification.encoder: {task.encoder} makes no vectors")
    trained_on, found = task.encoder_sha256, encoder.manifest.source.sha256
    if found != trained_on:
        raise BundleError(
            f"{MANIFEST}: classification.encoder_sha256: {trained_on}; the current {task.encoder} is made of {found}"
        )
    limit, tokenizer = encoder.manifest.tokenizer.max_tokens, encoder.tokenizer()
    return [TextEncoder(tokenizer, limit, encoder.encoder(graph)) for graph in encoder.manifest.graphs]


def _content(path: pathlib.Path, file: str, at_most: int = strict_json.MAX_MESSAGE_BYTES) -> bytes:
    try:
        size = _status(path / file).st_size
        if size > at_most:
            raise BundleError(f"{file}: {size} bytes; at most {at_most} are read")
        return (path / file).read_bytes()
    except OSError as error:
        raise BundleError(f"{file}: {path}: {error.strerror}") from error


def _status(path: pathlib.Path) -> os.stat_result:
    """Return a plain file's status: of others, as devices are, some have no end. Raises OSError."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a plain file")
    return status


def _check_manifest(manifest: bundle_pb2.Manifest) -> None:
    paths = [file.path for file in manifest.files]
    precisions = [graph.precision for graph in manifest.graphs]
    checks: dict[str, object] = {
        "format_version": manifest.format_version == FORMAT_VERSION,
        "name": NAME.fullmatch(manifest.name),
        "source.sha256": _SHA256.fullmatch(manifest.source.sha256),
    }
    for index, file in enumerate(manifest.files):
        checks[f"files[{index}].path"] = _FILE_NAME.fullmatch(file.path)
        checks[f"files[{index}].sha256"] = _SHA256.fullmatch(file.sha256)
    if manifest.HasField("tokenizer") == manifest.HasField("classification"):
        wrong = "not of a head, which uses its encoder's" if manifest.HasField("tokenizer") else "missing"
        raise BundleError(f"{MANIFEST}: tokenizer: {wrong}")
    checks |= {
        "files": paths == sorted(set(paths)) and not set(paths) & {MANIFEST, *CARD_FILES},
        "graphs": len(set(precisions)) == len(precisions),
        "tokenizer.file": not manifest.HasField("tokenizer") or manifest.tokenizer.file in paths,
        "golden_file": manifest.golden_file in paths,
    }
    checks |= tasks.of(manifest).manifest_checks(manifest)
    for index, graph in enumerate(manifest.graphs):
        checks[f"graphs[{index}].file"] = graph.file in paths
        checks[f"graphs[{index}].tolerance.max_abs_error"] = graph.tolerance.max_abs_error > 0
        checks[f"graphs[{index}].tolerance.min_cosine"] = 0 < graph.tolerance.min_cosine <= 1
    for field, good in checks.items():
        if not good:
            raise BundleError(f"{MANIFEST}: {field}: not a value that this format allows")
    if manifest.onnxruntime_version != onnxruntime.__version__:
        versions = f"checked with {manifest.onnxruntime_version}, this is {onnxruntime.__version__}"
        raise BundleError(f"{MANIFEST}: onnxruntime_version: {versions}")


def _check_files(path: pathlib.Path, manifest: bundle_pb2.Manifest) -> None:
    for index, file in enumerate(manifest.files):
        field = f"{MANIFEST}: files[{index}]"
        try:
            size = _status(path / file.path).st_size
            if size != file.size_bytes:
                raise BundleError(f"{field}.size_bytes: {file.path} has {size} bytes, not {file.size_bytes}")
            if size > MAX_FILE_BYTES:
                raise BundleError(f"{field}.size_bytes: {file.path}: {size} bytes; at most {MAX_FILE_BYTES} are read")
            with (path / file.path).open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise BundleError(f"{field}.path: {file.path}: {error.strerror}") from error
        if digest != file.sha256:
            raise BundleError(f"{field}.sha256: {file.path} has {digest}, not {file.sha256}")
    known = {MANIFEST, *CARD_FILES, *(file.path for file in manifest.files)}
    if unknown := sorted({entry.name for entry in path.iterdir()} - known):
        raise BundleError(f"{MANIFEST}: files: {unknown[0]} is in the folder and not in the manifest")
    for name in sorted(CARD_FILES):
        if (path / name).exists():
            _content(path, name, MAX_CARD_BYTES)


def _check_graph(path: pathlib.Path, graph: bundle_pb2.Graph, field: str) -> None:
    try:
        model = onnx.load_model_from_string((path / graph.file).read_bytes())
    except DecodeError as error:
        raise BundleError(f"{field}.file: {graph.file} is not an ONNX model") from error
    if _opset(model) != graph.opset:
        raise BundleError(f"{field}.opset: {graph.file} has {_opset(model)}, not {graph.opset}")
    if _operator_sets(model) != list(graph.operator_sets):
        raise BundleError(f"{field}.operator_sets: not what {graph.file} imports")
    for index, stated in enumerate(graph.operator_sets):
        if (stated.domain, stated.version) != (kernels.DOMAIN, kernels.VERSION):
            needs, has = f"{stated.domain} {stated.version}", f"{kernels.DOMAIN} {kernels.VERSION}"
            raise BundleError(f"{field}.operator_sets[{index}]: {graph.file} needs {needs}, and here is {has}")
    _check_tensors(list(model.graph.input), list(graph.inputs), graph.file, f"{field}.inputs")
    _check_tensors(list(model.graph.output), list(graph.outputs), graph.file, f"{field}.outputs")


def _opset(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set; 0 when the graph uses none."""
    return next((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), 0)


def _check_tensors(values: list[onnx.ValueInfoProto], stated: list[bundle_pb2.Tensor], file: str, field: str) -> None:
    actual = _describe_tensors(values)
    if [tensor.name for tensor in actual] != [tensor.name for tensor in stated]:
        names = ", ".join(tensor.name for tensor in actual)
        raise BundleError(f"{field}: {file} has {names}")
    for index, (has, states) in enumerate(zip(actual, stated, strict=True)):
        if has.element_type != states.element_type:
            raise BundleError(f"{field}[{index}].element_type: differs from {file}")
        if has.shape != states.shape:
            raise BundleError(f"{field}[{index}].shape: {file} has [{', '.join(has.shape)}]")


def _check_golden(bundle: Bundle) -> None:
    manifest, file = bundle.manifest, bundle.manifest.golden_file
    tokenizer = _tokenizer(bundle) if manifest.HasField("tokenizer") else None
    try:
        tasks.of(manifest).check_cases(manifest, bundle.golden, tokenizer)
    except GoldenError as error:
        raise BundleError(f"{file}: {error}") from error


def _tokenizer(bundle: Bundle) -> Tokenizer:
    manifest = bundle.manifest
    file = manifest.tokenizer.file
    try:
        tokenizer = tokenizer_file.load(_content(bundle.path, file, max_bytes("tokenizer.json")), file)
    except CheckpointError as error:
        raise BundleError(str(error)) from error
    if tokenizer.padding or tokenizer.truncation:
        raise BundleError(f"{file}: padding and truncation must be null: the service decides both")
    if tokenizer.get_vocab_size() > manifest.tokenizer.vocabulary_size:
        raise BundleError(f"{MANIFEST}: tokenizer.vocabulary_size: the tokenizer has {tokenizer.get_vocab_size()}")
    return tokenizer
