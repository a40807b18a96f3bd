"""Reads the JSON files of a source, field by field: what is missing or of another kind is an error that names both."""

import json
from typing import Any

from triptych_research.sources import Source


class CheckpointError(Exception):
    """A file of the source is not what this exporter can make a graph of; the message names file and field."""


def read(source: Source, file: str, kind: type = dict) -> Any:
    """Return a file's JSON value, which must be of this kind."""
    try:
        value = json.loads(source.read(file))
    except ValueError as error:
        raise CheckpointError(f"{file}: not JSON: {error}") from error
    if not isinstance(value, kind):
        raise CheckpointError(f"{file}: expected a JSON {'object' if kind is dict else 'list'}")
    return value


def field(raw: Any, file: str, name: str, kind: type) -> Any:
    """Return a field that must be there and of this kind."""
    if not isinstance(raw, dict) or name not in raw:
        raise CheckpointError(f"{file}: {name}: missing")
    if type(raw[name]) is not kind:
        raise CheckpointError(f"{file}: {name}: expected {kind.__name__}, not {raw[name]!r}")
    return raw[name]


def positive(raw: dict[str, Any], file: str, name: str) -> int:
    """Return a field that must be a whole number above 0."""
    value = field(raw, file, name, int)
    if value < 1:
        raise CheckpointError(f"{file}: {name}: {value} is not positive")
    return int(value)


def require(raw: dict[str, Any], file: str, name: str, expected: object) -> None:
    """Refuse any other value of a field."""
    if field(raw, file, name, type(expected)) != expected:
        raise CheckpointError(f"{file}: {name}: {raw[name]!r} is not supported, only {expected!r}")
