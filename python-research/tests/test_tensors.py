"""Weights are read from every float type that is published, and as nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest

from triptych_research.json_fields import CheckpointError
from triptych_research.sources import WEIGHTS, Folder, Source
from triptych_research.tensors import MAX_HEADER_BYTES, check_size, load_safetensors

VALUES = [[1.0, -2.5], [0.15625, -0.0]]  # exact in every type


def to_bfloat16(values: np.ndarray) -> bytes:
    """The upper half of each float32."""
    return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()


def write_safetensors(folder: Path, tensors: dict[str, tuple[str, tuple[int, ...], bytes]]) -> Source:
    """Write types, shapes and bytes by name: the header's length, the header in JSON, and the bytes."""
    header, content = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(content), len(content) + len(data)]}
        content += data
    head = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(head).to_bytes(8, "little") + head + content)
    return Folder(folder, "MIT", "somebody").fetch(folder)


def write_bfloat16(folder: Path, tensors: dict[str, np.ndarray]) -> Source:
    """Write weights as most decoders' are published."""
    return write_safetensors(
        folder, {name: ("BF16", values.shape, to_bfloat16(values)) for name, values in tensors.items()}
    )


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("F64", np.array(VALUES, "<f8").tobytes()),
        ("F32", np.array(VALUES, "<f4").tobytes()),
        ("F16", np.array(VALUES, "<f2").tobytes()),
        ("BF16", to_bfloat16(np.array(VALUES))),
    ],
)
def test_every_float_type_becomes_float32(tmp_path: Path, dtype: str, data: bytes) -> None:
    stored = load_safetensors(write_safetensors(tmp_path, {"weight": (dtype, (2, 2), data)}))["weight"]
    assert stored.shape == (2, 2)
    floats = stored.floats()
    assert floats.dtype == np.float32
    np.testing.assert_array_equal(floats, np.array(VALUES, np.float32))


@pytest.mark.parametrize("dtype", ["I8", "U8", "F8_E4M3"])
def test_other_types_are_refused_by_name_when_they_are_used(tmp_path: Path, dtype: str) -> None:
    stored = load_safetensors(write_safetensors(tmp_path, {"a.weight": (dtype, (2,), b"\1\2")}))
    with pytest.raises(CheckpointError, match=f"model.safetensors: a.weight: {dtype} is not supported, only F64, F32"):
        stored["a.weight"].floats()


def test_what_a_graph_cannot_hold_is_refused_with_both_sizes() -> None:
    check_size(500_000_000)
    with pytest.raises(
        CheckpointError, match=r"^1236000000 weights are 4\.94 GB in float32; a graph holds at most 2\.15"
    ):
        check_size(1_236_000_000)


def header(text: str, size: int) -> bytes:
    """A file of nothing but a header of this many bytes."""
    return size.to_bytes(8, "little") + text.encode().ljust(size)


def entry(shape: str, offsets: str) -> str:
    """A header with one tensor, "t"."""
    return f'{{"t": {{"dtype": "F32", "shape": {shape}, "data_offsets": {offsets}}}}}'


GOOD = header(entry("[1]", "[0, 4]"), 80) + bytes(4)


@pytest.mark.parametrize(
    ("within", "beyond", "complaint"),
    [
        (header("{}", MAX_HEADER_BYTES), header("{}", MAX_HEADER_BYTES + 1), "16777217 bytes; at most 16777216 are"),
        (header("{}", 2), (2**63).to_bytes(8, "little") + b"{}", "9223372036854775808 bytes; at most"),
        (header("{}", 2), header("{}", 2)[:9], ""),
        (header("{}", 2), b"\2", ""),
        (GOOD, header(entry("[2]", "[0, 4]"), 80) + bytes(4), "invalid shape, data type, or offset for tensor"),
        (GOOD, GOOD[:-1], ""),
        (GOOD, GOOD + b"\0", ""),
        (GOOD, header(entry("[1]", "[4, 0]"), 80) + bytes(4), ""),
        (GOOD, header(entry("[4294967296, 4294967296, 4]", "[0, 4]"), 99) + bytes(4), ""),
        (GOOD, header(entry("[1]", "[0, 18446744073709551616]"), 99) + bytes(4), ""),
        (
            GOOD,
            header(f"{entry('[1]', '[0, 4]')[:-1]}, {entry('[1]', '[4, 8]')[1:]}", 160) + bytes(8),
            "t: named twice in one object",
        ),
        (
            header('{"__metadata__": {}}', 100),
            header('{"__metadata__":' + "[" * 40 + "]" * 40 + "}", 100),
            "more than 32 objects",
        ),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_one_below_a_bound_is_read_and_one_above_is_refused(
    tmp_path: Path, within: bytes, beyond: bytes, complaint: str
) -> None:
    source = Source("file:it", "", "MIT", "somebody", tmp_path)
    (tmp_path / WEIGHTS).write_bytes(within)
    load_safetensors(source)
    (tmp_path / WEIGHTS).write_bytes(beyond)
    with pytest.raises(CheckpointError, match=rf"^model\.safetensors: header: .*{complaint}"):
        load_safetensors(source)
