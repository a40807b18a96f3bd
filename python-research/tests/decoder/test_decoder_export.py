"""A generation bundle: whole when it is made, and refused with file and field when it is not what it says."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny_decoder as tiny
from conftest import CACHE

from triptych.bundle.v1 import bundle_pb2
from triptych_research import bundle, cpu, kernels, strict_json, texts
from triptych_research.bundle import BundleError
from triptych_research.decoder import golden, quality
from triptych_research.decoder.checkpoint import DecoderCheckpoint, load
from triptych_research.decoder.export import Generation, build_graphs
from triptych_research.export import Exported, bundle_files
from triptych_research.export import export as export_recipe
from triptych_research.family import ExportError
from triptych_research.recipes import Recipe
from triptych_research.sources import Source
from triptych_research.store import Store

Edit = Callable[[bundle_pb2.Manifest], None]
EditGolden = Callable[[bundle_pb2.GenerationGoldenFile], None]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write_gguf(folder / "tiny.gguf", tiny.dense_weights())
    return Source("file:tiny", "0" * 64, "MIT", "nobody", folder)


@pytest.fixture(scope="module")
def checkpoint(source: Source) -> DecoderCheckpoint:
    return load(source)


@pytest.fixture(scope="module")
def files(source: Source, checkpoint: DecoderCheckpoint) -> dict[str, bytes]:
    return bundle_files("tiny", source, Generation(), checkpoint, build_graphs(checkpoint))


def write(root: Path, files: dict[str, bytes]) -> Path:
    path = root / "tiny" / bundle.revision_of(files[bundle.MANIFEST])
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def changed(
    files: dict[str, bytes], edit: Edit | None = None, edit_golden: EditGolden | None = None
) -> dict[str, bytes]:
    """The files with manifest and golden cases changed, and hashes that agree with that."""
    content = {name: value for name, value in files.items() if name != bundle.MANIFEST}
    if edit_golden is not None:
        cases = strict_json.parse(content["golden.json"], bundle_pb2.GenerationGoldenFile, "golden.json")
        edit_golden(cases)
        content["golden.json"] = strict_json.dump(cases)
    manifest = strict_json.parse(files[bundle.MANIFEST], bundle_pb2.Manifest, "bundle.json", bundle.MAY_BE_EMPTY)
    del manifest.files[:]
    manifest.files.extend(bundle.describe_files(content))
    if edit is not None:
        edit(manifest)
    return content | {bundle.MANIFEST: strict_json.dump(manifest)}


def test_a_bundle_is_stored_verified_and_promoted(tmp_path: Path, files: dict[str, bytes]) -> None:
    store = Store(tmp_path)
    revision = store.add("tiny", files)
    store.promote("tiny", revision)
    found = bundle.read(store.current_path("tiny"))
    assert found.manifest.WhichOneof("task") == "generation"
    (graph,) = found.manifest.graphs
    assert graph.file == "model.block_quantized.onnx"
    assert [(each.domain, each.version) for each in graph.operator_sets] == [(kernels.DOMAIN, kernels.VERSION)]
    assert found.manifest.generation.golden_processor == cpu.rounding()
    assert list(found.manifest.generation.stop_token_ids) == [0]


def test_the_same_source_makes_the_same_bundle(
    source: Source, checkpoint: DecoderCheckpoint, files: dict[str, bytes]
) -> None:
    graphs = build_graphs(checkpoint)
    assert bundle_files("tiny", source, Generation(), checkpoint, graphs) == files


def test_a_model_without_chat_template_has_a_bundle_too(
    tmp_path: Path, source: Source, checkpoint: DecoderCheckpoint
) -> None:
    plain = dataclasses.replace(checkpoint, chat_markup=[])
    graphs = build_graphs(plain)
    path = write(tmp_path, bundle_files("tiny", source, Generation(), plain, graphs))
    cases = bundle.verify(path).golden
    assert isinstance(cases, bundle_pb2.GenerationGoldenFile)
    assert {case.WhichOneof("prompt") for case in cases.generations} == {"text"}


LAX, STRICT = (quality.Bounds(max_nll_increase=9, max_kl=bound, min_top1=0, max_part_kl=9) for bound in (9, 0))


@dataclasses.dataclass(frozen=True)
class TinyOrigin:
    """The tiny model."""

    source: Source

    def identity(self) -> str:
        return "tiny"

    def fetch(self, cache: Path) -> Source:
        return self.source


def export_tiny(source: Source, store: Store, monkeypatch: pytest.MonkeyPatch, bounds: quality.Bounds) -> Exported:
    monkeypatch.setattr(quality, "BOUNDS", bounds)
    recipe = Recipe("tiny", TinyOrigin(source), Generation())
    return export_recipe(recipe, store, CACHE, lambda _title: contextlib.nullcontext())


def test_a_graph_within_bounds_is_exported(tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    exported = export_tiny(source, store, monkeypatch, LAX)
    assert not exported.left_out
    found = bundle.verify(store.path("tiny", exported.revision))
    assert "| mean divergence (KL, nats) | 0.0" in (found.path / bundle.CARD).read_text()


def test_of_a_graph_out_of_bounds_there_is_no_bundle(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ExportError, match=r"^no graph keeps enough of the model: block_quantized: kl is .*, above 0$"):
        export_tiny(source, Store(tmp_path), monkeypatch, STRICT)
    assert not list(tmp_path.iterdir())


def test_of_a_graph_whose_values_float16_does_not_hold_there_is_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tiny.dense_weights()
    first, *others = plain.decoder_layers
    large = dataclasses.replace(first, value=first.value * np.float32(3e4))
    folder = tmp_path / "large"
    folder.mkdir()
    tiny.write_gguf(folder / "tiny.gguf", dataclasses.replace(plain, decoder_layers=(large, *others)))
    source = Source("file:tiny", "0" * 64, "MIT", "nobody", folder)
    with pytest.raises(ExportError, match="a key or value is 65,504 or more, which float16 does not hold"):
        export_tiny(source, Store(tmp_path / "store"), monkeypatch, LAX)


def test_answers_out_of_tolerance_are_a_reason_too(files: dict[str, bytes], checkpoint: DecoderCheckpoint) -> None:
    def edit(cases: bundle_pb2.GenerationGoldenFile) -> None:
        cases.generations[2].graphs[0].next_token_logits[0] += 10

    card = Generation().judge(checkpoint, changed(files, edit_golden=edit), texts.load)
    assert "generations[2]: max_abs_error of the logits is " in card.left_out["block_quantized"]


def _stop_at(*ids: int) -> Edit:
    def edit(manifest: bundle_pb2.Manifest) -> None:
        manifest.generation.stop_token_ids[:] = ids

    return edit


@pytest.mark.parametrize(
    ("edit", "field"),
    [
        (lambda manifest: setattr(manifest.generation.kv_cache, "layers", 3), "generation.kv_cache"),
        (lambda manifest: setattr(manifest.generation.kv_cache, "head_dimensions", 8), "generation.kv_cache"),
        (_stop_at(96), "generation.stop_token_ids"),
        (_stop_at(1, 0), "generation.stop_token_ids"),
        (_stop_at(), "generation.stop_token_ids"),
        (
            lambda manifest: manifest.generation.chat_template.append(manifest.generation.chat_template[0]),
            "generation.chat_template",
        ),
        (
            lambda manifest: setattr(manifest.generation.chat_template[-1], "trims_message", True),
            "generation.chat_template",
        ),
        (lambda manifest: manifest.generation.ClearField("kv_cache"), "generation.kv_cache"),
        (
            lambda manifest: setattr(manifest.graphs[0].operator_sets[0], "version", 1),
            r"graphs\[0\].operator_sets: not what model.block_quantized.onnx imports",
        ),
        (
            lambda manifest: manifest.graphs[0].ClearField("operator_sets"),
            r"graphs\[0\].operator_sets: not what model.block_quantized.onnx imports",
        ),
    ],
)
def test_a_manifest_s_field_is_named(tmp_path: Path, files: dict[str, bytes], edit: Edit, field: str) -> None:
    with pytest.raises(BundleError, match=rf"bundle.json: {field}"):
        bundle.read(write(tmp_path, changed(files, edit)))


@pytest.mark.parametrize(
    ("edit_golden", "complaint"),
    [
        (lambda cases: cases.generations[1].prompt_ids.append(5), r"generations\[1\].prompt_ids: tokenizer says"),
        (
            lambda cases: cases.generations[0].graphs.append(cases.generations[0].graphs[0]),
            r"generations\[0\].graphs: 2, where the manifest has 1",
        ),
        (lambda cases: cases.generations[0].logit_ids.pop(), r"generations\[0\]: next_token_logits and logit_ids"),
        (lambda cases: cases.generations[2].reference.margins.pop(), r"generations\[2\]: token_ids and margins"),
        (lambda cases: cases.ClearField("clear_margin"), "clear_margin"),
        (
            lambda cases: setattr(cases.generations[-1].conversation.messages[0], "role", "tool"),
            r"generations\[\d\].conversation: 'tool' is no role",
        ),
        (lambda cases: cases.generations[0].ClearField("reference"), r"generations\[0\].reference"),
    ],
)
def test_a_golden_case_s_field_is_named(
    tmp_path: Path, files: dict[str, bytes], edit_golden: EditGolden, complaint: str
) -> None:
    with pytest.raises(BundleError, match=rf"golden.json: {complaint}"):
        bundle.read(write(tmp_path, changed(files, edit_golden=edit_golden)))


def test_a_graph_of_operators_in_another_version_is_refused(
    tmp_path: Path, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, files)
    monkeypatch.setattr(kernels, "VERSION", 3)
    with pytest.raises(
        BundleError,
        match=r"bundle.json: graphs\[0\].operator_sets\[0\]: model.block_quantized.onnx needs hotpath.kernels 2, "
        "and here is hotpath.kernels 3$",
    ):
        bundle.read(path)


def test_a_golden_token_that_a_graph_does_not_say_is_found(tmp_path: Path, files: dict[str, bytes]) -> None:
    def edit(cases: bundle_pb2.GenerationGoldenFile) -> None:
        cases.generations[1].graphs[0].token_ids[-1] ^= 1
        cases.generations[1].reference.margins[-1] = golden.CLEAR_MARGIN / 2

    path = write(tmp_path, changed(files, edit_golden=edit))
    bundle.read(path)
    with pytest.raises(
        BundleError, match=r"golden.json: generations\[1\].graphs\[0\].token_ids\[31\].*model.block_quantized.onnx"
    ):
        bundle.verify(path)


def test_a_golden_logit_that_is_not_near_the_reference_is_found(tmp_path: Path, files: dict[str, bytes]) -> None:
    def edit(cases: bundle_pb2.GenerationGoldenFile) -> None:
        cases.generations[2].reference.next_token_logits[0] += 10

    path = write(tmp_path, changed(files, edit_golden=edit))
    with pytest.raises(BundleError, match=r"generations\[2\]: max_abs_error of the logits"):
        bundle.verify(path)
