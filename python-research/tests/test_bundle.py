"""A bundle that is not what it says is refused, with the file and the field."""

import json
import os
import pathlib
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from conftest import Change, write_manifest

from triptych.bundle.v1 import bundle_pb2
from triptych_research import bundle, strict_json
from triptych_research.bundle import Bundle, BundleError

Rewrite = Callable[[Change], pathlib.Path]


def refused(path: pathlib.Path, complaint: str, check: Callable[[pathlib.Path], Bundle] = bundle.read) -> None:
    with pytest.raises(BundleError) as caught:
        check(path)
    assert complaint in str(caught.value)


@pytest.mark.bits
def test_a_whole_bundle_is_read_and_verified(tiny_bundle: Bundle) -> None:
    assert bundle.verify(tiny_bundle.path).manifest == tiny_bundle.manifest


@pytest.mark.parametrize("file", ["golden.json", "model.block_quantized.onnx", "tokenizer.json"])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_a_changed_byte_is_found(tiny_bundle: Bundle, file: str, place: float) -> None:
    content = bytearray((tiny_bundle.path / file).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (tiny_bundle.path / file).write_bytes(content)
    index = [entry.path for entry in tiny_bundle.manifest.files].index(file)
    refused(tiny_bundle.path, f"bundle.json: files[{index}].sha256: {file} has ")


def test_a_cut_file_is_found(tiny_bundle: Bundle) -> None:
    with (tiny_bundle.path / "tokenizer.json").open("r+b") as file:
        file.truncate(10)
    refused(tiny_bundle.path, "bundle.json: files[2].size_bytes: tokenizer.json has 10 bytes")


def test_a_missing_file_is_named(tiny_bundle: Bundle) -> None:
    (tiny_bundle.path / "golden.json").unlink()
    refused(tiny_bundle.path, "bundle.json: files[0].path: golden.json: No such file")


def test_a_missing_manifest_is_named(tiny_bundle: Bundle) -> None:
    (tiny_bundle.path / "bundle.json").unlink()
    refused(tiny_bundle.path, "bundle.json: ")


def test_a_file_that_the_manifest_does_not_know_is_refused(tiny_bundle: Bundle) -> None:
    (tiny_bundle.path / "notes.txt").touch()
    refused(tiny_bundle.path, "bundle.json: files: notes.txt is in the folder and not in the manifest")


def test_the_card_is_no_part_of_the_content(tiny_bundle: Bundle) -> None:
    (tiny_bundle.path / "CARD.md").write_text("measured on another day")
    assert bundle.read(tiny_bundle.path).revision == tiny_bundle.revision


def test_a_manifest_that_was_changed_has_another_revision(tiny_bundle: Bundle) -> None:
    manifest = tiny_bundle.path / "bundle.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"somebody", b"nobody"))
    refused(tiny_bundle.path, "bundle.json: revision: content is ")


def test_a_bundle_under_another_models_name_is_refused(tiny_bundle: Bundle) -> None:
    other = tiny_bundle.path.parent.rename(tiny_bundle.path.parent.with_name("other"))
    refused(other / tiny_bundle.revision, "bundle.json: name: tiny is not the folder's, other")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: setattr(m, "format_version", 1), "format_version"),
        (lambda m: setattr(m, "name", "Tiny"), "name"),
        (lambda m: setattr(m, "name", "../tiny"), "name"),
        (lambda m: setattr(m.source, "sha256", "0" * 63), "source.sha256"),
        (lambda m: setattr(m, "onnxruntime_version", "1.0.0"), "onnxruntime_version: checked with 1.0.0, this is "),
        (lambda m: setattr(m, "golden_file", "gold.json"), "golden_file"),
        (lambda m: setattr(m.tokenizer, "file", "other.json"), "tokenizer.file"),
        (lambda m: m.ClearField("tokenizer"), "tokenizer: missing"),
        (lambda m: setattr(m.files[0], "path", "../golden.json"), "files[0].path"),
        (lambda m: setattr(m.files[0], "sha256", "0" * 64), "files[0].sha256: golden.json has "),
        (lambda m: setattr(m.files[1], "size_bytes", 1), "files[1].size_bytes"),
        (lambda m: m.files.reverse(), "files"),
        (lambda m: m.files.append(m.files[-1]), "files"),
        (lambda m: m.files.insert(0, bundle_pb2.File(path="CARD.md", sha256="0" * 64, size_bytes=1)), "files"),
        (lambda m: m.graphs.append(m.graphs[0]), "graphs"),
        (lambda m: setattr(m.graphs[0], "file", "other.onnx"), "graphs[0].file"),
        (
            lambda m: setattr(m.graphs[0], "file", "tokenizer.json"),
            "graphs[0].file: tokenizer.json is not an ONNX model",
        ),
        (lambda m: setattr(m.graphs[0], "opset", 17), "graphs[0].opset: model.block_quantized.onnx has 18, not 17"),
        (lambda m: setattr(m.graphs[0].tolerance, "max_abs_error", -1), "graphs[0].tolerance.max_abs_error"),
        (lambda m: setattr(m.graphs[0].tolerance, "min_cosine", 1.1), "graphs[0].tolerance.min_cosine"),
        (
            lambda m: setattr(m.graphs[0].inputs[1], "name", "pad"),
            "graphs[0].inputs: model.block_quantized.onnx has input_ids, ",
        ),
        (lambda m: m.graphs[0].inputs.reverse(), "graphs[0].inputs: model.block_quantized.onnx has input_ids, "),
        (lambda m: m.graphs[0].inputs.pop(), "graphs[0].inputs: model.block_quantized.onnx has input_ids, "),
        (
            lambda m: setattr(m.graphs[0].inputs[1], "element_type", bundle_pb2.ELEMENT_TYPE_INT32),
            "graphs[0].inputs[1].element_type",
        ),
        (
            lambda m: m.graphs[0].inputs[1].shape.pop(),
            "graphs[0].inputs[1].shape: model.block_quantized.onnx has [tokens]",
        ),
        (
            lambda m: m.graphs[0].outputs[0].shape.append("1"),
            "graphs[0].outputs[0].shape: model.block_quantized.onnx has [tokens, 32]",
        ),
        (lambda m: setattr(m.tokenizer, "vocabulary_size", 10), "tokenizer.vocabulary_size"),
        (lambda m: setattr(m.tokenizer, "max_tokens", 3), "golden.json: embeddings[1].token_ids: more than 3"),
        (lambda m: m.embedding.dimensions.append(64), "embedding.dimensions"),
        (lambda m: m.embedding.dimensions.insert(0, 64), "golden.json: embeddings[0].vector: has 32 dimensions"),
    ],
)
def test_a_manifest_that_contradicts_itself_or_its_files_is_refused(
    with_manifest: Callable[[Change], pathlib.Path], change: Change, complaint: str
) -> None:
    refused(with_manifest(change), complaint)


def replace(tiny_bundle: Bundle, file: str, content: bytes) -> pathlib.Path:
    """Replace a file and make manifest and revision agree with it."""
    (tiny_bundle.path / file).write_bytes(content)
    files = {entry.path: (tiny_bundle.path / entry.path).read_bytes() for entry in tiny_bundle.manifest.files}
    del tiny_bundle.manifest.files[:]
    tiny_bundle.manifest.files.extend(bundle.describe_files(files))
    return write_manifest(tiny_bundle.path, strict_json.dump(tiny_bundle.manifest))


def replace_golden(tiny_bundle: Bundle, change: Callable[[bundle_pb2.GoldenFile], None]) -> pathlib.Path:
    assert isinstance(tiny_bundle.golden, bundle_pb2.GoldenFile)
    change(tiny_bundle.golden)
    return replace(tiny_bundle, "golden.json", strict_json.dump(tiny_bundle.golden))


def test_one_golden_length_is_not_enough(tiny_bundle: Bundle) -> None:
    path = replace_golden(tiny_bundle, lambda golden: golden.embeddings.__delitem__(slice(1, None)))
    refused(path, "golden.json: embeddings: at least two cases of different lengths")


def test_a_tokenizer_that_disagrees_is_refused(tiny_bundle: Bundle) -> None:
    def other_id(golden: bundle_pb2.GoldenFile) -> None:
        golden.embeddings[2].token_ids[1] = 9

    refused(replace_golden(tiny_bundle, other_id), "golden.json: embeddings[2].token_ids: tokenizer says ")


def test_a_tokenizer_that_pads_is_refused(tiny_bundle: Bundle) -> None:
    tokenizer = tiny_bundle.tokenizer()
    tokenizer.enable_padding(length=128)
    path = replace(tiny_bundle, "tokenizer.json", tokenizer.to_str().encode())
    refused(path, "tokenizer.json: padding and truncation must be null")


def test_a_file_that_is_no_tokenizer_is_refused(tiny_bundle: Bundle) -> None:
    refused(replace(tiny_bundle, "tokenizer.json", b"{}"), "tokenizer.json: ")


def test_a_graph_that_computes_something_else_is_refused(tiny_bundle: Bundle) -> None:
    model = onnx.load(tiny_bundle.path / "model.block_quantized.onnx")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("output.dense.bias"))
    values = onnx.numpy_helper.to_array(bias) + np.linspace(0, 1, 32, dtype=np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    path = replace(tiny_bundle, "model.block_quantized.onnx", model.SerializeToString())
    assert bundle.read(path)  # nothing to be seen from outside
    refused(path, "golden.json: embeddings[0].vector: max_abs_error is ", bundle.verify)


def test_a_vector_that_is_off_is_refused(tiny_bundle: Bundle) -> None:
    def off(golden: bundle_pb2.GoldenFile) -> None:
        golden.embeddings[1].vector[0] += 0.1

    path = replace_golden(tiny_bundle, off)
    refused(path, "golden.json: embeddings[1].vector: max_abs_error is 0.", bundle.verify)


def test_a_graph_that_does_not_run_is_refused(tiny_bundle: Bundle) -> None:
    model = onnx.load(tiny_bundle.path / "model.block_quantized.onnx")
    model.graph.node[3].op_type = "NoSuchOperator"
    path = replace(tiny_bundle, "model.block_quantized.onnx", model.SerializeToString())
    refused(path, "bundle.json: graphs[0].file: model.block_quantized.onnx does not run: ", bundle.verify)


@pytest.mark.parametrize("file", ["bundle.json", "golden.json", "CARD.md"])
def test_a_file_that_is_too_large_is_refused_before_it_is_read(tiny_bundle: Bundle, file: str) -> None:
    with (tiny_bundle.path / file).open("ab") as content:
        content.truncate(2**40)  # a hole, which takes no space
    refused(tiny_bundle.path, f"{file}")


def test_a_card_of_the_largest_size_is_read_and_a_larger_one_is_not(tiny_bundle: Bundle) -> None:
    (tiny_bundle.path / "CARD.md").write_bytes(bytes(bundle.MAX_CARD_BYTES))
    bundle.read(tiny_bundle.path)
    (tiny_bundle.path / "CARD.md").write_bytes(bytes(bundle.MAX_CARD_BYTES + 1))
    refused(tiny_bundle.path, "CARD.md: 16777217 bytes; at most 16777216 are read")


def test_a_file_of_the_largest_size_is_read_and_a_larger_one_is_not(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = max(file.size_bytes for file in tiny_bundle.manifest.files)
    monkeypatch.setattr(bundle, "MAX_FILE_BYTES", largest)
    bundle.read(tiny_bundle.path)
    monkeypatch.setattr(bundle, "MAX_FILE_BYTES", largest - 1)
    refused(tiny_bundle.path, f": {largest} bytes; at most {largest - 1} are read")


@pytest.mark.parametrize("file", ["bundle.json", "golden.json", "model.block_quantized.onnx", "CARD.md"])
@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_what_is_no_plain_file_is_refused_and_not_waited_for(tiny_bundle: Bundle, file: str, kind: str) -> None:
    path = tiny_bundle.path / file
    path.unlink(missing_ok=True)
    if kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path)
    refused(tiny_bundle.path, "not a plain file")


def test_a_tokenizer_that_ends_its_process_is_refused(tiny_bundle: Bundle) -> None:
    tokenizer = json.loads((tiny_bundle.path / "tokenizer.json").read_text())
    endless = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    path = replace(tiny_bundle, "tokenizer.json", json.dumps(tokenizer | {"pre_tokenizer": endless}).encode())
    refused(path, "tokenizer.json: Onig: Regex search error: retry-limit-in-match over")
