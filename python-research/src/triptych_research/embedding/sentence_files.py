"""What the files of sentence-transformers say of how a text becomes a vector, in every layout that it has written.

Everything that would change a vector is read, and refused where the graph or the hot path does not do it: a setting
that nobody read would be a wrong vector that nothing shows. Golden cases cannot: the reference shares this reader.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from triptych_research import json_fields
from triptych_research.json_fields import CheckpointError
from triptych_research.sources import Source

MODULES, TRANSFORMER = "modules.json", "sentence_bert_config.json"
POOLING, NORMALIZE = "1_Pooling/config.json", "2_Normalize/config.json"
SENTENCES, TOKENIZER = "config_sentence_transformers.json", "tokenizer_config.json"
_FOLDERS = ("", "1_Pooling", "2_Normalize")

# Newer files say of the transformer what older ones had no choice about.
_FEATURES = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
    "unpad_inputs": None,
}
_VECTOR = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}


@dataclass(frozen=True)
class Prompts:
    """Texts that a model's authors write before inputs. Callers do so: nothing is added to what they send."""

    by_name: Mapping[str, str]
    default: str = ""  # name of the one that sentence-transformers writes unless it is told otherwise


@dataclass(frozen=True)
class SentenceFiles:
    """How a text becomes a vector, beside what the backbone's own config says. Pooling is the mean."""

    max_tokens: int  # special tokens included
    lower_case: bool  # before anything else that the tokenizer does
    normalize: bool
    prompts: Prompts


def read(source: Source, hidden_size: int, positions: int) -> SentenceFiles:
    """Read all of them. Raises CheckpointError, which names file and field, and SourceError for a missing file."""
    _check_pooling(source, hidden_size)
    normalize = _normalize(source)
    transformer = json_fields.read(source, TRANSFORMER)
    _only(transformer, TRANSFORMER, ("max_seq_length", "do_lower_case"), _FEATURES)
    lower_case = json_fields.field({"do_lower_case": False} | transformer, TRANSFORMER, "do_lower_case", bool)
    return SentenceFiles(_max_tokens(source, transformer, positions), lower_case, normalize, _prompts(source))


def _normalize(source: Source) -> bool:
    modules = json_fields.read(source, MODULES, list)
    kinds = [str(json_fields.field(module, MODULES, "type", str)).rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise CheckpointError(f"{MODULES}: type: {kinds} is not transformer, pooling and at most normalisation")
    for module, folder in zip(modules, _FOLDERS, strict=False):
        _only(module, MODULES, ("idx", "name", "type"), {"path": folder})
    if source.has(NORMALIZE):
        _only(json_fields.read(source, NORMALIZE), NORMALIZE, (), _VECTOR)
    return "Normalize" in kinds


def _check_pooling(source: Source, hidden_size: int) -> None:
    raw = json_fields.read(source, POOLING)
    # Older files have a flag for each way of pooling, newer ones a word or a list of words. Several are concatenated.
    flags = {name: value for name, value in raw.items() if name.startswith("pooling_mode_")}
    for name in flags:
        json_fields.field(raw, POOLING, name, bool)
    modes = raw.get("pooling_mode", [name for name, on in flags.items() if on])
    if modes not in ("mean", ["mean"], ["pooling_mode_mean_tokens"]):
        raise CheckpointError(f"{POOLING}: pooling_mode: {modes!r} is not supported, only the mean")
    dimensions = {"word_embedding_dimension": hidden_size, "embedding_dimension": hidden_size}
    _only(raw, POOLING, (*flags, "pooling_mode"), {**dimensions, "include_prompt": True})


def _max_tokens(source: Source, transformer: dict[str, Any], positions: int) -> int:
    # The length that the encoder was trained for, which is less than the positions that the backbone has. Newer files
    # have it in the tokenizer's, where none is a number above all bounds.
    if transformer.get("max_seq_length") is not None:
        limit = json_fields.positive(transformer, TRANSFORMER, "max_seq_length")
        if limit > positions:
            raise CheckpointError(
                f"{TRANSFORMER}: max_seq_length: {limit} is above config.json's {positions} positions"
            )
        return limit
    limit = json_fields.read(source, TOKENIZER).get("model_max_length", positions)
    if type(limit) not in (int, float) or limit < 1:
        raise CheckpointError(f"{TOKENIZER}: model_max_length: {limit!r} is not a number from 1 on")
    return int(min(limit, positions))


def _prompts(source: Source) -> Prompts:
    if not source.has(SENTENCES):
        return Prompts({})
    raw = json_fields.read(source, SENTENCES)
    plain = {"model_type": "SentenceTransformer", "truncate_dim": None}
    # How vectors are compared, too, is the caller's to know.
    _only(raw, SENTENCES, ("__version__", "similarity_fn_name", "prompts", "default_prompt_name"), plain)
    prompts = json_fields.field({"prompts": {}} | raw, SENTENCES, "prompts", dict)
    for name in prompts:
        json_fields.field(prompts, f"{SENTENCES}: prompts", name, str)
    default = raw.get("default_prompt_name") or ""
    if default and default not in prompts:
        raise CheckpointError(f"{SENTENCES}: default_prompt_name: {default!r} is none of the prompts")
    return Prompts({name: text for name, text in prompts.items() if text}, default if prompts.get(default) else "")


def _only(raw: Any, file: str, read: Collection[str], plain: Mapping[str, object]) -> None:
    """Refuse a field that is not among those that are read, unless it has the one value that changes nothing."""
    if not isinstance(raw, dict):
        raise CheckpointError(f"{file}: expected an object, not {raw!r}")
    for name, value in raw.items():
        if name in read:
            continue
        if name not in plain:
            raise CheckpointError(f"{file}: {name}: not a field that this exporter knows; it might change vectors")
        if value != plain[name]:
            raise CheckpointError(
                f"{file}: {name}: {json.dumps(value)} is not supported, only {json.dumps(plain[name])}"
            )
