"""A hot path that answers everything with the error that it is told: for faults that the real one does not have."""

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NoReturn

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from triptych.inference.v1 import inference_pb2 as pb
from triptych.inference.v1 import inference_pb2_grpc, model_pb2, model_pb2_grpc

import cases

TASKS = {
    "all-minilm-l6-v2": model_pb2.TASK_EMBEDDING,
    "moderation-minilm": model_pb2.TASK_CLASSIFICATION,
    "smollm2-135m-instruct": model_pb2.TASK_GENERATION,
}


class FakeHotpath(inference_pb2_grpc.InferenceServiceServicer, model_pb2_grpc.ModelServiceServicer):
    """Serves on a free port while it is entered as a context."""

    def __init__(self, case: cases.Case | None = None) -> None:
        """One without a case answers what its class does, and refuses nothing."""
        self._case = case
        self._server = grpc.server(ThreadPoolExecutor(4))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self, self._server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(self, self._server)

    def Embed(self, request: pb.EmbedRequest, context: grpc.ServicerContext) -> pb.EmbedResponse:
        self._refuse(context)

    def Classify(self, request: pb.ClassifyRequest, context: grpc.ServicerContext) -> NoReturn:
        self._refuse(context)

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> NoReturn:
        self._refuse(context)

    def _refuse(self, context: grpc.ServicerContext) -> NoReturn:
        assert self._case
        reason = self._case.reason
        info = error_details_pb2.ErrorInfo(domain="triptych.dev", reason=reason.name)
        if field := self._case.fake.get("field"):
            info.metadata["field"] = field
        detail = any_pb2.Any()
        detail.Pack(info)
        assert reason.grpc_code is not None
        code = getattr(grpc.StatusCode, reason.grpc_code).value[0]
        message = self._case.fake["message"]
        context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=code, message=message, details=[detail])))
        raise AssertionError("abort raises")

    def ListModels(
        self,
        request: model_pb2.ListModelsRequest,
        context: grpc.ServicerContext,
    ) -> model_pb2.ListModelsResponse:
        models = [
            model_pb2.Model(name=name, task=task, state=model_pb2.MODEL_STATE_READY) for name, task in TASKS.items()
        ]
        return model_pb2.ListModelsResponse(models=models)

    def __enter__(self) -> "FakeHotpath":
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(grace=None).wait()
