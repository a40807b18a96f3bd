"""Reads a folder in the layout of published Llama-architecture checkpoints: config.json and *.safetensors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from triptych_research.decoder.blocks import Floats
from triptych_research.decoder.weights import DecoderConfig, DecoderLayer, DecoderWeights

# Settings that would change what the model computes, with the only value that is supported.
PLAIN = {
    "model_type": "llama",
    "hidden_act": "silu",
    "rope_scaling": None,
    "rope_interleaved": False,
    "partial_rotary_factor": 1.0,
    "attention_bias": False,
    "mlp_bias": False,
}


def read_config(folder: Path) -> DecoderConfig:
    """The architecture's numbers from config.json; ValueError names a field that is missing or not supported."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name, plain in PLAIN.items():
        if config.get(name, plain) != plain:
            raise ValueError(f"config.json: {name} is {config[name]!r}; only {plain!r} is supported")

    def number(name: str) -> Any:
        if name not in config:
            raise ValueError(f"config.json: field {name!r} is missing")
        return config[name]

    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise ValueError(
            f"config.json: rope_parameters.rope_type is {rope['rope_type']!r}; only 'default' is supported"
        )
    heads = number("num_attention_heads")
    return DecoderConfig(
        vocabulary_size=number("vocab_size"),
        hidden_size=number("hidden_size"),
        intermediate_size=number("intermediate_size"),
        layers=number("num_hidden_layers"),
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or number("hidden_size") // heads,
        context_tokens=number("max_position_embeddings"),
        rope_base=float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0),
        rms_epsilon=float(number("rms_norm_eps")),
    )


def read_weights(folder: Path) -> DecoderWeights:
    """All weights as float32; ValueError names a tensor that is missing or has another shape than the config says."""
    config = read_config(folder)
    tensors = _Tensors(folder)
    tied = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("tie_word_embeddings", False)
    query_rows, kv_rows = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, intermediate, vocabulary = config.hidden_size, config.intermediate_size, config.vocabulary_size

    def layer(index: int) -> DecoderLayer:
        block = f"model.layers.{index}"
        return DecoderLayer(
            attention_norm=tensors.get(f"{block}.input_layernorm.weight", hidden),
            query=tensors.get(f"{block}.self_attn.q_proj.weight", query_rows, hidden),
            key=tensors.get(f"{block}.self_attn.k_proj.weight", kv_rows, hidden),
            value=tensors.get(f"{block}.self_attn.v_proj.weight", kv_rows, hidden),
            output=tensors.get(f"{block}.self_attn.o_proj.weight", hidden, query_rows),
            ffn_norm=tensors.get(f"{block}.post_attention_layernorm.weight", hidden),
            gate=tensors.get(f"{block}.mlp.gate_proj.weight", intermediate, hidden),
            up=tensors.get(f"{block}.mlp.up_proj.weight", intermediate, hidden),
            down=tensors.get(f"{block}.mlp.down_proj.weight", hidden, intermediate),
        )

    return DecoderWeights(
        config=config,
        embedding=tensors.get("model.embed_tokens.weight", vocabulary, hidden),
        decoder_layers=tuple(layer(index) for index in range(config.layers)),
        final_norm=tensors.get("model.norm.weight", hidden),
        lm_head=None if tied else tensors.get("lm_head.weight", vocabulary, hidden),
    )


class _Tensors:
    """The tensors of all *.safetensors files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="numpy") as tensors:
                self.files.update(dict.fromkeys(tensors.keys(), path))

    def get(self, name: str, *shape: int) -> Floats:
        if name not in self.files:
            raise ValueError(f"tensor {name!r} is in none of the folder's safetensors files")
        with safe_open(self.files[name], framework="numpy") as tensors:
            values = np.asarray(tensors.get_tensor(name)).astype(np.float32)
        if values.shape != shape:
            raise ValueError(f"{self.files[name].name}: {name} is {list(values.shape)}; the config says {list(shape)}")
        return values
