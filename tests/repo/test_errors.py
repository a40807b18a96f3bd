"""docs/errors.md, the proto's ErrorReason and the cases say the same. Go and Rust hold the same for their maps."""

import grpc
from triptych.inference.v1.error_reason_pb2 import ErrorReason

import cases


def test_documented_reasons_are_the_protos() -> None:
    values = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118
    assert {name for name, reason in cases.reasons().items() if reason.grpc_code} == values


def test_documented_grpc_codes_exist() -> None:
    codes = {code.name for code in grpc.StatusCode}
    assert {reason.grpc_code for reason in cases.reasons().values() if reason.grpc_code} <= codes


def test_openai_codes_are_unique() -> None:
    codes = [reason.code for reason in cases.reasons().values()]
    assert sorted(codes) == sorted(set(codes))


def test_every_reason_has_a_case() -> None:
    covered = {case.reason.name for case in cases.load()}
    # The client of a cancelled request is gone: there is nobody to see the reply.
    assert covered == set(cases.reasons()) - {"CANCELLED"}


def test_cases_have_unique_names() -> None:
    names = [case.name for case in cases.load()]
    assert sorted(names) == sorted(set(names))
