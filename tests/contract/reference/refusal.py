"""Errors as the contract wants them: a code, google.rpc.ErrorInfo and its metadata."""

from typing import NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

import cases

DOMAIN = "triptych.dev"
CODES = {name: getattr(grpc.StatusCode, row.grpc_code) for name, row in cases.reasons().items() if row.grpc_code}


class Refusal(Exception):  # noqa: N818
    """A request that gets no answer, and why."""

    def __init__(
        self, reason: str, message: str, field: str = "", limit: int | None = None, actual: int | None = None
    ) -> None:
        super().__init__(message)
        metadata = {"field": field, "limit": limit, "actual": actual}
        self.reason = reason
        self.metadata = {key: str(value) for key, value in metadata.items() if value not in (None, "")}

    def abort(self, context: grpc.ServicerContext) -> NoReturn:
        """End the call with this error."""
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(domain=DOMAIN, reason=self.reason, metadata=self.metadata))
        status = status_pb2.Status(code=CODES[self.reason].value[0], message=str(self), details=[detail])
        context.abort_with_status(rpc_status.to_status(status))
        raise AssertionError("abort raises")
