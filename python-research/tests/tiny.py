"""A sentence encoder with random weights and few dimensions, in the files that a real one has."""

import json
import pathlib
import string

import numpy as np
import safetensors.numpy
import tokenizers

from triptych_research.embedding.checkpoint import EncoderConfig, tensor_shapes

CONFIG = EncoderConfig(
    vocabulary_size=100,
    hidden_size=32,
    layers=2,
    heads=4,
    intermediate_size=64,
    positions=48,
    token_types=2,
    layer_norm_eps=1e-12,
)
MAX_TOKENS = 40
CONFIG_JSON = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": CONFIG.vocabulary_size,
    "hidden_size": CONFIG.hidden_size,
    "num_hidden_layers": CONFIG.layers,
    "num_attention_heads": CONFIG.heads,
    "intermediate_size": CONFIG.intermediate_size,
    "max_position_embeddings": CONFIG.positions,
    "type_vocab_size": CONFIG.token_types,
    "layer_norm_eps": CONFIG.layer_norm_eps,
}
MODULES = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Normalize")]


def write(folder: pathlib.Path) -> pathlib.Path:
    """Write the model's files into a new folder and return it."""
    (folder / "1_Pooling").mkdir(parents=True)
    write_json(folder / "config.json", CONFIG_JSON)
    write_json(folder / "modules.json", MODULES)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS})
    write_json(folder / "1_Pooling/config.json", {"pooling_mode_mean_tokens": True})
    _tokenizer().save(str(folder / "tokenizer.json"))
    safetensors.numpy.save_file(tensors(), folder / "model.safetensors")
    return folder


def write_json(path: pathlib.Path, value: object) -> None:
    path.write_text(json.dumps(value))


def tensors() -> dict[str, np.ndarray]:
    """Return random weights, always the same."""
    random = np.random.default_rng(0)

    def tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name.endswith("LayerNorm.weight"):
            return random.uniform(0.5, 1.5, shape)
        scale = 1 if name.startswith("embeddings") else shape[-1] ** -0.5
        return random.normal(0, scale, shape)

    return {name: tensor(name, shape).astype(np.float32) for name, shape in tensor_shapes(CONFIG).items()}


def _tokenizer() -> tokenizers.Tokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase), *".,!?"]
    vocabulary = {token: index for index, token in enumerate([*special, *letters])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    # As published files often are: padded and cut for somebody's training run.
    tokenizer.enable_padding(length=16)
    tokenizer.enable_truncation(8)
    return tokenizer
