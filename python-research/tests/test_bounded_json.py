"""JSON from outside: one below each bound is read, one above is refused with the reason."""

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych_research.bounded_json import MAX_DEPTH, MAX_DIGITS, loads


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
