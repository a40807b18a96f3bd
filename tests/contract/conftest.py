"""The two implementations of the contract, side by side on the same bundles."""

import os
import pathlib
import sys
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from triptych.inference.v1.inference_pb2_grpc import InferenceServiceStub
from triptych.inference.v1.model_pb2_grpc import ModelServiceStub

from stack.native import MODELS, NativeStack
from stack.process import Process
from stack.waiting import wait_until

TESTS = pathlib.Path(__file__).resolve().parents[1]
MESSAGE_LIMIT = 64 << 20  # bytes: 2048 vectors and more
READY_LIMIT_S = 90


class Server:
    """One implementation, running."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", MESSAGE_LIMIT)])
        self.inference = InferenceServiceStub(self.channel)
        self.models = ModelServiceStub(self.channel)
        self.health = HealthStub(self.channel)

    def wait_ready(self, process: Process) -> None:
        def ready() -> bool:
            process.check_alive()
            reply = self.health.Check(HealthCheckRequest(), timeout=5, wait_for_ready=True)
            return bool(reply.status == HealthCheckResponse.SERVING)

        wait_until(f"{self.name} being ready", ready, READY_LIMIT_S)


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The Python reference."""
    command = [sys.executable, "-m", "contract.reference.server", "--models", str(MODELS), "--listen", "127.0.0.1:0"]
    log = tmp_path_factory.mktemp("reference") / "reference.log"
    process = Process("reference", command, log, {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])})
    try:
        server = Server("reference", process.address("grpc"))
        server.wait_ready(process)
        with server.channel:
            yield server
    finally:
        process.stop()


@pytest.fixture(scope="session")
def rust(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The hot path."""
    native = NativeStack(tmp_path_factory.mktemp("rust"))
    try:
        process = native.start_hotpath()
        server = Server("rust", native.addresses["grpc"])
        server.wait_ready(process)
        with server.channel:
            yield server
    finally:
        native.stop()


@pytest.fixture(params=["reference", "rust"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each implementation in turn."""
    server: Server = request.getfixturevalue(request.param)
    return server
