"""Weights as they are published: tensors in safetensors' format, and how many a graph can hold."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

from triptych_research import strict_json
from triptych_research.json_fields import CheckpointError
from triptych_research.sources import WEIGHTS, Source

# A graph is one protobuf message, which has less than 2 GiB. The largest is in float32; a MiB of it is not weights.
_LARGEST_GRAPH = 2**31 - 2**20
MAX_HEADER_BYTES = 2**24  # of a safetensors file: names, types, shapes and places of some 150,000 tensors
# NumPy has no bfloat16: it is the upper half of a float32.
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}

_deserialize: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = safetensors.deserialize  # which has no types


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the file has it. Its type matters only to who uses it: files also hold constants in integers."""

    name: str
    dtype: str  # safetensors' word for it
    shape: tuple[int, ...]
    data: bytes

    def floats(self) -> NDArray[np.float32]:
        """Return the values. Raises CheckpointError for another type than floats of 16 bits or more."""
        if self.dtype not in _DTYPES:
            raise CheckpointError(f"{WEIGHTS}: {self.name}: {self.dtype} is not supported, only {', '.join(_DTYPES)}")
        values = np.frombuffer(self.data, _DTYPES[self.dtype]).reshape(self.shape)
        if self.dtype == "BF16":
            return (values.astype(np.uint32) << 16).view(np.float32)
        return values.astype(np.float32)


def load_safetensors(source: Source) -> dict[str, StoredTensor]:
    """Return a source's tensors by name. Raises CheckpointError when the file is damaged."""
    content = source.read(WEIGHTS)
    # The library bounds the header too, at 100 MB, and takes the last of two tensors with the same name.
    length = int.from_bytes(content[:8], "little")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(f"{WEIGHTS}: header: {length} bytes; at most {MAX_HEADER_BYTES} are read")
    try:
        strict_json.loads(content[8 : 8 + length], MAX_HEADER_BYTES)
        stored = _deserialize(content)
    except (ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{WEIGHTS}: header: {error}") from error
    return {name: StoredTensor(name, each["dtype"], tuple(each["shape"]), each["data"]) for name, each in stored}


def check_size(weights: int) -> None:
    """Raise CheckpointError unless a graph can hold this many weights in float32."""
    if 4 * weights > _LARGEST_GRAPH:
        raise CheckpointError(
            f"{weights} weights are {4 * weights / 1e9:.2f} GB in float32; a graph holds at most "
            f"{_LARGEST_GRAPH / 1e9:.2f} GB, some {_LARGEST_GRAPH // 4 // 10**6} million weights"
        )
