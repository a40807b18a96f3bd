"""What a decoder's source says beside weights: tokenizer, chat template, and what ends a text."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tiny_decoder as tiny

from triptych_research.blocks import dense
from triptych_research.decoder.chat import Message
from triptych_research.decoder.checkpoint import DecoderCheckpoint, load
from triptych_research.json_fields import CheckpointError
from triptych_research.sources import Folder, Source, SourceError

TURN = [Message("user", "the heart")]


@pytest.fixture(params=["gguf", "folder"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Source:
    """The same model in both kinds of source."""
    if request.param == "folder":
        return tiny.write_folder(tmp_path, tiny.dense_weights())
    tiny.write_gguf(tmp_path / "tiny.gguf", tiny.dense_weights())
    return Source("file:tiny", "0" * 64, "MIT", "nobody", tmp_path)


def change(source: Source, file: str, **fields: object) -> None:
    path = Path(str(source.files / file))
    raw = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({name: value for name, value in (raw | fields).items() if value is not None}))


def test_both_kinds_of_source_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    folder = load(tiny.write_folder(tmp_path / "folder", tiny.dense_weights()))
    tiny.write_gguf(tmp_path / "tiny.gguf", tiny.dense_weights())
    gguf = load(Source("file:tiny", "0" * 64, "MIT", "nobody", tmp_path))
    assert folder.stop_token_ids == gguf.stop_token_ids == [0]
    assert folder.chat_markup == gguf.chat_markup
    assert prompt(folder) == prompt(gguf)
    # GGUF holds 8 bits of the table, the folder all.
    np.testing.assert_allclose(dense(folder.weights.embedding), dense(gguf.weights.embedding), atol=0.02)


def prompt(checkpoint: DecoderCheckpoint) -> list[int]:
    template = checkpoint.chat_template()
    assert template is not None
    return template.encode(TURN)


def test_a_tokenizer_neither_pads_nor_cuts(source: Source) -> None:
    tokenizer = load(source).tokenizer()
    assert tokenizer.padding is None
    assert tokenizer.truncation is None
    assert tokenizer.decode(tokenizer.encode("the heart of it").ids) == "the heart of it"


def test_more_tokens_may_end_a_text(source: Source) -> None:
    assert load(source, stop_tokens=["<start>"]).stop_token_ids == [0, 1]


def test_an_optional_file_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    source = tiny.write_folder(tmp_path, tiny.dense_weights())
    change(source, "tokenizer_config.json", chat_template=None)
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja: 'utf-8' codec can't decode"):
        load(source)
    (tmp_path / "chat_template.jinja").write_bytes(b" " * (2**16 + 1))
    with pytest.raises(SourceError, match=r"chat_template\.jinja: 65537 bytes; at most 65536 are read"):
        load(source)


def test_a_stop_token_that_is_none_is_named(source: Source) -> None:
    with pytest.raises(CheckpointError, match="stop token 'he' is not a control token"):
        load(source, stop_tokens=["he"])


def test_generation_config_knows_better_than_config_what_ends_a_text(tmp_path: Path) -> None:
    source = tiny.write_folder(tmp_path, tiny.dense_weights())
    change(source, "generation_config.json", eos_token_id=[1, 0])
    assert load(source).stop_token_ids == [0, 1]


def test_a_model_without_chat_template_only_continues_text(tmp_path: Path) -> None:
    source = tiny.write_folder(tmp_path, tiny.dense_weights())
    change(source, "tokenizer_config.json", chat_template=None)
    checkpoint = load(source)
    assert checkpoint.chat_markup == []
    assert checkpoint.chat_template() is None


def test_a_chat_template_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    source = tiny.write_folder(tmp_path, tiny.dense_weights())
    expected = load(source).chat_markup
    change(source, "tokenizer_config.json", chat_template=None)
    (tmp_path / "chat_template.jinja").write_text(tiny.TEMPLATE)
    assert load(source).chat_markup == expected


def test_the_file_of_its_own_is_the_newer_template(tmp_path: Path) -> None:
    source = tiny.write_folder(tmp_path, tiny.dense_weights())
    newer = tiny.TEMPLATE.replace("Be kind.", "Be brief.")
    (tmp_path / "chat_template.jinja").write_text(newer)
    assert "Be brief." in str(load(source).chat_markup)


def test_of_templates_with_names_the_default_is_taken(tmp_path: Path) -> None:
    source = tiny.write_folder(tmp_path, tiny.dense_weights())
    expected = load(source).chat_markup
    named = [{"name": "tool_use", "template": "{{ tools }}"}, {"name": "default", "template": tiny.TEMPLATE}]
    change(source, "tokenizer_config.json", chat_template=named)
    assert load(source).chat_markup == expected


@pytest.mark.parametrize(
    ("file", "fields", "complaint"),
    [
        ("config.json", {"eos_token_id": None}, "config.json: eos_token_id: missing"),
        ("config.json", {"eos_token_id": "<end>"}, "config.json: eos_token_id: missing, or not a token id"),
        ("config.json", {"eos_token_id": 96}, r"eos_token_id: \[96\] is not within the vocabulary"),
        ("config.json", {"vocab_size": 90}, r"model.embed_tokens.weight: shape is \(96, 64\)"),
        ("tokenizer_config.json", {"chat_template": [{"name": "default"}]}, r"chat_template\[0\]: template: missing"),
        (
            "tokenizer_config.json",
            {"chat_template": [{"name": "rag"}]},
            "none is named default, only rag",
        ),
        ("tokenizer_config.json", {"chat_template": ["default"]}, r"chat_template\[0\]: name: missing"),
        ("tokenizer_config.json", {"chat_template": 1}, "chat_template: expected str, not int"),
        ("config.json", {"tie_word_embeddings": "no"}, "config.json: tie_word_embeddings: expected bool"),
        ("config.json", {"num_hidden_layers": 1025}, "config.json: num_hidden_layers: 1025 is above 1024"),
        ("config.json", {"hidden_size": 2**31}, "config.json: hidden_size: 2147483648 is above 2147483647"),
        ("config.json", {"num_attention_heads": 128}, "head_dim is 1; rotary attention takes multiples of 16"),
        ("config.json", {"rope_theta": "much"}, "config.json: rope_theta: 'much' is not a number above 0"),
        ("config.json", {"rope_parameters": [1]}, "config.json: rope_parameters: expected an object"),
        ("tokenizer_config.json", {"chat_template": "{{ messages }}"}, "chat template: "),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, file: str, fields: dict[str, object], complaint: str) -> None:
    source = tiny.write_folder(tmp_path, tiny.dense_weights())
    change(source, file, **fields)
    with pytest.raises(CheckpointError, match=complaint):
        load(source)


@pytest.mark.parametrize("other", ["b.gguf", "model.safetensors"])
def test_of_two_files_of_weights_neither_is_taken(tmp_path: Path, other: str) -> None:
    tiny.write_gguf(tmp_path / "a.gguf", tiny.dense_weights())
    (tmp_path / other).write_bytes(b"")
    with pytest.raises(SourceError, match=rf"a\.gguf, {other}: expected one file of weights"):
        load(Source("file:two", "0" * 64, "MIT", "nobody", tmp_path))


def test_a_gguf_file_in_a_folder_is_a_source(tmp_path: Path) -> None:
    tiny.write_gguf(tmp_path / "tiny.gguf", tiny.dense_weights())
    folder = Folder(tmp_path, "MIT", "nobody")
    source = folder.fetch(tmp_path)
    assert source.sha256 == hashlib.sha256((tmp_path / "tiny.gguf").read_bytes()).hexdigest()
    assert load(source).stop_token_ids == [0]
    before = folder.identity()
    tiny.write_gguf(tmp_path / "tiny.gguf", tiny.dense_weights(seed=1))
    assert folder.identity() != before


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("tokenizer.ggml.model", "llama", "tokenizer.ggml.model is 'llama'; supported"),
        ("tokenizer.ggml.pre", "qwen2", "tokenizer.ggml.pre is 'qwen2'; supported"),
        ("tokenizer.ggml.token_type", [3, 3, *[6] * 94], r"tokenizer.ggml.token_type has \[6\]"),
        ("tokenizer.ggml.tokens", ["<end>"] * 96, "tokenizer.ggml.tokens holds a token twice"),
        ("tokenizer.ggml.merges", ["h q q"], "tokenizer.ggml: "),
        ("tokenizer.ggml.merges", [1], "tokenizer.ggml.merges: expected a list of str"),
        ("tokenizer.ggml.pre", ["smollm"], r"tokenizer.ggml.pre is \['smollm'\]; supported"),
        ("tokenizer.ggml.tokens", 96, "tokenizer.ggml.tokens: expected a list of str"),
        ("tokenizer.ggml.token_type", [3, 3], "tokenizer.ggml.token_type has 2 items for 96 tokens"),
        ("tokenizer.ggml.eos_token_id", 96, "tokenizer.ggml.eos_token_id is 96, which is no token"),
        ("tokenizer.ggml.bos_token_id", "a", "tokenizer.ggml.bos_token_id is 'a', which is no token"),
        ("tokenizer.chat_template", 1, "tokenizer.chat_template: expected str, not int"),
    ],
)
def test_other_tokenizers_are_refused_by_name(tmp_path: Path, field: str, value: object, complaint: str) -> None:
    tiny.write_gguf(tmp_path / "tiny.gguf", tiny.dense_weights(), metadata={field: value})
    with pytest.raises(CheckpointError, match=complaint):
        load(Source("file:tiny", "0" * 64, "MIT", "nobody", tmp_path))
