"""Protobuf's JSON form, read strictly: what a message does not say is refused, not filled in.

`google.protobuf.json_format` accepts a file whose fields are missing, doubled or named in another case. A manifest is a
promise, so here each of these is an error that names the file and the field.
"""

import math
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from triptych_research import bounded_json

# A decoder's golden file has a tenth of a MiB, its manifest half of that.
MAX_BYTES = 16 * 2**20

M = TypeVar("M", bound=Message)


class StrictJsonError(Exception):
    """A file is not the message that it should be; the message names file and field."""


def parse(content: bytes, message_type: type[M], file: str, may_be_empty: frozenset[str] = frozenset()) -> M:
    """Parse a file that holds one message.

    Each field must be present under its own name, and must not hold its type's empty value (0, "", [], unspecified)
    unless it is a bool or listed in `may_be_empty` by full name; a message that is listed may be missing. Raises
    StrictJsonError.
    """
    try:
        raw = bounded_json.loads(content, MAX_BYTES)
        _check_fields(raw, message_type.DESCRIPTOR, "", may_be_empty)
        message = json_format.ParseDict(raw, message_type())
    except (ValueError, json_format.ParseError) as error:
        raise StrictJsonError(f"{file}: {error}") from error
    try:
        _check_values(message, "", may_be_empty)
    except ValueError as error:
        raise StrictJsonError(f"{file}: {error}") from error
    return message


def dump(message: Message) -> bytes:
    """Return the message as JSON that `parse` accepts: every field present, under its own name."""
    text: str = json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, ensure_ascii=False
    )
    return f"{text}\n".encode()


def _check_fields(raw: Any, descriptor: Any, path: str, may_be_empty: frozenset[str]) -> None:
    if not isinstance(raw, dict):
        raise ValueError(f"{path or 'the file'}: expected an object")
    for name in raw:
        if name not in descriptor.fields_by_name:
            raise ValueError(f"{_join(path, name)}: unknown field")
    for field in descriptor.fields:
        here = _join(path, field.name)
        if field.name not in raw:
            may_be_missing = field.message_type is not None and field.full_name in may_be_empty
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
