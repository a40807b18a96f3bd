"""What a source's files say: the encoder's dimensions, its weights, its tokenizer and how its vectors are made.

Everything is checked here, so that what builds on it need not ask again. Must not know where files come from.
"""

import math
from dataclasses import dataclass

import numpy as np
import tokenizers

from triptych_research import json_fields, tokenizer_file
from triptych_research.json_fields import CheckpointError as CheckpointError  # what this module raises
from triptych_research.sources import WEIGHTS, Source
from triptych_research.tensors import check_size, load_safetensors

# Heads of BertModel that sentence vectors do not use, and a constant that old exporters stored.
_UNUSED = ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")


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
    pooling = "1_Pooling/config.json"
    json_fields.require(json_fields.read(source, pooling), pooling, "pooling_mode_mean_tokens", True)
    return Checkpoint(
        config=config,
        tensors=_tensors(source, config),
        tokenizer_json=tokenizer_file.read(source, config.vocabulary_size),
        max_tokens=_max_tokens(source, config),
        normalize=_normalize(source),
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
    json_fields.require({"position_embedding_type": "absolute"} | raw, file, "position_embedding_type", "absolute")
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


def _tensors(source: Source, config: EncoderConfig) -> dict[str, np.ndarray]:
    shapes = tensor_shapes(config)
    check_size(sum(map(math.prod, shapes.values())))
    found = {name.removeprefix("bert."): tensor for name, tensor in load_safetensors(source).items()}
    for name in sorted(shapes.keys() | found.keys()):
        if name not in found:
            raise CheckpointError(f"{WEIGHTS}: {name}: missing")
        if name in shapes and found[name].shape != shapes[name]:
            raise CheckpointError(f"{WEIGHTS}: {name}: shape is {found[name].shape}, config.json says {shapes[name]}")
        if name not in shapes and name not in _UNUSED:
            raise CheckpointError(f"{WEIGHTS}: {name}: not a tensor of this architecture")
    return {name: found[name].floats() for name in shapes}


def _max_tokens(source: Source, config: EncoderConfig) -> int:
    # The length that the sentence encoder was trained for, which is less than the positions that the backbone has.
    file = "sentence_bert_config.json"
    limit = json_fields.positive(json_fields.read(source, file), file, "max_seq_length")
    if limit > config.positions:
        raise CheckpointError(f"{file}: max_seq_length: {limit} is above config.json's {config.positions} positions")
    return limit


def _normalize(source: Source) -> bool:
    file = "modules.json"
    modules = json_fields.read(source, file, list)
    kinds = [str(json_fields.field(module, file, "type", str)).rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise CheckpointError(f"{file}: type: {kinds} is not transformer, pooling and at most normalisation")
    return "Normalize" in kinds
