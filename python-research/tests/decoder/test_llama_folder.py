"""Checkpoint folders: weights as they are, and a clear word about what is not supported."""

from pathlib import Path

import numpy as np
import pytest
import tiny

from triptych_research.decoder import llama_folder


@pytest.mark.parametrize("tied", [True, False])
def test_weights_and_config_come_back(tmp_path: Path, tied: bool) -> None:
    source = tiny.dense_weights(tied=tied)
    tiny.write_folder(tmp_path, source)
    back = llama_folder.read_weights(tmp_path)
    assert back.config == source.config
    assert (back.lm_head is None) is tied
    for expected, actual in zip(source.decoder_layers, back.decoder_layers, strict=True):
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(getattr(actual, name), values, err_msg=name)


def test_heads_may_be_wider_than_their_share_of_the_hidden_size(tmp_path: Path) -> None:
    tiny.write_folder(tmp_path, tiny.dense_weights(), head_dim=32)
    assert llama_folder.read_config(tmp_path).head_dim == 32


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("model_type", "qwen2", "model_type is 'qwen2'; only 'llama'"),
        ("hidden_act", "gelu", "hidden_act is 'gelu'"),
        ("rope_scaling", {"rope_type": "llama3"}, "rope_scaling is"),
        ("rope_parameters", {"rope_type": "yarn"}, "rope_parameters.rope_type is 'yarn'"),
        ("attention_bias", True, "attention_bias is True"),
        ("hidden_size", 63, "hidden_size is 63; it must be a multiple of 32"),
        ("num_attention_heads", 8, "head_dim is 8"),
        ("intermediate_size", 128, r"gate_proj.weight is \[96, 64\]; the config says \[128, 64\]"),
        ("tie_word_embeddings", False, "tensor 'lm_head.weight' is in none"),
    ],
)
def test_what_the_graph_cannot_do_is_refused_by_name(
    tmp_path: Path, field: str, value: object, complaint: str
) -> None:
    tiny.write_folder(tmp_path, tiny.dense_weights(), **{field: value})
    with pytest.raises(ValueError, match=complaint):
        llama_folder.read_weights(tmp_path)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    tiny.write_folder(tmp_path, tiny.dense_weights())
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace("rms_norm_eps", "layer_norm_eps"))
    with pytest.raises(ValueError, match="'rms_norm_eps' is missing"):
        llama_folder.read_config(tmp_path)
