"""What a decoder's source says: weights, tokenizer, chat template and what ends a continuation.

A source is one GGUF file, or a folder in the layout of published checkpoints. Everything is checked here, so that the
modules that build on it need not ask again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from triptych.bundle.v1.bundle_pb2 import ChatMarkup
from triptych_research import json_fields, tokenizer_file
from triptych_research.blocks import Matrix
from triptych_research.decoder import gguf_file, llama_folder, tokenizer
from triptych_research.decoder.chat import ChatTemplate, compile_template
from triptych_research.decoder.weights import DecoderWeights
from triptych_research.json_fields import CheckpointError
from triptych_research.sources import GGUF, Source


@dataclass(frozen=True)
class DecoderCheckpoint:
    """A generation model, ready to be built."""

    weights: DecoderWeights[Matrix]
    tokenizer_json: bytes
    chat_markup: Sequence[ChatMarkup]  # empty: the model has no chat template
    stop_token_ids: Sequence[int]  # ascending

    def tokenizer(self) -> Tokenizer:
        return Tokenizer.from_buffer(self.tokenizer_json)

    def chat_template(self) -> ChatTemplate | None:
        return ChatTemplate(self.chat_markup, self.tokenizer()) if self.chat_markup else None


def load(source: Source, stop_tokens: Sequence[str] = ()) -> DecoderCheckpoint:
    """Read and check a Llama-architecture decoder.

    `stop_tokens` are control tokens that end a continuation beside those that the source names. Raises CheckpointError
    for what this exporter cannot make a graph of, and SourceError for a missing file.
    """
    name = source.weights()
    return _from_gguf(source, name, stop_tokens) if name.endswith(GGUF) else _from_folder(source, stop_tokens)


def _from_gguf(source: Source, name: str, stop_tokens: Sequence[str]) -> DecoderCheckpoint:
    with source.local(name) as path:
        file = gguf_file.open_gguf(path)
        weights = gguf_file.read_weights(file)
    content = tokenizer.tokenizer_json(file)
    ids = {kind: _token_id(file, key) for kind, key in _SPECIAL_TOKENS.items() if key in file.metadata}
    if "eos" not in ids:
        raise CheckpointError(f"{name}: metadata field {_SPECIAL_TOKENS['eos']!r} is missing")
    tokens = file.list_of(str, "tokenizer.ggml.tokens")
    template = file.metadata.get("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise CheckpointError(f"{name}: tokenizer.chat_template: expected str, not {type(template).__name__}")
    names = {kind: tokens[index] for kind, index in ids.items()}
    return _assemble(weights, content, template, names, [ids["eos"]], stop_tokens)


_SPECIAL_TOKENS = {"bos": "tokenizer.ggml.bos_token_id", "eos": "tokenizer.ggml.eos_token_id"}


def _token_id(file: gguf_file.GgufFile, key: str) -> int:
    index, tokens = file.metadata[key], file.list_of(str, "tokenizer.ggml.tokens")
    if type(index) is not int or not 0 <= index < len(tokens):
        raise CheckpointError(f"{file.path.name}: {key} is {index!r}, which is no token")
    return index


def _from_folder(source: Source, stop_tokens: Sequence[str]) -> DecoderCheckpoint:
    weights = llama_folder.read_weights(source)
    content = tokenizer_file.read(source, weights.config.vocabulary_size)
    file = "tokenizer_config.json"
    settings = json_fields.read(source, file)
    names = {kind: _token_text(settings.get(f"{kind}_token")) for kind in _SPECIAL_TOKENS}
    template = _optional(source, "chat_template.jinja")  # which is newer than the setting, where a folder has both
    if template is None:
        template = _default_template(settings.get("chat_template"), f"{file}: chat_template")
    return _assemble(weights, content, template, names, _stop_ids(source), stop_tokens)


def _default_template(template: Any, field: str) -> str | None:
    """Return the template of plain conversations; older files have a list of several with names."""
    if isinstance(template, list):
        names = [json_fields.field(each, f"{field}[{index}]", "name", str) for index, each in enumerate(template)]
        if "default" not in names:
            raise CheckpointError(f"{field}: none is named default, only {', '.join(names)}")
        index = names.index("default")
        template = json_fields.field(template[index], f"{field}[{index}]", "template", str)
    if template is not None and not isinstance(template, str):
        raise CheckpointError(f"{field}: expected str, not {type(template).__name__}")
    return template


def _assemble(
    weights: DecoderWeights[Matrix],
    content: bytes,
    template: str | None,
    names: dict[str, str],
    stop_ids: Sequence[int],
    stop_tokens: Sequence[str],
) -> DecoderCheckpoint:
    parsed = Tokenizer.from_buffer(content)
    controls = tokenizer_file.control_tokens(parsed)
    for token in stop_tokens:
        if token not in controls:
            raise CheckpointError(f"stop token {token!r} is not a control token of the model")
    stops = sorted({*stop_ids, *(controls[token] for token in stop_tokens)})
    if not all(0 <= index < weights.config.vocabulary_size for index in stops):
        raise CheckpointError(f"eos_token_id: {stops} is not within the vocabulary")
    markup = compile_template(template, parsed, names.get("bos", ""), names.get("eos", "")) if template else []
    return DecoderCheckpoint(weights, content, markup, stops)


def _stop_ids(source: Source) -> list[int]:
    """Ids that end a continuation: generation_config.json's where there is one, because it knows of chat."""
    for file in ("generation_config.json", llama_folder.CONFIG):
        if not source.has(file):
            continue
        ids = json_fields.read(source, file).get("eos_token_id")
        ids = [ids] if isinstance(ids, int) else ids
        if isinstance(ids, list) and ids and all(type(each) is int for each in ids):
            return ids
    raise CheckpointError(f"{llama_folder.CONFIG}: eos_token_id: missing, or not a token id or a list of them")


def _optional(source: Source, file: str) -> str | None:
    if not source.has(file):
        return None
    try:
        return source.read(file).decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: {error}") from error


def _token_text(token: Any) -> str:
    """A special token's text; files give it as such or in an object."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""
