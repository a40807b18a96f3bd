"""A batch of any size, before a hot path that answers at once, and the most that its gateway holds meanwhile."""

import dataclasses
import json
import pathlib

import grpc
import httpx
import numpy
from triptych.inference.v1 import inference_pb2 as pb
from triptych.inference.v1 import model_pb2

from e2e import limits
from e2e.batches import EMBEDDINGS, TERMINAL, request
from e2e.fake_hotpath import FakeHotpath
from e2e.vectors import MODEL
from stack.native import NativeStack
from stack.waiting import wait_until

DIMENSIONS = 384
REVISION = "0" * 16
PLAN = "{requests_per_minute: 1000000, batch: {requests_per_minute: 1000000}}"
LIMIT_S = 600
LINE_BYTES, WARMUP_LINES = 4_000, 1_000  # the latter for what any batch needs
MOST_GROWTH_MIB = 32
MIB = 1 << 20


class Instant(FakeHotpath):
    """Has one vector for all texts."""

    def __init__(self) -> None:
        super().__init__()
        self._vector = numpy.full(DIMENSIONS, DIMENSIONS**-0.5, dtype="<f4").tobytes()

    def Embed(self, request: pb.EmbedRequest, context: grpc.ServicerContext) -> pb.EmbedResponse:
        texts = len(request.inputs)
        return pb.EmbedResponse(
            revision=REVISION, dimensions=DIMENSIONS, embeddings=self._vector * texts, token_counts=[8] * texts
        )

    def ListModels(
        self, request: model_pb2.ListModelsRequest, context: grpc.ServicerContext
    ) -> model_pb2.ListModelsResponse:
        return model_pb2.ListModelsResponse(
            models=[
                model_pb2.Model(
                    name=MODEL,
                    revision=REVISION,
                    task=model_pb2.TASK_EMBEDDING,
                    state=model_pb2.MODEL_STATE_READY,
                    dimensions=[DIMENSIONS],
                )
            ]
        )


def memory(pid: int, field: str) -> int:
    """Bytes that a process holds: now (VmRSS), or at most ever (VmHWM)."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return int(kilobytes) * 1024


@dataclasses.dataclass(frozen=True)
class Growth:
    input_mib: float
    output_mib: float
    before_mib: float  # after a small batch
    most_mib: float

    @property
    def mib(self) -> float:
        return self.most_mib - self.before_mib


def grow(folder: pathlib.Path, lines: int) -> Growth:
    """Have so many lines of LINE_BYTES run."""
    plans = limits.plans(folder, acme=PLAN)
    path = folder / "in.jsonl"
    with Instant() as hotpath:
        native = NativeStack(folder / "gateway", hotpath_address=hotpath.address, gateway={"tenants-file": plans})
        try:
            stack = native.start()
            pid = stack.pids["gateway"]
            with limits.client(stack, "acme") as http:
                _write(path, WARMUP_LINES)
                _run(http, path)
                before = memory(pid, "VmRSS")
                _write(path, lines)
                output = _run(http, path)
                most = memory(pid, "VmHWM")
        finally:
            native.stop()
    return Growth(path.stat().st_size / MIB, output / MIB, before / MIB, most / MIB)


def _write(path: pathlib.Path, lines: int) -> None:
    with path.open("w") as file:
        for number in range(lines):
            body = {"model": MODEL, "input": f"{number:06} ".ljust(LINE_BYTES, "x"), "encoding_format": "base64"}
            file.write(json.dumps(request(str(number), body)) + "\n")


def _run(http: httpx.Client, path: pathlib.Path) -> int:
    """Have a file run, and return how long the output is."""
    with path.open("rb") as content:
        uploaded = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", content)})
    asked = {"input_file_id": uploaded.raise_for_status().json()["id"], "endpoint": EMBEDDINGS}
    batch = http.post("/v1/batches", json={**asked, "completion_window": "24h"}).raise_for_status().json()

    def ended() -> bool:
        nonlocal batch
        batch = http.get(f"/v1/batches/{batch['id']}").raise_for_status().json()
        return batch["status"] in TERMINAL

    wait_until("the end of the batch", ended, LIMIT_S)
    assert (batch["status"], batch["request_counts"]["failed"]) == ("completed", 0), batch
    with http.stream("GET", f"/v1/files/{batch['output_file_id']}/content") as reply:
        return sum(map(len, reply.raise_for_status().iter_bytes()))
