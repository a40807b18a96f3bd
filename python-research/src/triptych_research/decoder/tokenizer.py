"""Makes a tokenizer.json (Hugging Face tokenizers) from a GGUF file's metadata.

GGUF names the pre-tokenizer instead of describing it, so each name needs a rule here that was compared with llama.cpp;
the tests hold ids that it made. Other names are refused.
"""

import json
from typing import Any

from triptych_research import tokenizer_file
from triptych_research.decoder.gguf_file import GgufFile
from triptych_research.json_fields import CheckpointError

ORDINARY, CONTROL = 1, 3  # tokenizer.ggml.token_type

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
# Splits before byte-pair encoding, by tokenizer.ggml.pre.
PRE_TOKENIZERS = {
    "smollm": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]},
}


def tokenizer_json(file: GgufFile) -> bytes:
    """Return a tokenizer.json that gives the file's ids. Raises CheckpointError, naming the field, for other kinds."""
    _require(file, "tokenizer.ggml.model", {"gpt2"})
    _require(file, "tokenizer.ggml.pre", set(PRE_TOKENIZERS))
    _require(file, "tokenizer.ggml.add_bos_token", {False}, default=False)
    _require(file, "tokenizer.ggml.add_space_prefix", {False}, default=False)
    tokens = file.list_of(str, "tokenizer.ggml.tokens")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise CheckpointError(f"{file.path.name}: tokenizer.ggml.tokens holds a token twice")
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _control_tokens(file, tokens),
        "normalizer": None,
        "pre_tokenizer": PRE_TOKENIZERS[file.field("tokenizer.ggml.pre")],
        "post_processor": BYTE_LEVEL,
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [merge.split(" ") for merge in file.list_of(str, "tokenizer.ggml.merges")],
        },
    }
    content = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    tokenizer_file.load(content, f"{file.path.name}: tokenizer.ggml")
    return content


def _control_tokens(file: GgufFile, tokens: list[str]) -> list[dict[str, Any]]:
    types = file.list_of(int, "tokenizer.ggml.token_type")
    if len(types) != len(tokens):
        raise CheckpointError(
            f"{file.path.name}: tokenizer.ggml.token_type has {len(types)} items for {len(tokens)} tokens"
        )
    other = set(types) - {ORDINARY, CONTROL}
    if other:
        raise CheckpointError(
            f"{file.path.name}: tokenizer.ggml.token_type has {sorted(other)}; only 1 and 3 are supported"
        )
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    pairs = enumerate(zip(tokens, types, strict=True))
    return [{"id": index, "content": token, **plain} for index, (token, kind) in pairs if kind == CONTROL]


def _require(file: GgufFile, key: str, supported: set[Any], default: Any = None) -> None:
    value = file.metadata.get(key, default)
    if value not in list(supported):  # a list, for what is asked may be one too
        raise CheckpointError(f"{file.path.name}: {key} is {value!r}; supported: {sorted(supported)}")
