"""JSON is read within bounds, and a manifest strictly: what it does not say is refused, with the field's name."""

import contextlib
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.bundle.v1 import bundle_pb2
from triptych_research import strict_json
from triptych_research.bundle import MAY_BE_EMPTY, Bundle
from triptych_research.strict_json import MAX_DEPTH, MAX_DIGITS, MAX_MESSAGE_BYTES, StrictJsonError, loads

GOOD = {
    "text": "hello",
    "token_ids": [2, 3],
    "vector": [0.5, 0.0],
    "graphs": [{"values": [0.5, 0.0]}],
}


def parse_case(case: Any) -> bundle_pb2.GoldenFile:
    return strict_json.parse(json.dumps({"embeddings": [GOOD, case]}).encode(), bundle_pb2.GoldenFile, "golden.json")


def test_a_good_file_is_read() -> None:
    assert parse_case(GOOD).embeddings[1].text == "hello"


@pytest.mark.parametrize(
    ("case", "complaint"),
    [
        ({"text": "a", "vector": [1.0]}, "embeddings[1].token_ids: missing"),
        (GOOD | {"score": 1}, "embeddings[1].score: unknown field"),
        ({"text": "a", "tokenIds": [1], "vector": [1.0]}, "embeddings[1].tokenIds: unknown field"),
        (GOOD | {"text": ""}, "embeddings[1].text: must not be empty"),
        (GOOD | {"text": None}, "embeddings[1].text: expected a value"),
        (GOOD | {"text": ["a"]}, "embeddings[1].text: expected a value"),
        (GOOD | {"text": 7}, "text"),
        (GOOD | {"vector": []}, "embeddings[1].vector: must not be empty"),
        (GOOD | {"vector": 1.0}, "embeddings[1].vector: expected a list"),
        (GOOD | {"vector": [1.0, None]}, "embeddings[1].vector[1]: expected a value"),
        (GOOD | {"vector": ["NaN"]}, "embeddings[1].vector[0]: nan is not a finite number"),
        (GOOD | {"vector": ["x"]}, "vector"),
        (GOOD | {"token_ids": [-1]}, "token_ids"),
        (GOOD | {"token_ids": [1.5]}, "token_ids"),
        ([], "embeddings[1]: expected an object"),
        (None, "embeddings[1]: expected an object"),
    ],
)
def test_what_is_wrong_is_named(case: Any, complaint: str) -> None:
    with pytest.raises(StrictJsonError) as caught:
        parse_case(case)
    assert str(caught.value).startswith("golden.json: ")
    assert complaint in str(caught.value)


def test_a_field_that_is_named_twice_is_refused() -> None:
    twice = b'{"embeddings": [], "embeddings": []}'
    with pytest.raises(StrictJsonError, match="embeddings: named twice"):
        strict_json.parse(twice, bundle_pb2.GoldenFile, "golden.json")


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"[]", b"{", b"[" * 100_000, b'{"embeddings": NaN}', b" " * (MAX_MESSAGE_BYTES + 1)],
    ids=lambda content: ascii(content[:20]),
)
def test_what_is_no_message_is_refused(content: bytes) -> None:
    with pytest.raises(StrictJsonError, match=r"^golden\.json: "):
        strict_json.parse(content, bundle_pb2.GoldenFile, "golden.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.sampled_from(["embeddings", "text", "vector"]), values),
)


@given(content=st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_message_or_an_error(content: bytes) -> None:
    with contextlib.suppress(StrictJsonError):
        strict_json.parse(content, bundle_pb2.GoldenFile, "golden.json")


VECTORS = st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1)
CASES = st.builds(
    bundle_pb2.GoldenEmbedding,
    text=st.text(st.characters(codec="utf-8"), min_size=1),
    token_ids=st.lists(st.integers(0, 2**32 - 1), min_size=1),
    vector=VECTORS,
    graphs=st.lists(st.builds(bundle_pb2.GoldenVector, values=VECTORS), min_size=1),
)


@given(cases=st.lists(CASES, min_size=1))
def test_what_is_written_is_read_back(cases: list[bundle_pb2.GoldenEmbedding]) -> None:
    golden = bundle_pb2.GoldenFile(embeddings=cases)
    assert strict_json.parse(strict_json.dump(golden), bundle_pb2.GoldenFile, "golden.json") == golden


Find = Callable[[Any], Any]


def every_place(raw: Any, path: str = "") -> list[tuple[str, Find]]:
    """Return each object of a JSON value: its path, and how to find it in a copy of the value."""
    places: list[tuple[str, Find]] = [(path, lambda copy: copy)] if isinstance(raw, dict) else []
    items = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, value in items:
        here = f"{path}[{key}]" if isinstance(raw, list) else f"{path}.{key}".lstrip(".")
        places += [(below, partial(_through, key, find)) for below, find in every_place(value, here)]
    return places


def _through(key: Any, find: Find, raw: Any) -> Any:
    return find(raw[key])


def test_every_field_of_a_manifest_is_required_and_no_other_is_known(tiny_bundle: Bundle) -> None:
    content = strict_json.dump(tiny_bundle.manifest)
    refused = 0
    for path, find in every_place(json.loads(content)):
        for field in find(json.loads(content)):
            if field == "tokenizer":
                continue  # its task decides: test_bundle.py
            without = json.loads(content)
            del find(without)[field]
            added = json.loads(content)
            find(added)[f"{field}_2"] = "x"
            prefix = f"{path}." if path else ""
            for raw, complaint in (
                (without, "task: expected exactly one of" if field == "embedding" else f"{prefix}{field}: missing"),
                (added, f"{prefix}{field}_2: unknown field"),
            ):
                with pytest.raises(StrictJsonError) as caught:
                    parse_manifest(raw)
                assert str(caught.value).startswith(f"bundle.json: {complaint}")
                refused += 1
    assert refused > 90
    assert parse_manifest(json.loads(content)) == tiny_bundle.manifest


def test_no_field_of_a_manifest_may_be_empty(tiny_bundle: Bundle) -> None:
    content = strict_json.dump(tiny_bundle.manifest)
    refused = 0
    for _, find in every_place(json.loads(content)):
        for field, value in find(json.loads(content)).items():
            if field in ("shape", "operator_sets") or isinstance(value, (bool, dict)):
                continue
            raw = json.loads(content)
            find(raw)[field] = empty_like(value)
            with pytest.raises(StrictJsonError, match=f"{field}: must not be "):
                parse_manifest(raw)
            refused += 1
    assert refused > 30


def empty_like(value: Any) -> Any:
    for enum in bundle_pb2.DESCRIPTOR.enum_types_by_name.values():
        if value in enum.values_by_name if isinstance(value, str) else False:
            return enum.values[0].name
    return "0" if isinstance(value, str) and value.isdecimal() else type(value)()


def parse_manifest(raw: Any) -> bundle_pb2.Manifest:
    return strict_json.parse(json.dumps(raw).encode(), bundle_pb2.Manifest, "bundle.json", MAY_BE_EMPTY)


def nested(depth: int, opening: str = "[", closing: str = "]", inner: str = "") -> bytes:
    return (opening * depth + inner + closing * depth).encode()


@pytest.mark.parametrize(
    ("within", "beyond", "complaint"),
    [
        (b"[1]" + b" " * 97, b"[1]" + b" " * 98, "101 bytes; at most 100 are read"),
        (nested(MAX_DEPTH), nested(MAX_DEPTH + 1), "more than 32 objects and lists within each other"),
        (b"1" * MAX_DIGITS, b"1" * (MAX_DIGITS + 1), "a whole number of more than 40 digits"),
        (b"1e308", b"1e309", "1e309: beyond the range of float64"),
        (b"-1.5", b"NaN", "NaN is not JSON"),
        (b"0", b"-Infinity", "-Infinity is not JSON"),
        (b'{"a": 1, "b": 1}', b'{"a": 1, "b": 1, "a": 1}', "a: named twice in one object"),
        (rb'"\ud83d\ude80"', rb'"\ud83d"', "half of a UTF-16 pair"),
        (rb'{"\ud83d\ude80": 1}', rb'[{"\ude80": 1}]', "half of a UTF-16 pair"),
        ('"ü"'.encode(), b'"\xfc"', "can't decode byte 0xfc"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
def test_one_below_a_bound_is_read_and_one_above_is_refused(within: bytes, beyond: bytes, complaint: str) -> None:
    assert loads(within, 100) == json.loads(within)
    with pytest.raises(ValueError, match=complaint):
        loads(beyond, 100)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 900, 100_000])
def test_depth_is_one_error_however_deep(depth: int) -> None:
    for content in (nested(depth), nested(depth, '{"a":', "}", "0"), b"[" * depth):
        with pytest.raises(ValueError, match=r"more than 32 objects|Expecting value"):
            loads(content, 10**6)


def test_a_name_that_comes_twice_among_many_is_found_in_no_time() -> None:
    content = json.dumps({str(index): 0 for index in range(100_000)})[:-1] + ', "99999": 0}'
    start = time.process_time()
    with pytest.raises(ValueError, match="99999: named twice"):
        loads(content.encode(), 2**22)
    assert time.process_time() - start < 5  # a comparison of each with each takes minutes


@given(st.binary(max_size=60) | st.text(alphabet='[]{}",:\\ud8d0123e-+. tf', max_size=60).map(str.encode))
def test_any_bytes_are_json_within_bounds_or_an_error(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        json.dumps(loads(content, 50), allow_nan=False, ensure_ascii=False).encode()
