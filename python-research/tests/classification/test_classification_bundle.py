"""A head's bundle is checked as others are, and against the encoder that it was trained on."""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np
import pytest
from conftest import write_manifest

from triptych.bundle.v1 import bundle_pb2
from triptych_research import bundle, cli, strict_json
from triptych_research.bundle import Bundle, BundleError
from triptych_research.classification import export
from triptych_research.classification.head import Head, HeadLabel
from triptych_research.embedding.checkpoint import Checkpoint
from triptych_research.export import bundle_files
from triptych_research.family import ExportError
from triptych_research.sources import Folder, Source
from triptych_research.store import Store, StoreError

Files = dict[str, bytes]
TOKENIZER = bundle_pb2.Tokenizer(file="golden.json", vocabulary_size=1, max_tokens=1)


@pytest.fixture(scope="session")
def head(checkpoint: Checkpoint, tiny_files: Files) -> Head:
    """A head on the tiny model that knows nothing, in no uncertain terms."""
    manifest = strict_json.parse(tiny_files["bundle.json"], bundle_pb2.Manifest, "bundle.json", bundle.MAY_BE_EMPTY)
    random = np.random.default_rng(3)
    weights = random.normal(size=(2, checkpoint.config.hidden_size)).round(4).tolist()
    labels = [HeadLabel("rude", 0.4, False, -0.25, weights[0]), HeadLabel("kind", 0.6, True, 0.25, weights[1])]
    return Head("tiny", manifest.source.sha256, labels)


@pytest.fixture(scope="session")
def head_files(head: Head, checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("head")
    source, encoder = Source("file:judge", "1" * 64, "MIT", "somebody", folder), Folder(folder, "MIT", "somebody")
    family, found = export.Classification(head.encoder, encoder), export.HeadCheckpoint(head, checkpoint, scores={})
    return bundle_files("judge", source, family, found, family.build(found))


@pytest.fixture
def judge(store: Store, tiny_bundle: Bundle, head_files: Files) -> Bundle:
    """The head's bundle beside its encoder's, both current."""
    store.promote("tiny", tiny_bundle.revision)
    revision = store.add("judge", head_files)
    store.promote("judge", revision)
    return bundle.read(store.current_path("judge"))


def rewritten(found: Bundle, change: Callable[[bundle_pb2.Manifest], object]) -> pathlib.Path:
    change(found.manifest)
    return write_manifest(found.path, strict_json.dump(found.manifest))


def with_golden(found: Bundle, change: Callable[[bundle_pb2.ClassificationGoldenFile], object]) -> pathlib.Path:
    assert isinstance(found.golden, bundle_pb2.ClassificationGoldenFile)
    change(found.golden)
    (found.path / "golden.json").write_bytes(strict_json.dump(found.golden))
    files = {entry.path: (found.path / entry.path).read_bytes() for entry in found.manifest.files}

    def describe(manifest: bundle_pb2.Manifest) -> None:
        del manifest.files[:]
        manifest.files.extend(bundle.describe_files(files))

    return rewritten(found, describe)


def test_it_says_what_a_reader_needs(judge: Bundle, head: Head) -> None:
    manifest = judge.manifest
    assert not manifest.HasField("tokenizer")
    assert manifest.classification.encoder == "tiny"
    assert manifest.classification.encoder_sha256 == head.encoder_sha256
    labels = [(label.name, label.threshold, label.advisory) for label in manifest.classification.labels]
    assert labels == [("rude", 0.4, False), ("kind", 0.6, True)]
    (graph,) = manifest.graphs
    assert [(tensor.name, list(tensor.shape)) for tensor in (*graph.inputs, *graph.outputs)] == [
        ("embeddings", ["texts", "32"]),
        ("scores", ["texts", "2"]),
    ]


def test_it_is_verified_with_its_encoder_and_not_without(judge: Bundle, store: Store) -> None:
    assert bundle.verify(judge.path, store.current_path) == judge
    with pytest.raises(BundleError, match=r"bundle.json: classification.encoder: tiny is needed to replay"):
        bundle.verify(judge.path)
    (store.root / "tiny/current").unlink()
    with pytest.raises(StoreError, match="tiny/current: no current revision"):
        bundle.verify(judge.path, store.current_path)


def test_a_long_text_is_among_the_cases_and_its_worst_window_counts(judge: Bundle, store: Store, head: Head) -> None:
    (encoder, *_) = bundle.text_encoders(judge, store.current_path)
    assert isinstance(judge.golden, bundle_pb2.ClassificationGoldenFile)
    cases = [(encoder.embed(case.text), case.scores) for case in judge.golden.classifications]
    vectors, scores = max(cases, key=lambda case: len(case[0]))
    assert len(vectors) > 2
    of_windows = head.scores(vectors.astype(np.float64))  # [windows, labels]
    assert np.abs(of_windows - of_windows.max(axis=0)).max() > 1e-3  # it matters which
    np.testing.assert_allclose(of_windows.max(axis=0), scores, atol=export.TOLERANCE.max_abs_error)


def test_another_encoder_is_refused(judge: Bundle, store: Store) -> None:
    path = rewritten(judge, lambda manifest: setattr(manifest.classification, "encoder_sha256", "f" * 64))
    bundle.read(path)  # nothing to be seen from outside
    with pytest.raises(BundleError, match=r"classification.encoder_sha256: f{64}; the current tiny is made of "):
        bundle.verify(path, store.current_path)


def test_a_head_is_no_encoder(judge: Bundle, store: Store, head_files: Files) -> None:
    path = rewritten(judge, lambda manifest: setattr(manifest.classification, "encoder", "other"))
    with pytest.raises(BundleError, match=r"classification\.encoder: other makes no vectors"):
        bundle.verify(path, lambda name: judge.path.with_name(path.name))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda m: m.tokenizer.CopyFrom(TOKENIZER), "bundle.json: tokenizer: not of a head"),
        (lambda m: setattr(m.classification, "encoder", "judge"), "classification.encoder:"),
        (lambda m: setattr(m.classification, "encoder_sha256", "F" * 64), "classification.encoder_sha256:"),
        (lambda m: setattr(m.classification.labels[1], "name", "rude"), "classification.labels:"),
        (lambda m: setattr(m.classification.labels[1], "threshold", 1.5), "classification.labels[1].threshold:"),
        (lambda m: setattr(m.classification.labels[1], "threshold", 0), "labels[1].threshold: must not be 0"),
        (lambda m: m.classification.labels.pop(), "graphs[0].outputs:"),
        (lambda m: setattr(m.graphs[0].inputs[0], "name", "vectors"), "graphs[0].inputs:"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    judge: Bundle, change: Callable[[bundle_pb2.Manifest], object], complaint: str
) -> None:
    path = rewritten(judge, change)
    with pytest.raises(BundleError) as caught:
        bundle.read(path)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda golden: golden.classifications.__delitem__(slice(1, None)), "at least two cases are needed"),
        (lambda golden: golden.classifications[1].scores.pop(), "classifications[1].scores: 1, not one for each label"),
        (
            lambda golden: golden.classifications[1].scores.__setitem__(0, 1.5),
            "classifications[1].scores: not all from",
        ),
    ],
)
def test_golden_cases_that_are_none_are_refused(
    judge: Bundle, change: Callable[[bundle_pb2.ClassificationGoldenFile], object], complaint: str
) -> None:
    path = with_golden(judge, change)
    with pytest.raises(BundleError) as caught:
        bundle.read(path)
    assert complaint in str(caught.value)


def test_scores_that_are_off_are_refused(judge: Bundle, store: Store) -> None:
    def off(golden: bundle_pb2.ClassificationGoldenFile) -> None:
        score = golden.classifications[2].scores[0]
        golden.classifications[2].scores[0] = score + (0.1 if score < 0.5 else -0.1)

    path = with_golden(judge, off)
    with pytest.raises(BundleError, match=r"golden.json: classifications\[2\].scores: max_abs_error is "):
        bundle.verify(path, store.current_path)


def test_a_graph_that_is_not_the_head_is_no_bundle(head: Head, head_files: Files) -> None:
    export.check_graph(head, head_files["model.fp32.onnx"])
    rude, kind = head.labels
    other = Head(head.encoder, head.encoder_sha256, [dataclasses.replace(rude, bias=rude.bias + 1e-3), kind])
    with pytest.raises(ExportError, match="the graph's scores are off by "):
        export.check_graph(other, head_files["model.fp32.onnx"])


def test_import_brings_the_encoder_first(
    judge: Bundle, store: Store, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sorted(store.names()) == ["judge", "tiny"]  # by name the head would come first
    assert cli.main(["--models", str(tmp_path / "other"), "import", str(store.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["tiny", "judge"]
    assert cli.main(["--models", str(tmp_path / "other"), "verify", "judge"]) == 0
    assert "2 files, 10 golden cases" in capsys.readouterr().out


def test_a_head_is_rolled_back(judge: Bundle, store: Store, head_files: Files) -> None:
    changed = head_files["bundle.json"].replace(b'"owner": "somebody"', b'"owner": "another"')
    second = store.add("judge", {**head_files, "bundle.json": changed})
    store.promote("judge", second)
    assert store.rollback("judge").revision == judge.revision
