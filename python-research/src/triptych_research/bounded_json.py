"""JSON from outside, read within bounds: what Python's own reader takes without a word is an error here.

It takes files of any size, the last of two fields with the same name, NaN, numbers of 4,300 digits, halves of UTF-16
pairs, and values as deep as its stack, which end it somewhere else.
"""

import collections
import json
import math
import re
from typing import Any

MAX_DEPTH = 32  # objects and lists within each other; a tokenizer.json has six
MAX_DIGITS = 40  # of a whole number: `model_max_length` is often 10**30

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def loads(content: bytes, max_bytes: int) -> Any:
    """Return the value of a file's JSON, which must be UTF-8. Raises ValueError, whose message is for the user."""
    if len(content) > max_bytes:
        raise ValueError(f"{len(content)} bytes; at most {max_bytes} are read")
    try:
        value = json.loads(
            content.decode(),
            object_pairs_hook=_without_duplicates,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_refuse,
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(value)
    if _SURROGATE.search(content):
        _check_text(value)
    return value


_TOO_DEEP = f"more than {MAX_DEPTH} objects and lists within each other"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        ((name, _),) = collections.Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{name}: named twice in one object")
    return fields


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"{text[:MAX_DIGITS]}…: a whole number of more than {MAX_DIGITS} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:MAX_DIGITS]}: beyond the range of float64")
    return value


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [each for each in level if isinstance(each, dict | list)]
        if not level:
            return
        level = [item for each in level for item in (each.values() if isinstance(each, dict) else each)]
    raise ValueError(_TOO_DEEP)


def _check_text(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("an escape is half of a UTF-16 pair, which is no character") from None
