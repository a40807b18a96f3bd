"""GGUF files: the same weights as the format's own reader sees, in the order that the rest of the package expects."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny_decoder as tiny
from gguf import GGMLQuantizationType

from triptych_research.blocks import BlockMatrix, Matrix, dense
from triptych_research.decoder import gguf_file
from triptych_research.decoder.weights import DecoderWeights
from triptych_research.json_fields import CheckpointError
from triptych_research.reference.decoder import ReferenceDecoder


def read(path: Path) -> DecoderWeights[Matrix]:
    return gguf_file.read_weights(gguf_file.open_gguf(path))


def test_the_config_is_the_file_s(tmp_path: Path) -> None:
    tiny.write_gguf(tmp_path / "tiny.gguf", tiny.dense_weights())
    config = read(tmp_path / "tiny.gguf").config
    assert config.rms_epsilon == pytest.approx(tiny.CONFIG.rms_epsilon)
    assert {**vars(config), "rms_epsilon": 0} == {**vars(tiny.CONFIG), "rms_epsilon": 0}


@pytest.mark.parametrize("tied", [True, False])
def test_float32_weights_come_back_to_the_bit_and_in_half_split_order(tmp_path: Path, tied: bool) -> None:
    source = tiny.dense_weights(tied=tied)
    tiny.write_gguf(tmp_path / "tiny.gguf", source, GGMLQuantizationType.F32, GGMLQuantizationType.F32)
    back = read(tmp_path / "tiny.gguf")
    assert (back.lm_head is None) is tied
    for expected, actual in zip(source.decoder_layers, back.decoder_layers, strict=True):
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(getattr(actual, name), values, err_msg=name)
    np.testing.assert_array_equal(back.embedding, source.embedding)
    np.testing.assert_array_equal(back.final_norm, source.final_norm)


@pytest.mark.parametrize("linear", [GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q4_1])
def test_quantised_weights_keep_their_form_and_their_values(tmp_path: Path, linear: GGMLQuantizationType) -> None:
    source = tiny.dense_weights()
    tiny.write_gguf(tmp_path / "tiny.gguf", source, linear)
    back = read(tmp_path / "tiny.gguf")
    layer, table = back.decoder_layers[0], back.embedding
    assert isinstance(layer.down, BlockMatrix)
    assert isinstance(table, BlockMatrix)
    assert (layer.down.bits, table.bits) == (4, 8)
    for actual, expected, kind in (
        (layer.down, source.decoder_layers[0].down, linear),
        (layer.query, source.decoder_layers[0].query, linear),
        (table, source.embedding, GGMLQuantizationType.Q8_0),
    ):
        assert isinstance(expected, np.ndarray)
        np.testing.assert_array_equal(dense(actual), gguf.dequantize(gguf.quantize(expected, kind), kind))


def test_other_quantisations_are_dequantised(tmp_path: Path) -> None:
    source, kind = tiny.dense_weights(), GGMLQuantizationType.Q5_0
    tiny.write_gguf(tmp_path / "tiny.gguf", source, linear=kind)
    up = source.decoder_layers[1].up
    assert isinstance(up, np.ndarray)
    actual = read(tmp_path / "tiny.gguf").decoder_layers[1].up
    np.testing.assert_array_equal(actual, gguf.dequantize(gguf.quantize(up, kind), kind))


def test_a_file_says_the_same_as_the_weights_it_was_written_from(tmp_path: Path) -> None:
    source = tiny.dense_weights()
    tiny.write_gguf(tmp_path / "tiny.gguf", source, GGMLQuantizationType.F32, GGMLQuantizationType.F32)
    ids = [5, 17, 80, 3]
    before, after = ReferenceDecoder(source), ReferenceDecoder(read(tmp_path / "tiny.gguf"))
    np.testing.assert_allclose(
        after.logits(ids, after.empty_cache()), before.logits(ids, before.empty_cache()), atol=1e-5
    )


@pytest.mark.parametrize(
    "missing", ["llama.block_count", "general.architecture", "blk.1.ffn_up.weight", "output_norm.weight"]
)
def test_what_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    tiny.write_gguf(tmp_path / "tiny.gguf", tiny.dense_weights(), without=missing)
    with pytest.raises(CheckpointError, match=rf"tiny\.gguf: .*{missing}.*missing"):
        read(tmp_path / "tiny.gguf")


@pytest.mark.parametrize(
    ("field", "value", "complaint"),
    [
        ("general.architecture", "qwen2", "general.architecture is 'qwen2'"),
        ("llama.rope.scaling.type", "yarn", "scaled rotary"),
        ("llama.rope.dimension_count", 8, "llama.rope.dimension_count is 8"),
        ("llama.feed_forward_length", 128, r"ffn_gate.weight is \[96, 64\]; the config says \[128, 64\]"),
        ("llama.block_count", 1025, "llama.block_count is 1025; expected a whole number from 1 to 1024"),
        ("llama.attention.head_count", 0, "llama.attention.head_count is 0; expected a whole number from 1"),
        ("llama.attention.head_count", 128, "head_dim is 1; rotary attention takes multiples of 16"),
        ("llama.embedding_length", "64", "llama.embedding_length is '64'; expected a whole number"),
        ("llama.context_length", 2**31, "llama.context_length is 2147483648; expected a whole number from 1 to 2147"),
        ("llama.rope.freq_base", float("inf"), "llama.rope.freq_base is inf; expected a finite number above 0"),
        ("llama.attention.layer_norm_rms_epsilon", float("nan"), "rms_epsilon is nan; expected a finite number"),
        ("llama.attention.head_count_kv", 3, "heads is 4; it must be a multiple of kv_heads, 3"),
    ],
)
def test_what_the_graph_cannot_do_is_refused_by_name(tmp_path: Path, field: str, value: object, complaint: str) -> None:
    tiny.write_gguf(tmp_path / "tiny.gguf", tiny.dense_weights(), metadata={field: value})
    with pytest.raises(CheckpointError, match=complaint):
        read(tmp_path / "tiny.gguf")


@pytest.mark.parametrize("name", ["blk.0.attn_q.bias", "blk.2.attn_q.weight", "other"])
def test_a_tensor_that_nothing_reads_is_refused(tmp_path: Path, name: str) -> None:
    tiny.write_gguf(tmp_path / "tiny.gguf", tiny.dense_weights())
    file = gguf_file.open_gguf(tmp_path / "tiny.gguf")
    file.tensors[name] = file.tensors["output_norm.weight"]
    with pytest.raises(CheckpointError, match=rf"tiny\.gguf: {name}: not a tensor of this architecture"):
        gguf_file.read_weights(file)


def test_a_tensor_of_a_type_that_is_no_weight_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    tiny.write_gguf(path, tiny.dense_weights())
    norm = b"output_norm.weight" + struct.pack("<IQ", 1, tiny.CONFIG.hidden_size)
    content = path.read_bytes()
    place = content.index(norm) + len(norm)
    path.write_bytes(content[:place] + struct.pack("<I", GGMLQuantizationType.I32) + content[place + 4 :])
    with pytest.raises(CheckpointError, match=r"tiny\.gguf: output_norm\.weight: I32 is not supported"):
        read(path)


@pytest.mark.parametrize("kept", [0, 3, 100, 5000, 20000])
def test_a_cut_file_is_refused_by_name(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "tiny.gguf"
    tiny.write_gguf(path, tiny.dense_weights())
    assert path.stat().st_size > kept
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"tiny\.gguf: not a readable GGUF file"):
        read(path)
