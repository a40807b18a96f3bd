"""Reads a Llama-architecture checkpoint as it is published: config.json and model.safetensors."""

from typing import Any

from triptych_research import json_fields
from triptych_research.blocks import Floats
from triptych_research.decoder.weights import DecoderConfig, DecoderLayer, DecoderWeights
from triptych_research.json_fields import CheckpointError
from triptych_research.sources import WEIGHTS, Source
from triptych_research.tensors import check_size, load_safetensors

CONFIG = "config.json"
# Settings that would change what the model computes, each with the only value that is supported.
PLAIN = {
    "hidden_act": "silu",
    "rope_scaling": None,
    "rope_interleaved": False,
    "partial_rotary_factor": 1.0,
    "attention_bias": False,
    "mlp_bias": False,
}


def read_config(source: Source) -> DecoderConfig:
    """The architecture's numbers; CheckpointError names a field that is missing or not supported."""
    raw = json_fields.read(source, CONFIG)
    json_fields.require(raw, CONFIG, "model_type", "llama")
    for name, plain in PLAIN.items():
        if raw.get(name, plain) != plain:
            raise CheckpointError(f"{CONFIG}: {name}: {raw[name]!r} is not supported, only {plain!r}")
    hidden, heads = (json_fields.positive(raw, CONFIG, name) for name in ("hidden_size", "num_attention_heads"))
    optional = {"num_key_value_heads": heads, "head_dim": max(hidden // heads, 1)}
    raw |= {name: default for name, default in optional.items() if raw.get(name) is None}
    return DecoderConfig(
        vocabulary_size=json_fields.positive(raw, CONFIG, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=json_fields.positive(raw, CONFIG, "intermediate_size"),
        layers=json_fields.positive(raw, CONFIG, "num_hidden_layers", at_most=json_fields.MAX_LAYERS),
        heads=heads,
        kv_heads=json_fields.positive(raw, CONFIG, "num_key_value_heads"),
        head_dim=json_fields.positive(raw, CONFIG, "head_dim"),
        context_tokens=json_fields.positive(raw, CONFIG, "max_position_embeddings"),
        rope_base=_rope_base(raw),
        rms_epsilon=json_fields.field(raw, CONFIG, "rms_norm_eps", float),
    )


def read_weights(source: Source) -> DecoderWeights[Floats]:
    """All weights; CheckpointError names a tensor that is missing or is not what the config says, or the size."""
    config = read_config(source)
    tied = json_fields.field(
        {"tie_word_embeddings": False} | json_fields.read(source, CONFIG), CONFIG, "tie_word_embeddings", bool
    )
    check_size(config.graph_weights(tied))
    stored = load_safetensors(source)
    read = {"lm_head.weight"}  # which is the embedding where they are tied

    def tensor(name: str, *shape: int) -> Floats:
        read.add(name)
        if name not in stored:
            raise CheckpointError(f"{WEIGHTS}: {name}: missing")
        if stored[name].shape != shape:
            raise CheckpointError(f"{WEIGHTS}: {name}: shape is {stored[name].shape}, {CONFIG} says {shape}")
        return stored[name].floats()

    query_rows, kv_rows = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, intermediate, vocabulary = config.hidden_size, config.intermediate_size, config.vocabulary_size

    def layer(index: int) -> DecoderLayer[Floats]:
        block = f"model.layers.{index}"
        return DecoderLayer(
            attention_norm=tensor(f"{block}.input_layernorm.weight", hidden),
            query=tensor(f"{block}.self_attn.q_proj.weight", query_rows, hidden),
            key=tensor(f"{block}.self_attn.k_proj.weight", kv_rows, hidden),
            value=tensor(f"{block}.self_attn.v_proj.weight", kv_rows, hidden),
            output=tensor(f"{block}.self_attn.o_proj.weight", hidden, query_rows),
            ffn_norm=tensor(f"{block}.post_attention_layernorm.weight", hidden),
            gate=tensor(f"{block}.mlp.gate_proj.weight", intermediate, hidden),
            up=tensor(f"{block}.mlp.up_proj.weight", intermediate, hidden),
            down=tensor(f"{block}.mlp.down_proj.weight", hidden, intermediate),
        )

    weights = DecoderWeights(
        config=config,
        embedding=tensor("model.embed_tokens.weight", vocabulary, hidden),
        decoder_layers=tuple(layer(index) for index in range(config.layers)),
        final_norm=tensor("model.norm.weight", hidden),
        lm_head=None if tied else tensor("lm_head.weight", vocabulary, hidden),
    )
    # Old exporters stored the angles of rotary embeddings, which follow from the config.
    if unread := sorted(name for name in stored.keys() - read if not name.endswith("rotary_emb.inv_freq")):
        raise CheckpointError(f"{WEIGHTS}: {unread[0]}: not a tensor of this architecture")
    return weights


def _rope_base(raw: dict[str, Any]) -> float:
    """The base of rotary embeddings, which newer files keep in an object of its own."""
    rope = raw.get("rope_parameters") or raw
    if not isinstance(rope, dict):
        raise CheckpointError(f"{CONFIG}: rope_parameters: expected an object")
    if rope.get("rope_type", "default") != "default":
        raise CheckpointError(
            f"{CONFIG}: rope_parameters.rope_type: {rope['rope_type']!r} is not supported, only 'default'"
        )
    base = rope.get("rope_theta", 10000.0)
    if type(base) not in (int, float) or base <= 0:
        raise CheckpointError(f"{CONFIG}: rope_theta: {base!r} is not a number above 0")
    return float(base)
