"""A source whose files disagree, or describe another architecture, is refused by file and field."""

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import tiny
from test_tensors import write_bfloat16

from triptych_research.embedding.checkpoint import Checkpoint, CheckpointError, load
from triptych_research.sources import Folder, SourceError


@pytest.fixture
def folder(tiny_folder: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the tiny model's files, to be damaged at will."""
    return shutil.copytree(tiny_folder, tmp_path / "tiny")


def load_folder(folder: pathlib.Path) -> Checkpoint:
    return load(Folder(folder, "MIT", "somebody").fetch(folder))


def test_numbers_come_from_the_files(checkpoint: Checkpoint) -> None:
    assert checkpoint.config == tiny.CONFIG
    assert checkpoint.max_tokens == tiny.MAX_TOKENS
    assert checkpoint.normalize


def test_the_tokenizer_neither_pads_nor_cuts(checkpoint: Checkpoint) -> None:
    tokenizer = checkpoint.tokenizer()
    assert len(tokenizer.encode("a").ids) == 3
    assert len(tokenizer.encode("a " * 100).ids) == 102


def test_a_model_without_normalisation_is_one(folder: pathlib.Path) -> None:
    tiny.write_json(folder / "modules.json", tiny.MODULES[:2])
    assert not load_folder(folder).normalize


def test_half_precision_and_a_prefix_are_read(folder: pathlib.Path) -> None:
    stored = {f"bert.{name}": tensor.astype(np.float16) for name, tensor in tiny.tensors().items()}
    stored["bert.pooler.dense.weight"] = np.zeros((32, 32), np.float16)
    safetensors.numpy.save_file(stored, folder / "model.safetensors")
    tensors = load_folder(folder).tensors
    assert tensors.keys() == tiny.tensors().keys()
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}


def test_the_first_checkpoints_names_are_read_and_heads_are_named_and_left_out(folder: pathlib.Path) -> None:
    heads = {f"cls.predictions.{name}": np.zeros(3, np.float32) for name in ("bias", "transform.LayerNorm.gamma")}
    heads |= {"bert.pooler.dense.bias": np.zeros(3, np.float32), "classifier.weight": np.zeros(3, np.float32)}
    renamed = {
        f"bert.{name}".replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): tensor
        for name, tensor in tiny.tensors().items()
    }
    safetensors.numpy.save_file(renamed | heads, folder / "model.safetensors")
    found = load_folder(folder)
    assert found.unused == sorted(heads)
    for name, tensor in tiny.tensors().items():
        np.testing.assert_array_equal(found.tensors[name], tensor)


@pytest.mark.parametrize("other", ["bert.embeddings.LayerNorm.weight", "embeddings.LayerNorm.gamma"])
def test_a_tensor_under_two_names_is_refused(folder: pathlib.Path, other: str) -> None:
    safetensors.numpy.save_file({**tiny.tensors(), other: np.zeros(32, np.float32)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"LayerNorm\.\w+: the same as (bert\.)?embeddings\.LayerNorm\."):
        load_folder(folder)


def test_bfloat16_is_read(folder: pathlib.Path) -> None:
    tensors = load(write_bfloat16(folder, tiny.tensors())).tensors
    for name, values in tiny.tensors().items():
        np.testing.assert_allclose(tensors[name], values, rtol=2**-7)


def test_integers_are_no_matter_where_nobody_reads_them(folder: pathlib.Path) -> None:
    positions = {"embeddings.position_ids": np.arange(48)[None]}
    safetensors.numpy.save_file({**tiny.tensors(), **positions}, folder / "model.safetensors")
    assert load_folder(folder).tensors.keys() == tiny.tensors().keys()


@pytest.mark.parametrize(
    ("file", "change", "complaint"),
    [
        ("config.json", {"model_type": "roberta"}, "config.json: model_type: 'roberta' is not supported"),
        ("config.json", {"hidden_act": "relu"}, "config.json: hidden_act"),
        ("config.json", {"position_embedding_type": "relative_key"}, "config.json: position_embedding_type"),
        ("config.json", {"hidden_size": None}, "config.json: hidden_size: expected int"),
        ("config.json", {"hidden_size": 32.0}, "config.json: hidden_size: expected int"),
        ("config.json", {"num_hidden_layers": 0}, "config.json: num_hidden_layers: 0 is not positive"),
        ("config.json", {"num_hidden_layers": 1024}, "model.safetensors: encoder.layer.10.attention"),
        ("config.json", {"num_hidden_layers": 1025}, "config.json: num_hidden_layers: 1025 is above 1024"),
        ("config.json", {"vocab_size": 2**31}, "config.json: vocab_size: 2147483648 is above 2147483647"),
        ("config.json", {"vocab_size": 2**31 - 1}, "a graph holds at most 2.15 GB"),
        ("config.json", {"num_attention_heads": 5}, "config.json: num_attention_heads: 5 does not divide 32"),
        ("config.json", {"layer_norm_eps": "1e-12"}, "config.json: layer_norm_eps: expected float"),
        ("config.json", {"vocab_size": 20_000_000}, "weights are 2.56 GB in float32; a graph holds at most 2.15 GB"),
        ("config.json", {"vocab_size": 50}, "model.safetensors: embeddings.word_embeddings.weight: shape is "),
        ("config.json", {"intermediate_size": 128}, "model.safetensors: encoder.layer.0.intermediate.dense"),
        ("config.json", {"num_hidden_layers": 1}, "model.safetensors: encoder.layer.1.attention.output.LayerNorm.bias"),
        ("config.json", {"num_hidden_layers": 3}, "model.safetensors: encoder.layer.2.attention.output.LayerNorm.bias"),
        ("sentence_bert_config.json", {"max_seq_length": 49}, "max_seq_length: 49 is above config.json's 48 positions"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_mean_tokens": False},
            "1_Pooling/config.json: pooling_mode: [] is not supported",
        ),
        ("tokenizer.json", {"model": {}}, "tokenizer.json: "),
    ],
)
def test_a_field_that_does_not_fit_is_named(
    folder: pathlib.Path, file: str, change: dict[str, Any], complaint: str
) -> None:
    tiny.write_json(folder / file, json.loads((folder / file).read_text()) | change)
    with pytest.raises(CheckpointError) as caught:
        load_folder(folder)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("field", list(tiny.CONFIG_JSON))
def test_a_missing_field_is_named(folder: pathlib.Path, field: str) -> None:
    tiny.write_json(folder / "config.json", {key: value for key, value in tiny.CONFIG_JSON.items() if key != field})
    with pytest.raises(CheckpointError, match=f"config.json: {field}: missing"):
        load_folder(folder)


@pytest.mark.parametrize(
    "file", ["config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json", "tokenizer.json"]
)
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'"text"', b"\xff\xfe", b'{"a":' * 10**5, b'{"a": 1, "a": 2}', b"[NaN]"],
    ids=lambda content: ascii(content[:20]),
)
def test_a_file_that_is_not_what_it_should_be_is_named(folder: pathlib.Path, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{file}: "):
        load_folder(folder)


def test_a_missing_file_is_named(folder: pathlib.Path) -> None:
    (folder / "1_Pooling/config.json").unlink()
    with pytest.raises(SourceError, match=r"file:tiny: 1_Pooling/config\.json: no such file"):
        load_folder(folder)


@pytest.mark.parametrize("kinds", [["Transformer"], ["Transformer", "Pooling", "Dense"], ["Pooling", "Transformer"]])
def test_other_modules_are_refused(folder: pathlib.Path, kinds: list[str]) -> None:
    tiny.write_json(folder / "modules.json", [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds])
    with pytest.raises(CheckpointError, match=r"modules\.json: type: "):
        load_folder(folder)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors.pop("embeddings.LayerNorm.bias"), "embeddings.LayerNorm.bias: missing"),
        (lambda tensors: tensors.update(extra=np.zeros(1)), "extra: not a tensor of this architecture"),
        (
            lambda tensors: tensors.update({"embeddings.LayerNorm.bias": np.zeros(31)}),
            r"embeddings.LayerNorm.bias: shape is \(31,\), config.json says \(32,\)",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    folder: pathlib.Path, change: Callable[[dict[str, np.ndarray]], object], complaint: str
) -> None:
    tensors = tiny.tensors()
    change(tensors)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"model.safetensors: {complaint}"):
        load_folder(folder)


def test_an_encoder_s_weights_are_not_in_a_gguf_file(folder: pathlib.Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.gguf")
    with pytest.raises(CheckpointError, match=r"^model\.gguf: a sentence encoder is read from model\.safetensors, "):
        load_folder(folder)


def test_a_gguf_file_beside_the_weights_is_refused(folder: pathlib.Path) -> None:
    (folder / "stray.gguf").write_bytes(b"GGUF")
    with pytest.raises(SourceError, match=r"model\.safetensors, stray\.gguf: expected one file of weights"):
        load_folder(folder)


def test_weights_that_are_no_safetensors_are_named(folder: pathlib.Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x80\x04")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: "):
        load_folder(folder)
