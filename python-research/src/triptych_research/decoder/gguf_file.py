"""Reads a Llama-architecture GGUF file: numbers, weights in the file's own quantised form, and tokenizer metadata.

The container is read by `gguf_container`, and blocks that no graph has are undone by the `gguf` package of the format's
authors; here is only what metadata and weights mean.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from gguf import GGMLQuantizationType, dequantize
from numpy.typing import NDArray

from triptych_research.blocks import BLOCK, CENTRE, BlockMatrix, Floats, Matrix, take_rows
from triptych_research.decoder import gguf_container
from triptych_research.decoder.gguf_container import Tensor
from triptych_research.decoder.weights import DecoderConfig, DecoderLayer, DecoderWeights
from triptych_research.json_fields import MAX_LAYERS, MAX_NUMBER, CheckpointError
from triptych_research.tensors import check_size

T = TypeVar("T", str, int)


@dataclass(frozen=True)
class GgufFile:
    """A parsed file."""

    path: Path
    metadata: dict[str, Any]  # numbers, strings and lists by the file's keys
    tensors: dict[str, Tensor]

    def field(self, key: str) -> Any:
        """One metadata value; CheckpointError names the key where there is none."""
        if key not in self.metadata:
            raise CheckpointError(f"{self.path.name}: metadata field {key!r} is missing")
        return self.metadata[key]

    def positive(self, key: str, default: int | None = None, at_most: int = MAX_NUMBER) -> int:
        """One whole number above 0; CheckpointError names the key where it is none."""
        value = self.field(key) if default is None else self.metadata.get(key, default)
        if type(value) is not int or not 0 < value <= at_most:
            raise CheckpointError(f"{self.path.name}: {key} is {value!r}; expected a whole number from 1 to {at_most}")
        return value

    def positive_float(self, key: str, default: float | None = None) -> float:
        """One finite number above 0; CheckpointError names the key where it is none."""
        value = self.field(key) if default is None else self.metadata.get(key, default)
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise CheckpointError(f"{self.path.name}: {key} is {value!r}; expected a finite number above 0")
        return float(value)

    def list_of(self, kind: type[T], key: str) -> list[T]:
        """One list whose items are of one kind; CheckpointError names the key where it is none."""
        values = self.field(key)
        if not isinstance(values, list) or not all(type(value) is kind for value in values):
            raise CheckpointError(f"{self.path.name}: {key}: expected a list of {kind.__name__}")
        return values

    def tensor(self, name: str) -> Tensor:
        """One tensor; CheckpointError names it where there is none."""
        if name not in self.tensors:
            raise CheckpointError(f"{self.path.name}: tensor {name!r} is missing")
        return self.tensors[name]


def open_gguf(path: Path) -> GgufFile:
    """Parse a GGUF file. Raises CheckpointError, naming the file, when it is damaged."""
    return GgufFile(path, *gguf_container.read(path))


def read_config(file: GgufFile) -> DecoderConfig:
    """The architecture's numbers."""
    architecture = file.field("general.architecture")
    if architecture != "llama":
        raise CheckpointError(f"{file.path.name}: general.architecture is {architecture!r}; only 'llama' is supported")
    if "rope_freqs.weight" in file.tensors or "llama.rope.scaling.type" in file.metadata:
        raise CheckpointError(f"{file.path.name}: scaled rotary embeddings are not supported")
    hidden, heads = file.positive("llama.embedding_length"), file.positive("llama.attention.head_count")
    head_dim = file.positive("llama.attention.key_length", max(hidden // heads, 1))
    rotated = file.metadata.get("llama.rope.dimension_count", head_dim)
    if rotated != head_dim:
        raise CheckpointError(
            f"{file.path.name}: llama.rope.dimension_count is {rotated}; it must be head_dim, {head_dim}"
        )
    return DecoderConfig(
        vocabulary_size=len(file.list_of(str, "tokenizer.ggml.tokens")),
        hidden_size=hidden,
        intermediate_size=file.positive("llama.feed_forward_length"),
        layers=file.positive("llama.block_count", at_most=MAX_LAYERS),
        heads=heads,
        kv_heads=file.positive("llama.attention.head_count_kv", heads),
        head_dim=head_dim,
        context_tokens=file.positive("llama.context_length"),
        rope_base=file.positive_float("llama.rope.freq_base", 10000.0),
        rms_epsilon=file.positive_float("llama.attention.layer_norm_rms_epsilon"),
    )


def read_weights(file: GgufFile) -> DecoderWeights[Matrix]:
    """All weights; CheckpointError names a tensor that is missing or is not what the config says, or the size."""
    config = read_config(file)
    has_head = "output.weight" in file.tensors
    check_size(config.graph_weights(tied=not has_head))
    query_rows, kv_rows = config.heads * config.head_dim, config.kv_heads * config.head_dim
    hidden, intermediate, vocabulary = config.hidden_size, config.intermediate_size, config.vocabulary_size
    _refuse_others(file, config.layers)

    def layer(index: int) -> DecoderLayer[Matrix]:
        block = f"blk.{index}"
        query = _matrix(file, f"{block}.attn_q.weight", query_rows, hidden)
        key = _matrix(file, f"{block}.attn_k.weight", kv_rows, hidden)
        return DecoderLayer(
            attention_norm=_vector(file, f"{block}.attn_norm.weight", hidden),
            query=take_rows(query, half_split_order(config.heads, config.head_dim)),
            key=take_rows(key, half_split_order(config.kv_heads, config.head_dim)),
            value=_matrix(file, f"{block}.attn_v.weight", kv_rows, hidden),
            output=_matrix(file, f"{block}.attn_output.weight", hidden, query_rows),
            ffn_norm=_vector(file, f"{block}.ffn_norm.weight", hidden),
            gate=_matrix(file, f"{block}.ffn_gate.weight", intermediate, hidden),
            up=_matrix(file, f"{block}.ffn_up.weight", intermediate, hidden),
            down=_matrix(file, f"{block}.ffn_down.weight", hidden, intermediate),
        )

    return DecoderWeights(
        config=config,
        embedding=_matrix(file, "token_embd.weight", vocabulary, hidden),
        decoder_layers=tuple(layer(index) for index in range(config.layers)),
        final_norm=_vector(file, "output_norm.weight", hidden),
        lm_head=_matrix(file, "output.weight", vocabulary, hidden) if has_head else None,
    )


_TABLES = ("token_embd", "output_norm", "output")
_BLOCK_PARTS = (
    *("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"),
    *("ffn_norm", "ffn_gate", "ffn_up", "ffn_down"),
)


def _refuse_others(file: GgufFile, layers: int) -> None:
    """Raise CheckpointError for a tensor that this architecture has no use for, as a bias: it would change results."""
    blocks = {f"blk.{index}.{part}.weight" for index in range(layers) for part in _BLOCK_PARTS}
    if others := sorted(file.tensors.keys() - blocks - {f"{name}.weight" for name in _TABLES}):
        raise CheckpointError(f"{file.path.name}: {others[0]}: not a tensor of this architecture")


def half_split_order(heads: int, head_dim: int) -> NDArray[np.intp]:
    """Order of rows that makes halves of GGUF's query and key rows, in which a rotated pair are neighbours."""
    return np.arange(heads * head_dim).reshape(heads, head_dim // 2, 2).swapaxes(1, 2).ravel()


def _vector(file: GgufFile, name: str, size: int) -> Floats:
    tensor = _shaped(file, name, (size,))
    return _floats(file, name, tensor)


def _matrix(file: GgufFile, name: str, outputs: int, inputs: int) -> Matrix:
    tensor = _shaped(file, name, (outputs, inputs))
    match tensor.kind:
        case GGMLQuantizationType.Q4_0:
            return _q4_0(tensor.data, outputs)
        case GGMLQuantizationType.Q4_1:
            return _q4_1(tensor.data, outputs)
        case GGMLQuantizationType.Q8_0:
            return _q8_0(tensor.data, outputs)
    return _floats(file, name, tensor)


def _shaped(file: GgufFile, name: str, shape: tuple[int, ...]) -> Tensor:
    tensor = file.tensor(name)
    if tensor.shape != shape:
        raise CheckpointError(f"{file.path.name}: {name} is {list(tensor.shape)}; the config says {list(shape)}")
    return tensor


def _floats(file: GgufFile, name: str, tensor: Tensor) -> Floats:
    try:
        values: Floats = dequantize(tensor.data, tensor.kind).astype(np.float32)
    except RuntimeError:  # its subclass for what the package cannot do
        raise CheckpointError(f"{file.path.name}: {name}: {tensor.kind.name} is not supported") from None
    return values


def _q4_0(data: NDArray[np.uint8], outputs: int) -> BlockMatrix:
    """Blocks of 18 bytes: float16 d, then codes q as those of Q4_1; d*(q - 8)."""
    blocks = np.ascontiguousarray(data).reshape(outputs, -1, 2 + BLOCK // 2)
    scales = _factors(blocks[..., :2])[..., 0]
    return BlockMatrix(_nibbles(blocks[..., 2:]), scales, offsets=-8 * scales)


def _q4_1(data: NDArray[np.uint8], outputs: int) -> BlockMatrix:
    """Blocks of 20 bytes: float16 d and m, then codes q, 0-15 in the low halves, 16-31 in the high; d*q + m."""
    blocks = np.ascontiguousarray(data).reshape(outputs, -1, 4 + BLOCK // 2)
    factors = _factors(blocks[..., :4])
    return BlockMatrix(_nibbles(blocks[..., 4:]), factors[..., 0], offsets=factors[..., 1])


def _q8_0(data: NDArray[np.uint8], outputs: int) -> BlockMatrix:
    """Blocks of 34 bytes: float16 d, then 32 signed bytes; d*q."""
    blocks = np.ascontiguousarray(data).reshape(outputs, -1, 2 + BLOCK)
    codes = blocks[..., 2:] ^ np.uint8(CENTRE)  # two's complement to 128 + q
    return BlockMatrix(codes, _factors(blocks[..., :2])[..., 0])


def _factors(data: NDArray[np.uint8]) -> Floats:
    """Float16 numbers of each block, [outputs, blocks, factors]."""
    return data.copy().view("<f2").astype(np.float32)


def _nibbles(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.concatenate([data & 15, data >> 4], axis=-1)
