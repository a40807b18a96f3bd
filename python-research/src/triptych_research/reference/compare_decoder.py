"""Compares the NumPy decoder with transformers on PyTorch. Needs the extra `torch`; nothing else does."""

from collections.abc import Callable

import numpy as np

from triptych_research.blocks import Floats, Matrix, dense
from triptych_research.decoder import golden
from triptych_research.decoder.checkpoint import DecoderCheckpoint
from triptych_research.decoder.weights import DecoderWeights
from triptych_research.reference import ReferenceMismatchError
from triptych_research.reference.decoder import ReferenceDecoder

# float32 on both sides, in another order. Logits are up to 30 or so.
TOLERANCE = 1e-3


def with_torch(checkpoint: DecoderCheckpoint) -> float:
    """Return the largest difference of any logit of the golden prompts.

    Raises ReferenceMismatchError when it is above TOLERANCE, or when the extra is not installed.
    """
    weights = checkpoint.weights
    theirs, ours = _torch_model(weights), ReferenceDecoder(weights)
    cases = golden.cases(checkpoint.tokenizer(), checkpoint.chat_template(), weights.config.context_tokens)
    error = max(float(np.abs(theirs(case.ids) - ours.logits(case.ids, ours.empty_cache())).max()) for case in cases)
    if not error <= TOLERANCE:
        raise ReferenceMismatchError(f"NumPy and PyTorch differ by {error:.1e}, above {TOLERANCE:g}")
    return error


def tensors(weights: DecoderWeights[Matrix]) -> dict[str, Floats]:
    """Return the weights under the names of published checkpoints."""
    named = {"model.embed_tokens.weight": dense(weights.embedding), "model.norm.weight": weights.final_norm}
    named["lm_head.weight"] = named["model.embed_tokens.weight"] if weights.lm_head is None else dense(weights.lm_head)
    for index, layer in enumerate(weights.decoder_layers):
        block = f"model.layers.{index}"
        named |= {
            f"{block}.input_layernorm.weight": layer.attention_norm,
            f"{block}.self_attn.q_proj.weight": dense(layer.query),
            f"{block}.self_attn.k_proj.weight": dense(layer.key),
            f"{block}.self_attn.v_proj.weight": dense(layer.value),
            f"{block}.self_attn.o_proj.weight": dense(layer.output),
            f"{block}.post_attention_layernorm.weight": layer.ffn_norm,
            f"{block}.mlp.gate_proj.weight": dense(layer.gate),
            f"{block}.mlp.up_proj.weight": dense(layer.up),
            f"{block}.mlp.down_proj.weight": dense(layer.down),
        }
    return named


def _torch_model(weights: DecoderWeights[Matrix]) -> Callable[[list[int]], Floats]:
    try:
        import torch
        import transformers
    except ImportError as error:
        hint = "pip install -e 'python-research[torch]'"
        raise ReferenceMismatchError(f"{error.name} is not installed: {hint}") from error
    config = weights.config
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=config.vocabulary_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.context_tokens,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope_base},
            rms_norm_eps=config.rms_epsilon,
            tie_word_embeddings=weights.lm_head is None,
        )
    ).eval()
    model.load_state_dict({name: torch.from_numpy(values) for name, values in tensors(weights).items()})

    def logits(token_ids: list[int]) -> Floats:
        with torch.no_grad():
            result: Floats = model(input_ids=torch.tensor([token_ids])).logits[0].numpy()  # [tokens, vocabulary]
        return result

    return logits
