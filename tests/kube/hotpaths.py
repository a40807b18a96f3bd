"""Hot paths as pods have them: some that only say what the operator asks for, and real ones."""

import http.server
import pathlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import grpc
import httpx
from triptych.inference.v1 import inference_pb2, inference_pb2_grpc, model_pb2, model_pb2_grpc

from stack.native import HOTPATH, MODELS, onnxruntime_library
from stack.process import Process

METRICS_PORT, GRPC_PORT = 9465, 50051
SCHEDULING = inference_pb2.Scheduling(priority=inference_pb2.PRIORITY_INTERACTIVE)


class Work(Protocol):
    def answer(self, requests: int, *, failed: int = 0, seconds: float = 0.01) -> None: ...


class Runs(Protocol):
    """One that runs in a pod, at an address that no other has: all of 127.0.0.0/8 are this machine's."""

    ip: str

    @property
    def work(self) -> Work: ...
    def is_ready(self) -> bool: ...
    def stop(self) -> None: ...


@dataclass
class Figures:
    """What has been done since the process began."""

    completed: int = 0
    failed: int = 0
    seconds_of_runs: float = 0

    def answer(self, requests: int, *, failed: int = 0, seconds: float = 0.01) -> None:
        """As if so many had come, some of which failed, each after so long."""
        self.completed += requests - failed
        self.failed += failed
        self.seconds_of_runs += requests * seconds

    def text(self, model: str) -> str:
        runs, of = self.completed + self.failed, f'{{model="{model}"}}'
        return "".join(
            [
                '# TYPE hotpath_build_info gauge\nhotpath_build_info{version="0"} 1\n',
                "# TYPE hotpath_inputs_total counter\n",
                f'hotpath_inputs_total{{model="{model}",outcome="completed"}} {self.completed}\n',
                f'hotpath_inputs_total{{model="{model}",outcome="failed"}} {self.failed}\n',
                f'hotpath_inputs_total{{model="{model}",outcome="cancelled"}} 1000000\n',
                f"# TYPE hotpath_queue_seconds histogram\nhotpath_queue_seconds_sum{of} {runs * 1e-4}\n",
                f"hotpath_queue_seconds_count{of} {runs}\n",
                f'hotpath_queue_seconds_bucket{{model="{model}",le="+Inf"}} {runs}\n',
                "# TYPE hotpath_inference_seconds histogram\n",
                f"hotpath_inference_seconds_sum{of} {self.seconds_of_runs}\n",
                f"hotpath_inference_seconds_count{of} {runs}\n",
                f'hotpath_inference_seconds_bucket{{model="{model}",le="+Inf"}} {runs}\n',
            ]
        )


@dataclass
class HotPath(model_pb2_grpc.ModelServiceServicer):
    """One that does no work: metrics, and the revision of one model."""

    ip: str
    model: str
    revision: str
    figures: Figures = field(default_factory=Figures)
    # Metrics are asked for, and there is no answer.
    mute: bool = False

    def start(self) -> None:
        hotpath = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if hotpath.mute:
                    return
                body = hotpath.figures.text(hotpath.model).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer((self.ip, METRICS_PORT), Handler)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self._grpc = grpc.server(ThreadPoolExecutor(2))
        model_pb2_grpc.add_ModelServiceServicer_to_server(self, self._grpc)
        self._grpc.add_insecure_port(f"{self.ip}:{GRPC_PORT}")
        self._grpc.start()

    @property
    def work(self) -> Figures:
        return self.figures

    def is_ready(self) -> bool:
        return True

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(None).wait()

    def ListModels(
        self, request: model_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> model_pb2.ListModelsResponse:
        return model_pb2.ListModelsResponse(models=[model_pb2.Model(name=self.model, revision=self.revision)])


class RealHotPath:
    """A real one, with a model of the repository's; what it answers, it does."""

    def __init__(self, ip: str, model: str, log: pathlib.Path) -> None:
        self.ip, self._model = ip, model
        flags = {
            "grpc-address": f"{ip}:{GRPC_PORT}",
            "metrics-address": f"{ip}:{METRICS_PORT}",
            "models": str(MODELS),
            "onnxruntime-library": str(onnxruntime_library()),
            "model-names": model,
            "compute-threads": "1",
            "workers": "1",
        }
        command = [str(HOTPATH), "serve", *(f"--{flag}={value}" for flag, value in flags.items())]
        self._process = Process(f"hot path at {ip}", command, log, {})
        self._channel = grpc.insecure_channel(f"{ip}:{GRPC_PORT}")

    @property
    def work(self) -> "RealHotPath":
        return self

    def answer(self, requests: int, *, failed: int = 0, seconds: float = 0.01) -> None:
        stub = inference_pb2_grpc.InferenceServiceStub(self._channel)
        for number in range(requests):
            inputs = [inference_pb2.EmbedInput(text=f"text {number}")]
            request = inference_pb2.EmbedRequest(model=self._model, inputs=inputs, scheduling=SCHEDULING)
            stub.Embed(request, timeout=10)

    def is_ready(self) -> bool:
        self._process.check_alive()
        try:
            return httpx.get(f"http://{self.ip}:{METRICS_PORT}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        self._channel.close()
        self._process.kill()
