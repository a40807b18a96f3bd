"""JSON from outside, read strictly and within bounds: what the usual readers take without a word is an error here.

`json` takes files of any size, the last of two fields with the same name, NaN, numbers of 4,300 digits, halves of
UTF-16 pairs, and values as deep as its stack, which end whatever reads these next. `google.protobuf.json_format` takes
files whose fields are missing or named in another case. A manifest is a promise: what it does not say is not filled in.
"""

import collections
import json
import math
import re
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

MAX_DEPTH = 32  # objects and lists within each other; a tokenizer.json has six
MAX_DIGITS = 40  # of a whole number: `model_max_length` is often 10**30
MAX_MESSAGE_BYTES = 16 * 2**20  # a decoder's golden file has a tenth of a MiB, its manifest half of that

M = TypeVar("M", bound=Message)


class StrictJsonError(Exception):
    """A file is not the message that it should be; the message names file and field."""


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


def parse(content: bytes, message_type: type[M], file: str, may_be_empty: frozenset[str] = frozenset()) -> M:
    """Parse a file that holds one message.

    Each field must be present under its own name, and must not hold its type's empty value (0, "", [], unspecified)
    unless it is a bool or listed in `may_be_empty` by full name; a message that is listed may be missing. Raises
    StrictJsonError.
    """
    try:
        raw = loads(content, MAX_MESSAGE_BYTES)
        _check_fields(raw, message_type.DESCRIPTOR, "", may_be_empty)
        message = json_format.ParseDict(raw, message_type())
        _check_values(message, "", may_be_empty)
    except (ValueError, json_format.ParseError) as error:
        raise StrictJsonError(f"{file}: {error}") from error
    return message


def dump(message: Message) -> bytes:
    """Return the message as JSON that `parse` accepts: every field present, under its own name."""
    text: str = json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, ensure_ascii=False
    )
    return f"{text}\n".encode()


_TOO_DEEP = f"more than {MAX_DEPTH} objects and lists within each other"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


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


def _check_fields(raw: Any, descriptor: Any, path: str, may_be_empty: frozenset[str]) -> None:
    if not isinstance(raw, dict):
        raise ValueError(f"{path or 'the file'}: expected an object")
    for name in raw:
        if name not in descriptor.fields_by_name:
            raise ValueError(f"{_join(path, name)}: unknown field")
    for field in descriptor.fields:
        here = _join(path, field.name)
        if field.name not in raw:
            is_message = field.message_type is not None and not field.is_repeated
            may_be_missing = is_message and field.full_name in may_be_empty
            if field.containing_oneof is None and not may_be_missing:
                raise ValueError(f"{here}: missing")
            continue
        _check_field(raw[field.name], field, here, may_be_empty)
    for oneof in descriptor.oneofs:
        names = [field.name for field in oneof.fields]
        if sum(name in raw for name in names) != 1:
            raise ValueError(f"{_join(path, oneof.name)}: expected exactly one of {', '.join(names)}")


def _check_field(value: Any, field: Any, path: str, may_be_empty: frozenset[str]) -> None:
    if field.is_repeated:
        if not isinstance(value, list):
            raise ValueError(f"{path}: expected a list")
        for index, item in enumerate(value):
            _check_item(item, field, f"{path}[{index}]", may_be_empty)
    else:
        _check_item(value, field, path, may_be_empty)


def _check_item(value: Any, field: Any, path: str, may_be_empty: frozenset[str]) -> None:
    if field.message_type is not None:
        _check_fields(value, field.message_type, path, may_be_empty)
    elif value is None or isinstance(value, (dict, list)):
        raise ValueError(f"{path}: expected a value")


def _check_values(message: Message, path: str, may_be_empty: frozenset[str]) -> None:
    for field in message.DESCRIPTOR.fields:
        here = _join(path, field.name)
        if field.has_presence and not message.HasField(field.name):
            continue  # a member of a oneof, or missing and allowed to be
        value = getattr(message, field.name)
        items = list(value) if field.is_repeated else [value]
        if not items and field.full_name not in may_be_empty:
            raise ValueError(f"{here}: must not be empty")
        for index, item in enumerate(items):
            at = f"{here}[{index}]" if field.is_repeated else here
            if isinstance(item, Message):
                _check_values(item, at, may_be_empty)
            elif isinstance(item, float) and not math.isfinite(item):
                raise ValueError(f"{at}: {item} is not a finite number")
            elif not item and not isinstance(item, bool) and not field.is_repeated:
                raise ValueError(f"{at}: must not be {_empty(field)}")


def _empty(field: Any) -> str:
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[0].name)
    return "empty" if field.cpp_type == FieldDescriptor.CPPTYPE_STRING else "0"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
