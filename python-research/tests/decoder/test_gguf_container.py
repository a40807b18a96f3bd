"""The GGUF container: what the format's own reader sees, and an error for every promise that the file does not keep."""

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import tiny_decoder as tiny
from gguf import GGMLQuantizationType, GGUFValueType

from triptych_research.decoder import gguf_container
from triptych_research.decoder.gguf_container import MAX_ALIGNMENT, MAX_FIELDS, MAX_HEADER_BYTES, MAX_ITEMS, MAX_TENSORS
from triptych_research.json_fields import CheckpointError

HUGE = 2**60


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def field(key: str, kind: GGUFValueType, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def array(key: str, kind: int, items: int, content: bytes = b"") -> bytes:
    return field(key, GGUFValueType.ARRAY, struct.pack("<IQ", kind, items) + content)


def alignment(value: int) -> bytes:
    return field("general.alignment", GGUFValueType.UINT32, struct.pack("<I", value))


def tensor(name: str, shape: tuple[int, ...], offset: int, kind: int = GGMLQuantizationType.F32) -> bytes:
    """`shape` has the fastest axis first, as in the file."""
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def container(
    *parts: bytes, fields: int = 0, tensors: int = 0, content: bytes = b"", version: int = 3, align: int = 32
) -> bytes:
    header = b"GGUF" + struct.pack("<IQQ", version, tensors, fields) + b"".join(parts)
    return header + bytes(-len(header) % align) + content


def read(path: Path, content: bytes) -> tuple[dict[str, Any], dict[str, gguf_container.Tensor]]:
    path.write_bytes(content)
    return gguf_container.read(path)


def test_it_says_what_the_formats_own_reader_says(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    tiny.write_gguf(
        path, tiny.dense_weights(), metadata={"flag": True, "list": [-1, 2], "general.alignment": 64, "real": 1e-5}
    )
    theirs = gguf.GGUFReader(path)
    metadata, tensors = gguf_container.read(path)
    others = {"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count"}
    assert metadata == {key: each.contents() for key, each in theirs.fields.items() if key not in others}
    assert tensors.keys() == {each.name for each in theirs.tensors}
    for each in theirs.tensors:
        ours = tensors[each.name]
        assert (ours.kind, ours.shape) == (each.tensor_type, tuple(map(int, each.shape[::-1])))
        assert ours.data.tobytes() == each.data.tobytes()


NONE = container()
BYTE = GGUFValueType.UINT8


@pytest.mark.parametrize(
    ("within", "beyond", "complaint"),
    [
        (NONE, b"", "empty"),
        (NONE, b"GGUX" + NONE[4:], "no GGUF file"),
        (container(version=2), container(version=1), "version 1; 2 and 3 are supported"),
        (NONE, container(version=3 << 24), "version 50331648; 2 and 3 are supported, in little endian"),
        (NONE, container(fields=HUGE, tensors=HUGE), f"tensors: {HUGE}; at most {MAX_TENSORS} are read"),
        (NONE, container(tensors=MAX_TENSORS + 1), f"tensors: 16385; at most {MAX_TENSORS} are read"),
        (NONE, container(tensors=MAX_TENSORS), "tensor '': dimensions: 4 bytes, of which the file has 0 left"),
        (NONE, container(fields=MAX_FIELDS + 1), f"metadata fields: 1025; at most {MAX_FIELDS} are read"),
        (NONE, container(fields=MAX_FIELDS), "'': 4 bytes, of which the file has 0 left"),
        (
            NONE,
            container(struct.pack("<Q", HUGE), fields=1),
            f"name of metadata field 0: {HUGE} bytes, of wh",
        ),
        (
            container(array("a", BYTE, 3, b"abc"), fields=1, align=1),
            container(array("a", BYTE, 4, b"abc"), fields=1, align=1),
            "'a': 4 bytes, of which the file has 3 left",
        ),
        (NONE, container(array("a", BYTE, HUGE), fields=1), f"'a': items: {HUGE}; at most {MAX_ITEMS} are read"),
        (
            container(array("a", BYTE, MAX_ITEMS, bytes(MAX_ITEMS)), fields=1),
            container(array("a", BYTE, MAX_ITEMS + 1, bytes(MAX_ITEMS + 1)), fields=1),
            f"'a': items: {MAX_ITEMS + 1}; at most {MAX_ITEMS} are read",
        ),
        (NONE, container(array("a", GGUFValueType.STRING, MAX_ITEMS), fields=1), "'a': 8 bytes, of which"),
        (NONE, container(array("a", GGUFValueType.ARRAY, 1, array("", BYTE, 0)), fields=1), "'a': type 9 is not"),
        (NONE, container(array("a", 13, 0), fields=1), "'a': type 13 is not supported"),
        (NONE, container(field("a", GGUFValueType.STRING, string("ab")[:-1] + b"\xff"), fields=1), "'a': 'utf-8'"),
        (
            container(alignment(8) + array("a", BYTE, 0), fields=2),
            container(array("a", BYTE, 0) * 2, fields=2),
            "metadata field 'a' is there twice",
        ),
        (
            container(alignment(MAX_ALIGNMENT), fields=1),
            container(alignment(2 * MAX_ALIGNMENT), fields=1),
            "131072, n",
        ),
        (container(alignment(1), fields=1), container(alignment(0), fields=1), "general.alignment is 0, not a power"),
        (NONE, container(alignment(24), fields=1), "general.alignment is 24, not a power of two"),
        (
            container(tensor("t", (4, 2), 0), tensors=1, content=bytes(32)),
            container(tensor("t", (4, 2), 0), tensors=1, content=bytes(31)),
            "tensor 't': 32 bytes at 0; the file has 31 for tensors",
        ),
        (NONE, container(tensor("t", (1,), HUGE), tensors=1, content=bytes(32)), f"4 bytes at {HUGE}; the file has 32"),
        (
            NONE,
            container(tensor("t", (2**62, 2**62, 2**62, 16), 0), tensors=1, content=bytes(32)),
            f"tensor 't': {2**192} bytes at 0; the file has 32",
        ),
        (
            container(tensor("t", (8,), 32), tensors=1, content=bytes(64)),
            container(tensor("t", (8,), 16), tensors=1, content=bytes(64)),
            "tensor 't': offset 16 is not a multiple of 32",
        ),
        (
            container(tensor("b", (8,), 32) + tensor("a", (8,), 0), tensors=2, content=bytes(64)),
            container(tensor("b", (8,), 32) + tensor("a", (9,), 0), tensors=2, content=bytes(96)),
            "tensor 'b': offset 32 is within another tensor, which ends at 36",
        ),
        (
            container(tensor("t", (1, 1, 1, 1), 0), tensors=1, content=bytes(32)),
            container(tensor("t", (1, 1, 1, 1, 1), 0), tensors=1, content=bytes(32)),
            "tensor 't': dimensions: 5; at most 4 are read",
        ),
        (NONE, container(tensor("t", (), 0), tensors=1), r"tensor 't': shape \[\] holds nothing"),
        (NONE, container(tensor("t", (0, 3), 0), tensors=1), r"tensor 't': shape \[3, 0\] holds nothing"),
        (NONE, container(tensor("t", (1,), 0, kind=4), tensors=1), "tensor 't': type 4 is not known"),
        (
            container(tensor("t", (32,), 0, GGMLQuantizationType.Q8_0), tensors=1, content=bytes(34)),
            container(tensor("t", (33,), 0, GGMLQuantizationType.Q8_0), tensors=1, content=bytes(99)),
            "tensor 't': rows of 33 are not in blocks of 32",
        ),
        (NONE, container(tensor("t", (1,), 0) * 2, tensors=2, content=bytes(64)), "tensor 't' is there twice"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_one_below_a_bound_is_read_and_one_above_is_refused(
    tmp_path: Path, within: bytes, beyond: bytes, complaint: str
) -> None:
    read(tmp_path / "good.gguf", within)
    with pytest.raises(CheckpointError, match=rf"^bad\.gguf: not a readable GGUF file: .*{complaint}"):
        read(tmp_path / "bad.gguf", beyond)


def test_a_header_is_bounded_whatever_the_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", MAX_HEADER_BYTES)
    path.write_bytes(head)
    with path.open("r+b") as file:
        file.truncate(2 * MAX_HEADER_BYTES)  # a hole, which takes no space
    with pytest.raises(CheckpointError, match="67108864 bytes, of which the first 67108864 of the file have 67108832"):
        gguf_container.read(path)


def test_weights_stay_in_the_file_until_they_are_asked_for(tmp_path: Path) -> None:
    _, tensors = read(tmp_path / "t.gguf", container(tensor("t", (4, 2), 0), tensors=1, content=bytes(range(32))))
    data = tensors["t"].data
    assert isinstance(data, np.memmap)
    assert data.shape == (2, 16)
    assert not data.flags.owndata
