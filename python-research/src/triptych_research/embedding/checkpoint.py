"""What a source's files say: the encoder's dimensions, its weights and its tokenizer; `sentence_files` reads the rest.

Everything is checked here, so that what builds on it need not ask again. Must not know where files come from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import tokenizers

from triptych_research import json_fields, tokenizer_file
from triptych_research.embedding import sentence_files
from triptych_research.embedding.sentence_files import Prompts
from triptych_research.json_fields import CheckpointError as CheckpointError  # what this module raises
from triptych_research.sources import WEIGHTS, Source
from triptych_research.tensors import StoredTensor, check_size, load_safetensors

# What sentence vectors do not use: BertModel's own head, a constant that old exporters stored, and the heads of models
# that were trained for something else (to fill in words, to label or to compare texts, to find answers).
_UNUSED = ("pooler.", "embeddings.position_ids", "cls.", "classifier.", "qa_outputs.")
# How the first checkpoints call a normalisation's weight and bias; transformers reads both names.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


@dataclass(frozen=True)
class EncoderConfig:
    """Dimensions of a BERT encoder."""

    vocabulary_size: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    positions: int
    token_types: int
    layer_norm_eps: float


@dataclass(frozen=True)
class Checkpoint:
    """A sentence encoder, ready to be built."""

    config: EncoderConfig
    tensors: dict[str, np.ndarray]  # float32, by BertModel's names without prefix
    tokenizer_json: bytes
    max_tokens: int  # special tokens included
    normalize: bool
    prompts: Prompts = field(default_factory=lambda: Prompts({}))
    unused: Sequence[str] = ()  # tensors of the source that vectors do not need

    def tokenizer(self) -> tokenizers.Tokenizer:
        return tokenizers.Tokenizer.from_buffer(self.tokenizer_json)


def load(source: Source) -> Checkpoint:
    """Read and check a BERT sentence encoder in the layout of sentence-transformers.

    Raises CheckpointError for another architecture, a missing field or a tensor of another shape, and SourceError for a
    missing file.
    """
    if (weights := source.weights()) != WEIGHTS:
        raise CheckpointError(f"{weights}: a sentence encoder is read from {WEIGHTS}, not from GGUF")
    config = _config(source)
    sentences = sentence_files.read(source, config.hidden_size, config.positions)
    tensors, unused = _tensors(source, config)
    return Checkpoint(
        config=config,
        tensors=tensors,
        tokenizer_json=tokenizer_file.read(source, config.vocabulary_size, sentences.lower_case),
        max_tokens=sentences.max_tokens,
        normalize=sentences.normalize,
        prompts=sentences.prompts,
        unused=unused,
    )


def tensor_shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor that the encoder uses."""
    hidden, inner = config.hidden_size, config.intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocabulary_size, hidden),
        "embeddings.position_embeddings.weight": (config.positions, hidden),
        "embeddings.token_type_embeddings.weight": (config.token_types, hidden),
        **_norm_shapes("embeddings.LayerNorm", hidden),
    }
    for layer in range(config.layers):
        prefix = f"encoder.layer.{layer}"
        for projection in ("query", "key", "value"):
            shapes |= _linear_shapes(f"{prefix}.attention.self.{projection}", hidden, hidden)
        shapes |= _linear_shapes(f"{prefix}.attention.output.dense", hidden, hidden)
        shapes |= _norm_shapes(f"{prefix}.attention.output.LayerNorm", hidden)
        shapes |= _linear_shapes(f"{prefix}.intermediate.dense", inner, hidden)
        shapes |= _linear_shapes(f"{prefix}.output.dense", hidden, inner)
        shapes |= _norm_shapes(f"{prefix}.output.LayerNorm", hidden)
    return shapes


def _linear_shapes(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm_shapes(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _config(source: Source) -> EncoderConfig:
    file, raw = "config.json", json_fields.read(source, "config.json")
    json_fields.require(raw, file, "model_type", "bert")
    json_fields.require(raw, file, "hidden_act", "gelu")
    for name, plain in (("position_embedding_type", "absolute"), ("is_decoder", False), ("add_cross_attention", False)):
        json_fields.require({name: plain} | raw, file, name, plain)
    config = EncoderConfig(
        vocabulary_size=json_fields.positive(raw, file, "vocab_size"),
        hidden_size=json_fields.positive(raw, file, "hidden_size"),
        layers=json_fields.positive(raw, file, "num_hidden_layers", at_most=json_fields.MAX_LAYERS),
        heads=json_fields.positive(raw, file, "num_attention_heads"),
        intermediate_size=json_fields.positive(raw, file, "intermediate_size"),
        positions=json_fields.positive(raw, file, "max_position_embeddings"),
        token_types=json_fields.positive(raw, file, "type_vocab_size"),
        layer_norm_eps=json_fields.field(raw, file, "layer_norm_eps", float),
    )
    if config.hidden_size % config.heads:
        raise CheckpointError(f"{file}: num_attention_heads: {config.heads} does not divide {config.hidden_size}")
    return config


def _tensors(source: Source, config: EncoderConfig) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the tensors by BertModel's names, and the names in the file of those that are of no use."""
    shapes = tensor_shapes(config)
    check_size(sum(map(math.prod, shapes.values())))
    stored: dict[str, StoredTensor] = {}
    for tensor in load_safetensors(source).values():
        if stored.setdefault(name := _name(tensor.name), tensor) is not tensor:
            raise CheckpointError(f"{WEIGHTS}: {tensor.name}: the same as {stored[name].name}")
    for name in sorted(shapes.keys() | stored.keys()):
        if name not in stored:
            raise CheckpointError(f"{WEIGHTS}: {name}: missing")
        if name in shapes and stored[name].shape != shapes[name]:
            raise CheckpointError(f"{WEIGHTS}: {name}: shape is {stored[name].shape}, config.json says {shapes[name]}")
        if name not in shapes and not name.startswith(_UNUSED):
            raise CheckpointError(f"{WEIGHTS}: {name}: not a tensor of this architecture")
    unused = sorted(stored[name].name for name in stored.keys() - shapes.keys())
    return {name: stored[name].floats() for name in shapes}, unused


def _name(stored: str) -> str:
    """Return BertModel's own name of a tensor."""
    name = stored.removeprefix("bert.")
    for old, new in _OLD_NAMES.items():
        name = name.replace(old, new)
    return name
