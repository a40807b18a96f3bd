"""Reads the JSON files of a source, field by field: what is missing or of another kind is an error that names both."""

from typing import Any

from triptych_research import strict_json
from triptych_research.sources import Source, max_bytes

# Of any dimension: what ONNX Runtime's operators count with, and no product of a few is beyond float64.
MAX_NUMBER = 2**31 - 1
# Of a model's depth, which decides how much is made before its weights are looked at.
MAX_LAYERS = 1024


class CheckpointError(Exception):
    """A file of the source is not what this exporter can make a graph of; the message names file and field."""


def read(source: Source, file: str, kind: type = dict) -> Any:
    """Return a file's JSON value, which must be of this kind."""
    try:
        value = strict_json.loads(source.read(file), max_bytes(file))
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


def positive(raw: dict[str, Any], file: str, name: str, at_most: int = MAX_NUMBER) -> int:
    """Return a field that must be a whole number above 0."""
    value = field(raw, file, name, int)
    if value < 1:
        raise CheckpointError(f"{file}: {name}: {value} is not positive")
    if value > at_most:
        raise CheckpointError(f"{file}: {name}: {value} is above {at_most}")
    return int(value)


def require(raw: dict[str, Any], file: str, name: str, expected: object) -> None:
    """Refuse any other value of a field."""
    if field(raw, file, name, type(expected)) != expected:
        raise CheckpointError(f"{file}: {name}: {raw[name]!r} is not supported, only {expected!r}")
