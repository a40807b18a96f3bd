"""Both implementations refuse the same requests, for the same reasons."""

import re

import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2
from triptych.inference.v1 import inference_pb2 as pb

import cases
from contract.conftest import Server
from contract.refusals import error_info, refusal

CASES = [case for case in cases.load() if case.grpc and not case.needs]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(server: Server, case: cases.Case) -> None:
    assert case.grpc is not None
    method = case.grpc["method"]
    request = json_format.ParseDict(case.grpc_request(), getattr(pb, f"{method}Request")())
    code, status = refusal(getattr(server.inference, method), request)
    info = error_info(status)
    assert (info.reason, code.name) == (case.reason.name, case.reason.grpc_code)
    assert dict(info.metadata).get("field") == case.expect.get("grpc_field")
    assert re.search(case.expect.get("message", ""), status.message)
    has_retry_info = any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
    assert has_retry_info is case.reason.retry


def test_limits_are_told_as_numbers(server: Server) -> None:
    request = pb.EmbedRequest(
        model="all-minilm-l6-v2",
        inputs=[pb.EmbedInput(text="word " * 3000)],
        scheduling=pb.Scheduling(priority=pb.PRIORITY_INTERACTIVE),
    )
    metadata = error_info(refusal(server.inference.Embed, request)[1]).metadata
    assert metadata["actual"] == "3002"
    assert 0 < int(metadata["limit"]) < 3002
