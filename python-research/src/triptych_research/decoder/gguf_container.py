"""Reads the GGUF container, version 2 or 3: metadata, and tensors where they lie in the file.

The reader of the `gguf` package believes what a file says of itself: 49 bytes that promise an array of 2**60 items keep
it busy until memory is full. Here each count and length is compared with a bound, and with the bytes that are left,
before anything is made of it.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from triptych_research.json_fields import CheckpointError

# All are some four times what the largest published files have, or more.
MAX_HEADER_BYTES = 64 * 2**20  # of metadata and the list of tensors
MAX_FIELDS = 1024
MAX_ITEMS = 2**20  # of an array: tokens, or merges of two
MAX_TENSORS = 2**14
MAX_DIMENSIONS = 4  # the format's own
MAX_ALIGNMENT = 2**16

_MAGIC, _VERSIONS = b"GGUF", (2, 3)
_NUMBERS = {
    GGUFValueType.UINT8: "<u1",
    GGUFValueType.INT8: "<i1",
    GGUFValueType.UINT16: "<u2",
    GGUFValueType.INT16: "<i2",
    GGUFValueType.UINT32: "<u4",
    GGUFValueType.INT32: "<i4",
    GGUFValueType.FLOAT32: "<f4",
    GGUFValueType.BOOL: "?",
    GGUFValueType.UINT64: "<u8",
    GGUFValueType.INT64: "<i8",
    GGUFValueType.FLOAT64: "<f8",
}


@dataclass(frozen=True)
class Tensor:
    """A tensor as the file has it."""

    kind: GGMLQuantizationType
    shape: tuple[int, ...]  # the fastest axis last
    data: NDArray[np.uint8]  # [..., bytes of a row], in the file


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return metadata (numbers, strings and lists) and tensors by name. Raises CheckpointError, naming the field."""
    try:
        file = np.memmap(path, np.uint8, "r")
    except ValueError as error:  # it is empty
        raise _damaged(path, str(error)) from error
    header = _Header(path, file[:MAX_HEADER_BYTES])
    if header.take(4, "magic number") != _MAGIC:
        raise _damaged(path, "no GGUF file")
    if (version := header.integer("<I", "version")) not in _VERSIONS:
        raise _damaged(path, f"version {version}; 2 and 3 are supported, in little endian")
    tensor_count = header.count("<Q", "tensors", MAX_TENSORS)
    field_count = header.count("<Q", "metadata fields", MAX_FIELDS)
    metadata: dict[str, Any] = {}
    for index in range(field_count):
        key = header.string(f"name of metadata field {index}")
        if key in metadata:
            raise _damaged(path, f"metadata field {key!r} is there twice")
        metadata[key] = header.value(repr(key))
    described: dict[str, tuple[GGMLQuantizationType, tuple[int, ...], int]] = {}
    for index in range(tensor_count):
        name = header.string(f"name of tensor {index}")
        if name in described:
            raise _damaged(path, f"tensor {name!r} is there twice")
        described[name] = header.tensor(repr(name))
    alignment = metadata.get("general.alignment", 32)
    if type(alignment) is not int or alignment not in (2**power for power in range(MAX_ALIGNMENT.bit_length())):
        raise _damaged(path, f"general.alignment is {alignment!r}, not a power of two up to {MAX_ALIGNMENT}")
    return metadata, _tensors(path, file[-(-header.position // alignment) * alignment :], described, alignment)


def _tensors(
    path: Path,
    content: NDArray[np.uint8],
    described: dict[str, tuple[GGMLQuantizationType, tuple[int, ...], int]],
    alignment: int,
) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    end = 0
    for name, (kind, shape, offset) in sorted(described.items(), key=lambda each: each[1][2]):
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if shape[-1] % block:
            raise _damaged(path, f"tensor {name!r}: rows of {shape[-1]} are not in blocks of {block}")
        rows, row_bytes = math.prod(shape[:-1]), shape[-1] // block * block_bytes
        size = rows * row_bytes
        if offset % alignment:
            raise _damaged(path, f"tensor {name!r}: offset {offset} is not a multiple of {alignment}")
        if offset < end:
            raise _damaged(path, f"tensor {name!r}: offset {offset} is within another tensor, which ends at {end}")
        if offset + size > content.size:
            raise _damaged(path, f"tensor {name!r}: {size} bytes at {offset}; the file has {content.size} for tensors")
        end = offset + size
        tensors[name] = Tensor(kind, shape, content[offset:end].reshape(*shape[:-1], row_bytes))
    return tensors


class _Header:
    """The file's beginning, read from front to back."""

    def __init__(self, path: Path, content: NDArray[np.uint8]) -> None:
        self.path = path
        self.content = content.data
        self.position = 0

    def take(self, size: int, what: str) -> memoryview:
        left = len(self.content) - self.position
        if size > left:
            have = "the file has"
            if len(self.content) == MAX_HEADER_BYTES:
                have = f"the first {MAX_HEADER_BYTES} of the file have"
            raise _damaged(self.path, f"{what}: {size} bytes, of which {have} {left} left")
        self.position += size
        return self.content[self.position - size : self.position]

    def integer(self, form: str, what: str) -> int:
        (value,) = struct.unpack(form, self.take(struct.calcsize(form), what))
        return int(value)

    def count(self, form: str, what: str, at_most: int) -> int:
        if (value := self.integer(form, what)) > at_most:
            raise _damaged(self.path, f"{what}: {value}; at most {at_most} are read")
        return value

    def string(self, what: str) -> str:
        try:
            return str(self.take(self.integer("<Q", what), what), "utf-8")
        except UnicodeDecodeError as error:
            raise _damaged(self.path, f"{what}: {error}") from error

    def value(self, what: str) -> Any:
        kind = self.integer("<I", what)
        if kind != GGUFValueType.ARRAY:
            return self.values(kind, 1, what)[0]
        kind = self.integer("<I", what)
        return self.values(kind, self.count("<Q", f"{what}: items", MAX_ITEMS), what)

    def values(self, kind: int, count: int, what: str) -> list[Any]:
        if kind == GGUFValueType.STRING:
            return [self.string(what) for _ in range(count)]
        if kind not in _NUMBERS:
            raise _damaged(self.path, f"{what}: type {kind} is not supported")
        form = np.dtype(_NUMBERS[GGUFValueType(kind)])
        values: list[Any] = np.frombuffer(self.take(count * form.itemsize, what), form).tolist()
        return values

    def tensor(self, what: str) -> tuple[GGMLQuantizationType, tuple[int, ...], int]:
        """Return a tensor's type, its shape with the fastest axis last, and its offset."""
        what = f"tensor {what}"
        dimensions = self.count("<I", f"{what}: dimensions", MAX_DIMENSIONS)
        shape = tuple(self.integer("<Q", what) for _ in range(dimensions))[::-1]
        kind, offset = self.integer("<I", what), self.integer("<Q", what)
        if not shape or 0 in shape:
            raise _damaged(self.path, f"{what}: shape {list(shape)} holds nothing")
        if kind not in GGML_QUANT_SIZES:
            raise _damaged(self.path, f"{what}: type {kind} is not known")
        return GGMLQuantizationType(kind), shape, offset


def _damaged(path: Path, complaint: str) -> CheckpointError:
    return CheckpointError(f"{path.name}: not a readable GGUF file: {complaint}")
