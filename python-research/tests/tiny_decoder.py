"""A Llama-architecture decoder with random weights, small enough to run in milliseconds, as every kind of source."""

import dataclasses
import json
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from triptych_research import sources
from triptych_research.blocks import BlockMatrix, Floats, Matrix, to_int8
from triptych_research.decoder.weights import DecoderConfig, DecoderLayer, DecoderWeights
from triptych_research.reference import compare_decoder
from triptych_research.sources import WEIGHTS, Source

CONFIG = DecoderConfig(
    vocabulary_size=96,
    hidden_size=64,
    intermediate_size=96,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=16,
    context_tokens=300,
    rope_base=10000.0,
    rms_epsilon=1e-5,
)
CONTROL_TOKENS = ("<end>", "<start>")
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<start>system\nBe kind.<end>\n' }}{% endif %}"
    "{% for message in messages %}{{ '<start>' + message['role'] + '\n' + message['content'] + '<end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start>assistant\n' }}{% endif %}"
)


def dense_weights(seed: int = 0, tied: bool = True) -> DecoderWeights[Floats]:
    """Float32 weights, large enough for logits to differ clearly."""
    random = np.random.default_rng(seed)

    def matrix(outputs: int, inputs: int) -> Floats:
        values: Floats = (random.standard_normal((outputs, inputs)) * 1.5 / np.sqrt(inputs)).astype(np.float32)
        return values

    def norm() -> np.ndarray:
        return (1 + 0.1 * random.standard_normal(CONFIG.hidden_size)).astype(np.float32)

    def layer() -> DecoderLayer[Floats]:
        query_rows, kv_rows = CONFIG.heads * CONFIG.head_dim, CONFIG.kv_heads * CONFIG.head_dim
        hidden, intermediate = CONFIG.hidden_size, CONFIG.intermediate_size
        return DecoderLayer(
            attention_norm=norm(),
            query=matrix(query_rows, hidden),
            key=matrix(kv_rows, hidden),
            value=matrix(kv_rows, hidden),
            output=matrix(hidden, query_rows),
            ffn_norm=norm(),
            gate=matrix(intermediate, hidden),
            up=matrix(intermediate, hidden),
            down=matrix(hidden, intermediate),
        )

    embedding = matrix(CONFIG.vocabulary_size, CONFIG.hidden_size)
    layers = tuple(layer() for _ in range(CONFIG.layers))
    head = None if tied else matrix(CONFIG.vocabulary_size, CONFIG.hidden_size)
    return DecoderWeights(CONFIG, embedding, layers, norm(), head)


def four_bit(matrix: Floats) -> BlockMatrix:
    """Round a float32 matrix to 16 levels from each block's lower end, with factors that float16 holds."""
    blocks = matrix.reshape(len(matrix), -1, 32)
    low, high = blocks.min(axis=-1), blocks.max(axis=-1)
    scales, offsets = (values.astype(np.float16).astype(np.float32) for values in ((high - low) / 15, low))
    codes = np.rint((blocks - offsets[..., None]) / scales[..., None]).clip(0, 15).astype(np.uint8)
    return BlockMatrix(codes, scales, offsets)


def weights() -> DecoderWeights[Matrix]:
    """4-bit weights and an 8-bit table, as GGUF files have them."""
    quantised = dense_weights().map_matrices(four_bit)
    return dataclasses.replace(quantised, embedding=to_int8(dense_weights().embedding))


def odd_vocabulary() -> DecoderWeights[Matrix]:
    """Tables of 90 tokens, which fill no tiles, and one for the output that is not in blocks."""
    plain = dense_weights(tied=False)
    assert plain.lm_head is not None
    config = dataclasses.replace(CONFIG, vocabulary_size=90)
    return dataclasses.replace(
        weights(), config=config, embedding=to_int8(plain.embedding[:90]), lm_head=plain.lm_head[:90]
    )


def interleave(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Query or key rows from halves to the neighbours that GGUF has."""
    return matrix.reshape(heads, 2, -1, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)


def write_gguf(
    path: Path,
    source: DecoderWeights[Floats],
    linear: GGMLQuantizationType = GGMLQuantizationType.Q4_1,
    table: GGMLQuantizationType = GGMLQuantizationType.Q8_0,
    without: str = "",
    metadata: dict[str, object] | None = None,
) -> None:
    """Write float32 weights as a GGUF file, leaving out the tensor or field `without`."""
    writer = gguf.GGUFWriter(path, arch="", endianess=gguf.GGUFEndian.LITTLE)
    fields: dict[str, object] = {
        "general.architecture": "llama",
        "llama.block_count": CONFIG.layers,
        "llama.context_length": CONFIG.context_tokens,
        "llama.embedding_length": CONFIG.hidden_size,
        "llama.feed_forward_length": CONFIG.intermediate_size,
        "llama.attention.head_count": CONFIG.heads,
        "llama.attention.head_count_kv": CONFIG.kv_heads,
        "llama.rope.freq_base": CONFIG.rope_base,
        "llama.attention.layer_norm_rms_epsilon": CONFIG.rms_epsilon,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        **vocabulary(),
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
        **(metadata or {}),
    }
    for key, value in fields.items():
        if key == without:
            continue
        match value:
            case str():
                writer.add_string(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float32(key, value)
            case list():
                writer.add_array(key, value)
    for name, (values, kind) in _tensors(source, linear, table).items():
        if name != without:
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def vocabulary() -> dict[str, object]:
    """A byte-level vocabulary of CONFIG's size: two control tokens, single characters and one merge."""
    characters = [chr(code) for code in range(33, 127)][: CONFIG.vocabulary_size - 5]
    tokens = [*CONTROL_TOKENS, *characters, "Ġ", "Ċ", "he"]
    assert len(tokens) == CONFIG.vocabulary_size
    kinds = [3] * len(CONTROL_TOKENS) + [1] * (len(tokens) - len(CONTROL_TOKENS))
    return {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds, "tokenizer.ggml.merges": ["h e"]}


def write_folder(folder: Path, source: DecoderWeights[Floats], **changes: object) -> Source:
    """Write float32 weights as a checkpoint folder; `changes` go into config.json, and None leaves a field out."""
    config: dict[str, object] = {
        "model_type": "llama",
        "vocab_size": CONFIG.vocabulary_size,
        "hidden_size": CONFIG.hidden_size,
        "intermediate_size": CONFIG.intermediate_size,
        "num_hidden_layers": CONFIG.layers,
        "num_attention_heads": CONFIG.heads,
        "num_key_value_heads": CONFIG.kv_heads,
        "max_position_embeddings": CONFIG.context_tokens,
        "rope_theta": CONFIG.rope_base,
        "rms_norm_eps": CONFIG.rms_epsilon,
        "hidden_act": "silu",
        "tie_word_embeddings": source.lm_head is None,
        "eos_token_id": 0,
        **changes,
    }
    config = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    template = {"bos_token": "<start>", "eos_token": {"content": "<end>"}, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(template))
    _tokenizer().save(str(folder / "tokenizer.json"))
    tensors = {name: np.ascontiguousarray(values) for name, values in compare_decoder.tensors(source).items()}
    if source.lm_head is None:
        del tensors["lm_head.weight"]
    save_file(tensors, folder / WEIGHTS)
    return sources.Folder(folder, license="MIT", owner="nobody").fetch(folder)


def _tokenizer() -> Tokenizer:
    """The vocabulary of `write_gguf` as published folders have it."""
    tokens = vocabulary()["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate(tokens)}, [("h", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(CONTROL_TOKENS))
    tokenizer.enable_truncation(8)  # as published files often are
    return tokenizer


def _tensors(
    source: DecoderWeights[Floats], linear: GGMLQuantizationType, table: GGMLQuantizationType
) -> dict[str, tuple[np.ndarray, GGMLQuantizationType]]:
    plain = GGMLQuantizationType.F32
    tensors = {"token_embd.weight": (source.embedding, table), "output_norm.weight": (source.final_norm, plain)}
    if source.lm_head is not None:
        tensors["output.weight"] = (source.lm_head, table)
    for index, layer in enumerate(source.decoder_layers):
        block = f"blk.{index}"
        tensors |= {
            f"{block}.attn_norm.weight": (layer.attention_norm, plain),
            f"{block}.attn_q.weight": (interleave(layer.query, CONFIG.heads), linear),
            f"{block}.attn_k.weight": (interleave(layer.key, CONFIG.kv_heads), linear),
            f"{block}.attn_v.weight": (layer.value, linear),
            f"{block}.attn_output.weight": (layer.output, linear),
            f"{block}.ffn_norm.weight": (layer.ffn_norm, plain),
            f"{block}.ffn_gate.weight": (layer.gate, linear),
            f"{block}.ffn_up.weight": (layer.up, linear),
            f"{block}.ffn_down.weight": (layer.down, linear),
        }
    return tensors
