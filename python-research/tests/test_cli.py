"""The commands, as a person types them."""

import dataclasses
import json
import pathlib
import re
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import tiny
import tiny_decoder
from conftest import CACHE
from safetensors.numpy import load_file, save_file

from triptych.bundle.v1 import bundle_pb2
from triptych_research import bundle, cli, export, kernels, texts
from triptych_research.classification.logistic import NotConvergedError
from triptych_research.decoder import quality
from triptych_research.embedding import evaluate
from triptych_research.embedding.export import Embedding
from triptych_research.golden import GoldenError
from triptych_research.json_fields import CheckpointError
from triptych_research.recipes import Recipe
from triptych_research.reference import compare
from triptych_research.sources import Folder
from triptych_research.store import Current, Store
from triptych_research.texts import Labelled

Run = Callable[..., str]
Fail = Callable[..., str]
Files = dict[str, bytes]


@pytest.fixture
def run(store: Store, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that must succeed; returns what it prints."""

    def command(*arguments: str) -> str:
        status = cli.main(["--models", str(store.root), *arguments])
        captured = capsys.readouterr()
        assert (status, captured.err) == (0, "")
        return captured.out

    return command


@pytest.fixture
def fail(store: Store, capsys: pytest.CaptureFixture[str]) -> Fail:
    """Run a command that must fail; returns its one line of complaint."""

    def command(*arguments: str) -> str:
        status = cli.main(["--models", str(store.root), *arguments])
        complaint = capsys.readouterr().err
        assert status == 1
        assert complaint.startswith("error: ")
        assert complaint.count("\n") == 1
        return complaint.removeprefix("error: ").rstrip()

    return command


def few(some: Labelled) -> Labelled:
    return Labelled(some.texts[::10], some.topics[::10])


@pytest.fixture
def export_tiny(monkeypatch: pytest.MonkeyPatch, tiny_folder: pathlib.Path) -> tuple[str, ...]:
    """The command that exports the tiny model as "small", judging it by fewer texts than usual."""
    real = texts.load()
    monkeypatch.setattr(texts, "load", lambda: dataclasses.replace(real, known=few(real.known), asked=few(real.asked)))
    origin = ("--from", f"file:{tiny_folder}", "--license", "MIT", "--owner", "me")
    return ("export", "small", *origin, "--cache", str(CACHE))


def test_without_a_name_every_default_model_is_made_a_head_after_its_encoder(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def up_to_date(recipe: Recipe, store: Store) -> str:
        asked.append(recipe.name)
        return "0" * 16

    monkeypatch.setattr(export, "up_to_date", up_to_date)
    assert run("export").count("is up to date") == 3
    assert sorted(asked) == ["all-minilm-l6-v2", "moderation-minilm", "smollm2-135m-instruct"]
    assert asked.index("all-minilm-l6-v2") < asked.index("moderation-minilm")


def test_a_folder_becomes_a_bundle(run: Run, store: Store, export_tiny: tuple[str, ...]) -> None:
    printed = run(*export_tiny)
    revision = store.revisions("small")[0]
    assert printed.splitlines()[-1] == f"small {revision} is current"
    assert "\x1b" not in printed  # no terminal, no colours
    found = bundle.verify(store.current_path("small"))
    assert found.manifest.source.uri == "file:tiny"
    assert "| rank correlation" in (found.path / bundle.CARD).read_text()
    assert (found.path / bundle.QUALITY_PLOT).read_bytes().startswith(b"\x89PNG")

    assert run(*export_tiny) == f"small {revision} is up to date: same weights, same exporter (--force exports again)\n"
    # Made again it is the same revision, although what was measured differs.
    measured = (found.path / bundle.MEASUREMENTS).read_bytes()
    run(*export_tiny, "--force")
    assert store.revisions("small") == [revision]
    assert (found.path / bundle.MEASUREMENTS).read_bytes() != measured
    # What was damaged, or is to be described otherwise, is not up to date.
    (found.path / "golden.json").unlink()
    run(*export_tiny)
    bundle.verify(store.current_path("small"))
    run(*export_tiny, "--owner", "them")
    assert store.current("small") == Current(next(iter({*store.revisions("small")} - {revision})), (revision,))


def test_weights_with_another_hash_than_the_one_that_is_asked_for_are_refused(
    fail: Fail, export_tiny: tuple[str, ...]
) -> None:
    assert re.fullmatch(
        r"file:tiny: model\.safetensors has sha256 \w{64}, not f{64}", fail(*export_tiny, "--sha256", "F" * 64)
    )


def test_the_reference_of_a_model_from_outside_is_compared_too(
    run: Run, fail: Fail, tiny_folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "with_torch", lambda source: len(source.read("config.json")) * 1e-9)
    size = (tiny_folder / "config.json").stat().st_size
    printed = run("check-reference", "mine", "--from", f"file:{tiny_folder}")
    assert printed == f"mine: NumPy and PyTorch differ by at most {size * 1e-9:.1e}\n"
    assert fail("check-reference", "mine").startswith("mine: no such recipe; give --from, or one of all-minilm-l6-v2")


def test_a_graph_that_misses_a_gate_means_no_bundle(
    fail: Fail, store: Store, export_tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(evaluate.GATES, "neighbour_overlap", 1.01)
    said = fail(*export_tiny)
    assert re.search(r"block_quantized: neighbour_overlap is 0\.\d+, below 1\.01$", said.strip()), said
    assert store.current("small") is None


def test_a_model_without_normalisation_is_judged_by_its_own_lengths(
    run: Run, store: Store, export_tiny: tuple[str, ...], tiny_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "long")
    tiny.write_json(folder / "modules.json", tiny.MODULES[:2])
    # Vectors of some 100: what is small beside them is not below bounds that are made for a length of 1.
    tensors = load_file(folder / "model.safetensors")
    for name in ("weight", "bias"):
        tensors[f"encoder.layer.1.output.LayerNorm.{name}"] *= 30
    save_file(tensors, folder / "model.safetensors")
    run(*(each.replace(str(tiny_folder), str(folder)) for each in export_tiny))
    found = bundle.verify(store.current_path("small"))
    assert [graph.file for graph in found.manifest.graphs] == ["model.block_quantized.onnx"]
    assert isinstance(found.golden, bundle_pb2.GoldenFile)
    lengths = [float(np.linalg.norm(case.vector)) for case in found.golden.embeddings]
    assert min(lengths) > 20


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["export", "--from", "file:tiny"], "file:tiny: NAME is needed: what the model is to be called"),
        (["export", "other"], "other: no such recipe; give --from, or one of all-minilm-l6-v2"),
        (["export", "x", "--from", "file:.", "--license", "MIT"], "file:.: --owner is needed: the manifest states it"),
        (["export", "x", "--from", "file:.", "--owner", "me"], "file:.: --license is needed: the manifest states it"),
        (["export", "x", "--from", "hub:a/b@main", "--license", "MIT"], "hub:a/b@main: expected owner/name@commit"),
        (["export", "X", "--from", "file:.", "--license", "MIT", "--owner", "me"], "X: a model's name is 1 to 64 of"),
        (["export", "x", "--from", "s3:a"], "s3:a: expected file:FOLDER or hub:owner/name@commit"),
        (["show", "tiny"], "tiny/current: no current revision"),
        (["verify", "tiny", "0123456789abcdef"], "tiny/0123456789abcdef: no such revision"),
        (["rollback", "tiny"], "tiny: no such model"),
        (["promote", "Tiny", "0123456789abcdef"], "Tiny: a model's name is 1 to 64 of"),
        (["import", "nowhere"], "nowhere: no models"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(fail: Fail, arguments: list[str], complaint: str) -> None:
    assert complaint in fail(*arguments)


@pytest.mark.parametrize("arguments", [[], ["publish"], ["promote", "tiny"]])
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: triptych-models" in capsys.readouterr().err


def test_promote_list_show_verify_and_roll_back(run: Run, store: Store, tiny_files: Files) -> None:
    first = store.add("tiny", tiny_files)
    second = store.add("tiny", {**tiny_files, **other_owner(tiny_files)})
    assert run("promote", "tiny", first) == f"tiny {first} is current\n"
    assert run("promote", "tiny", second) == f"tiny {second} is current\n"
    rows = [line.split() for line in run("list").splitlines()]
    assert rows[0] == ["MODEL", "REVISION", "STANDING"]
    assert sorted(rows[1:]) == sorted([["tiny", first, "1", "back"], ["tiny", second, "current"]])
    assert run("rollback", "tiny") == f"tiny {first} is current again\n"
    assert [line.split() for line in run("list").splitlines()][1:] == sorted(
        [["tiny", first, "current"], ["tiny", second, "-"]], key=lambda row: row[1]
    )
    assert json.loads(run("show", "tiny", second))["source"]["owner"] == "another"
    assert run("verify", "tiny") == f"tiny {first} is whole: 3 files, {golden_cases(store)} golden cases\n"


def other_owner(files: Files) -> Files:
    return {"bundle.json": files["bundle.json"].replace(b'"owner": "somebody"', b'"owner": "another"')}


def golden_cases(store: Store) -> int:
    golden = bundle.read(store.current_path("tiny")).golden
    assert isinstance(golden, bundle_pb2.GoldenFile)
    return len(golden.embeddings)


def test_a_folder_that_cannot_be_written_is_an_error(fail: Fail, store: Store, tiny_files: Files) -> None:
    path = store.path("tiny", store.add("tiny", tiny_files))
    store.promote("tiny", path.name)
    (store.root / "tiny/current").unlink()
    (store.root / "tiny/current").mkdir()
    assert "Is a directory" in fail("promote", "tiny", path.name)


def test_verify_finds_damage(fail: Fail, store: Store, tiny_files: Files) -> None:
    store.promote("tiny", store.add("tiny", tiny_files))
    (store.current_path("tiny") / "tokenizer.json").write_bytes(b"{}")
    assert fail("verify", "tiny").startswith("bundle.json: files[2].size_bytes: tokenizer.json has 2 bytes")


def test_import_fills_an_empty_folder_and_follows_the_other(
    run: Run, store: Store, tiny_files: Files, tmp_path: pathlib.Path
) -> None:
    other = Store(tmp_path / "other")
    first = other.add("tiny", tiny_files)
    other.promote("tiny", first)
    assert run("import", str(other.root)) == f"tiny {first} is current\n"
    second = other.add("tiny", {**tiny_files, **other_owner(tiny_files)})
    other.promote("tiny", second)
    for _ in range(2):
        assert run("import", str(other.root)) == f"tiny {second} is current\n"
    assert run("rollback", "tiny") == f"tiny {first} is current again\n"


def test_without_the_operators_there_is_no_decoder_and_the_reason_is_one_line(
    run: Run, fail: Fail, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality, "BOUNDS", quality.Bounds(max_nll_increase=1, max_kl=1, min_top1=0.5, max_part_kl=9))
    (tmp_path / "chatty").mkdir()
    tiny_decoder.write_folder(tmp_path / "chatty", tiny_decoder.dense_weights())
    origin = ("--from", f"file:{tmp_path / 'chatty'}", "--license", "MIT", "--owner", "me")
    command = ("export", "chatty", *origin, "--task", "generation", "--cache", str(CACHE), "--force")
    run(*command)
    for library, problem in ((tmp_path / "none.so", "no such file"), (tmp_path, "is a directory")):
        monkeypatch.setenv(kernels.LIBRARY, str(library))
        complaint = rf"{library}: .*{problem}.*; `make kernels` builds the operators"
        assert re.search(complaint, fail(*command), re.I)
        assert re.search(f"model.block_quantized.onnx does not run: {complaint}", fail("verify", "chatty"), re.I)


def test_a_folder_with_a_decoder_becomes_a_bundle(
    run: Run, store: Store, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Random weights are rounded as well as others, but have no opinion that would survive it.
    monkeypatch.setattr(quality, "BOUNDS", quality.Bounds(max_nll_increase=1, max_kl=1, min_top1=0.5, max_part_kl=9))
    (tmp_path / "chatty").mkdir()
    tiny_decoder.write_folder(tmp_path / "chatty", tiny_decoder.dense_weights())
    origin = ("--from", f"file:{tmp_path / 'chatty'}", "--license", "MIT", "--owner", "me")
    command = ("export", "chatty", *origin, "--task", "generation", "--cache", str(CACHE))
    revision = run(*command).split()[-3]
    assert store.current("chatty") == Current(revision)
    assert run(*command) == f"chatty {revision} is up to date: same weights, same exporter (--force exports again)\n"
    assert run("verify", "chatty").startswith(f"chatty {revision} is whole: 3 files, ")
    shown = run("show", "chatty")
    assert '"PRECISION_BLOCK_QUANTIZED"' in shown
    assert '"tokens_per_second"' in shown


@pytest.mark.parametrize("task", ["embedding", "generation"])
@pytest.mark.parametrize(
    ("kept", "complaint"),
    [
        ("model.safetensors", "a graph holds at most 2.15 GB"),
        ("model.safetensors.index.json", "a single model.safetensors is needed"),
    ],
)
def test_a_model_that_is_too_large_is_an_error(
    fail: Fail, tmp_path: pathlib.Path, tiny_folder: pathlib.Path, task: str, kept: str, complaint: str
) -> None:
    folder = tmp_path / "large"
    if task == "embedding":
        shutil.copytree(tiny_folder, folder)
    else:
        folder.mkdir()
        tiny_decoder.write_folder(folder, tiny_decoder.dense_weights())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 20_000_000}))
    (folder / "model.safetensors").rename(folder / kept)
    origin = ("--from", f"file:{folder}", "--license", "MIT", "--owner", "me", "--cache", str(CACHE))
    assert complaint in fail("export", "large", *origin, "--task", task)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (GoldenError("embeddings[0].vector: is another"), "embeddings[0].vector: is another"),
        (NotConvergedError("no optimum within 50 steps"), "no optimum within 50 steps"),
        (MemoryError(), "not enough memory"),
        (MemoryError("Unable to allocate 9 GiB"), "Unable to allocate 9 GiB"),
        (CheckpointError("config.json: a\nb\x1b[2Jc\u202ed: missing"), "config.json: a b [2Jc d: missing"),
        (CheckpointError("a" * 1000), "a" * 1000),
        (CheckpointError("a" * 1001), "a" * 1000 + " …"),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_whatever_is_expected_is_one_line_that_moves_no_cursor(
    fail: Fail, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def raises(recipe: Recipe, store: Store) -> None:
        raise error

    monkeypatch.setattr(export, "up_to_date", raises)
    assert fail("export", "all-minilm-l6-v2") == line


@pytest.mark.parametrize("content", [b"[]", b'"text"', b"null", b"{}", b"", b"[" * 10_000])
def test_measurements_that_are_damaged_are_not_up_to_date(store: Store, tiny_files: Files, content: bytes) -> None:
    recipe = Recipe("tiny", Folder(pathlib.Path("tiny"), "MIT", "somebody"), Embedding())
    revision = store.add("tiny", tiny_files)
    store.promote("tiny", revision)
    measurements = store.path("tiny", revision) / bundle.MEASUREMENTS
    measurements.write_text(json.dumps({"fingerprint": export.fingerprint(recipe)}))
    assert export.up_to_date(recipe, store) == revision
    measurements.write_bytes(content)
    assert export.up_to_date(recipe, store) is None


def test_a_decoder_is_no_encoder(fail: Fail, tmp_path: pathlib.Path) -> None:
    tiny_decoder.write_folder(tmp_path, tiny_decoder.dense_weights())
    origin = ("--from", f"file:{tmp_path}", "--license", "MIT", "--owner", "me", "--cache", str(CACHE))
    assert fail("export", "wrong", *origin) == "config.json: model_type: 'llama' is not supported, only 'bert'"
