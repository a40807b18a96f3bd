"""llama.cpp's server as a peer: the same weights in its own 8-bit form, the same texts through its own HTTP."""

import base64
import json
import pathlib
from collections.abc import Sequence

import gguf
import numpy as np
from tokenizers import Tokenizer
from triptych_research.embedding.checkpoint import Checkpoint

from bench.embeddings import load
from bench.llama_server import LlamaServer
from e2e import raw

SLOTS = 16  # texts that it computes together
TOKENS_PER_TEXT = 256  # all that the model reads of a text
Q8 = gguf.GGMLQuantizationType.Q8_0
# Our layers' names, and llama.cpp's.
LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}


class LlamaEmbedder(LlamaServer):
    """One with an encoder, and room for as many texts as it computes together."""

    def __init__(self, model: pathlib.Path, log: pathlib.Path, threads: int) -> None:
        tokens = str(SLOTS * TOKENS_PER_TEXT)
        room = ["--ctx-size", tokens, "--batch-size", tokens, "--ubatch-size", tokens]
        super().__init__(model, log, threads, SLOTS, ["--embeddings", "--pooling", "mean", *room])

    def requests(self, texts: Sequence[str], texts_per_request: int) -> list[bytes]:
        """As ours: base64, keep-alive."""
        return [
            self._request(texts[start] if texts_per_request == 1 else texts[start : start + texts_per_request])
            for start in range(0, len(texts) - texts_per_request + 1, texts_per_request)
        ]

    def vectors(self, texts: Sequence[str]) -> np.ndarray:
        """What it says of texts, [texts, dimensions]."""
        reply, *_ = load.closed_loop(self.address, [self._request(texts)], 1, 1e-3, keep_bodies=True)
        data = json.loads(reply.body or b"")["data"]
        return np.stack([np.frombuffer(base64.b64decode(each["embedding"]), np.float32) for each in data])

    def _request(self, some: str | Sequence[str]) -> bytes:
        body = {"input": some, "encoding_format": "base64"}
        return raw.post(self.address, "/v1/embeddings", "none", json.dumps(body).encode())


def write_gguf(checkpoint: Checkpoint, path: pathlib.Path) -> None:
    """Write a checkpoint as llama.cpp reads it: matrices in 8 bits and blocks of 32, the rest in float32."""
    config, tensors = checkpoint.config, checkpoint.tensors
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(config.positions)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.layers)
    writer.add_head_count(config.heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    _add_tokenizer(writer, checkpoint.tokenizer(), config.token_types)

    def add(name: str, source: str) -> None:
        for part in ("weight", "bias"):
            if f"{source}.{part}" in tensors:
                tensor = tensors[f"{source}.{part}"]
                is_norm = tensor.ndim == 1
                writer.add_tensor(
                    f"{name}.{part}",
                    tensor if is_norm else gguf.quantize(tensor, Q8),
                    raw_dtype=None if is_norm else Q8,
                )

    add("token_embd", "embeddings.word_embeddings")
    writer.add_tensor("position_embd.weight", tensors["embeddings.position_embeddings.weight"])
    writer.add_tensor("token_types.weight", tensors["embeddings.token_type_embeddings.weight"])
    add("token_embd_norm", "embeddings.LayerNorm")
    for layer in range(config.layers):
        for ours, theirs in LAYER.items():
            add(f"blk.{layer}.{theirs}", f"encoder.layer.{layer}.{ours}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer, token_types: int) -> None:
    """WordPiece: words begin with a mark of their own there, where here their continuations do."""
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    names = sorted(vocabulary, key=lambda name: vocabulary[name])

    def piece(name: str) -> str:
        if name.startswith("[") and name.endswith("]"):
            return name
        return name[2:] if name.startswith("##") else "\u2581" + name

    special = [name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if name in vocabulary]
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece(name) for name in names])
    writer.add_token_types([control if name in special else normal for name in names])
    writer.add_token_type_count(token_types)
    writer.add_bos_token_id(vocabulary["[CLS]"])
    writer.add_eos_token_id(vocabulary["[SEP]"])
    writer.add_sep_token_id(vocabulary["[SEP]"])
    writer.add_unk_token_id(vocabulary["[UNK]"])
    writer.add_pad_token_id(vocabulary["[PAD]"])
    writer.add_mask_token_id(vocabulary["[MASK]"])
