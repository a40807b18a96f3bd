"""What a refusal over gRPC says: its code, and the details of its status."""

from collections.abc import Callable

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status


def refusal(method: Callable[..., object], request: object) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """Make a call that must fail; return its code and its whole status."""
    with pytest.raises(grpc.RpcError) as caught:
        method(request, timeout=30)
    error = caught.value
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    assert status is not None, f"no details with {error}"
    return error.code(), status


def error_info(status: status_pb2.Status) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details), status
    assert info.domain == "triptych.dev"
    return info
