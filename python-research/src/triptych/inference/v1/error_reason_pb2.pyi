from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID_VALUE: _ClassVar[ErrorReason]
    ERROR_REASON_MISSING_FIELD: _ClassVar[ErrorReason]
    ERROR_REASON_MODEL_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_MODEL_TASK_MISMATCH: _ClassVar[ErrorReason]
    ERROR_REASON_EMPTY_INPUT: _ClassVar[ErrorReason]
    ERROR_REASON_INPUT_TOO_LONG: _ClassVar[ErrorReason]
    ERROR_REASON_TOO_MANY_INPUTS: _ClassVar[ErrorReason]
    ERROR_REASON_TOKEN_ID_OUT_OF_RANGE: _ClassVar[ErrorReason]
    ERROR_REASON_DIMENSIONS_UNSUPPORTED: _ClassVar[ErrorReason]
    ERROR_REASON_CHARGE_TOO_HIGH: _ClassVar[ErrorReason]
    ERROR_REASON_QUEUE_FULL: _ClassVar[ErrorReason]
    ERROR_REASON_DEADLINE_EXCEEDED: _ClassVar[ErrorReason]
    ERROR_REASON_HOTPATH_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_MODEL_NOT_READY: _ClassVar[ErrorReason]
    ERROR_REASON_CANCELLED: _ClassVar[ErrorReason]
    ERROR_REASON_SLOW_READER: _ClassVar[ErrorReason]
    ERROR_REASON_INTERNAL: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_INVALID_VALUE: ErrorReason
ERROR_REASON_MISSING_FIELD: ErrorReason
ERROR_REASON_MODEL_NOT_FOUND: ErrorReason
ERROR_REASON_MODEL_TASK_MISMATCH: ErrorReason
ERROR_REASON_EMPTY_INPUT: ErrorReason
ERROR_REASON_INPUT_TOO_LONG: ErrorReason
ERROR_REASON_TOO_MANY_INPUTS: ErrorReason
ERROR_REASON_TOKEN_ID_OUT_OF_RANGE: ErrorReason
ERROR_REASON_DIMENSIONS_UNSUPPORTED: ErrorReason
ERROR_REASON_CHARGE_TOO_HIGH: ErrorReason
ERROR_REASON_QUEUE_FULL: ErrorReason
ERROR_REASON_DEADLINE_EXCEEDED: ErrorReason
ERROR_REASON_HOTPATH_UNAVAILABLE: ErrorReason
ERROR_REASON_MODEL_NOT_READY: ErrorReason
ERROR_REASON_CANCELLED: ErrorReason
ERROR_REASON_SLOW_READER: ErrorReason
ERROR_REASON_INTERNAL: ErrorReason
