"""Checkpoint folders: weights as they are, and a clear word about what is not supported."""

import contextlib
import math
from pathlib import Path

import numpy as np
import pytest
import tiny_decoder as tiny
from safetensors.numpy import load_file, save_file
from test_tensors import write_bfloat16

from triptych_research.decoder import llama_folder
from triptych_research.decoder.float32 import build
from triptych_research.json_fields import CheckpointError
from triptych_research.sources import WEIGHTS


@pytest.mark.parametrize("tied", [True, False])
def test_weights_and_config_come_back(tmp_path: Path, tied: bool) -> None:
    written = tiny.dense_weights(tied=tied)
    back = llama_folder.read_weights(tiny.write_folder(tmp_path, written))
    assert back.config == written.config
    assert (back.lm_head is None) is tied
    for expected, actual in zip(written.decoder_layers, back.decoder_layers, strict=True):
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(getattr(actual, name), values, err_msg=name)


def test_bfloat16_is_read(tmp_path: Path) -> None:
    written = tiny.dense_weights()
    tiny.write_folder(tmp_path, written)
    tensors = load_file(tmp_path / WEIGHTS)
    back = llama_folder.read_weights(write_bfloat16(tmp_path, tensors))
    rounded = (written.embedding.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    np.testing.assert_array_equal(back.embedding, rounded)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("model.layers.0.self_attn.q_proj.bias", False),
        ("model.layers.2.input_layernorm.weight", False),
        ("model.layers.1.self_attn.rotary_emb.inv_freq", True),
        ("lm_head.weight", True),  # of a tied model, it is the embedding
    ],
)
def test_a_tensor_that_nothing_reads_is_refused(tmp_path: Path, name: str, known: bool) -> None:
    source = tiny.write_folder(tmp_path, tiny.dense_weights())
    save_file({**load_file(tmp_path / WEIGHTS), name: np.ones(64, np.float32)}, tmp_path / WEIGHTS)
    refused = contextlib.nullcontext() if known else pytest.raises(CheckpointError, match=f"{name}: not a tensor")
    with refused:
        llama_folder.read_weights(source)


@pytest.mark.parametrize("tied", [True, False])
def test_a_graphs_size_is_known_beforehand(tied: bool) -> None:
    graph = build(tiny.dense_weights(tied=tied)).graph
    others = sum(math.prod(tensor.dims) for tensor in graph.initializer) - tiny.CONFIG.graph_weights(tied)
    assert 0 <= others < 100  # axes and the like


@pytest.mark.parametrize(
    ("field", "value", "name", "expected"),
    [
        ("head_dim", 32, "head_dim", 32),  # heads may be wider than their share of the hidden size
        ("num_key_value_heads", None, "kv_heads", tiny.CONFIG.heads),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 5000}, "rope_base", 5000),
        ("rope_theta", None, "rope_base", 10000),
    ],
)
def test_what_a_config_may_leave_out_or_say_otherwise(
    tmp_path: Path, field: str, value: object, name: str, expected: float
) -> None:
    source = tiny.write_folder(tmp_path, tiny.dense_weights(), **{field: value})
    assert getattr(llama_folder.read_config(source), name) == expected


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("model_type", "qwen2", "model_type: 'qwen2' is not supported, only 'llama'"),
        ("hidden_act", "gelu", "hidden_act: 'gelu'"),
        ("rope_scaling", {"rope_type": "llama3"}, "rope_scaling: "),
        ("rope_parameters", {"rope_type": "yarn"}, "rope_parameters.rope_type: 'yarn'"),
        ("attention_bias", True, "attention_bias: True"),
        ("rms_norm_eps", None, "rms_norm_eps: missing"),
        ("hidden_size", 63, "hidden_size is 63; it must be a multiple of 32"),
        ("num_attention_heads", 8, "head_dim is 8"),
        ("intermediate_size", 128, r"gate_proj.weight: shape is \(96, 64\), config.json says \(128, 64\)"),
        ("vocab_size", 10_000_000, r"^640\d{6} weights are 2.56 GB in float32; a graph holds at most 2.15 GB"),
        ("tie_word_embeddings", False, r"model.safetensors: lm_head.weight: missing"),
    ],
)
def test_what_the_graph_cannot_do_is_refused_by_name(tmp_path: Path, field: str, value: object, complaint: str) -> None:
    source = tiny.write_folder(tmp_path, tiny.dense_weights(), **{field: value})
    with pytest.raises(CheckpointError, match=complaint):
        llama_folder.read_weights(source)
