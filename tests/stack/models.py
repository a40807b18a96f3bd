"""What the hot path says of its models."""

import grpc
from triptych.inference.v1 import model_pb2
from triptych.inference.v1.model_pb2_grpc import ModelServiceStub

from stack.waiting import wait_until

PROVEN_LIMIT_S = 120


def wait_until_proven(grpc_address: str) -> None:
    """Wait until every golden case has come out.

    A decoder serves before, and continues the last ones behind: who counts what decodes, or measures, has to wait.
    """

    def proven() -> bool:
        try:
            models = ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest(), timeout=5).models
        except grpc.RpcError:
            return False
        return not any("still being replayed" in model.status_message for model in models)

    with grpc.insecure_channel(grpc_address) as channel:
        wait_until("every golden case having come out", proven, PROVEN_LIMIT_S)
