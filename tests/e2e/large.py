"""A batch of any size, before a hot path that answers at once, and what its gateway holds meanwhile."""

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

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


Watch = Callable[[int], AbstractContextManager[Callable[[str], None]]]


def go_through(folder: pathlib.Path, lines: int, hotpath_address: str, watch: Watch) -> tuple[int, int]:
    """Have so many lines of LINE_BYTES run; return how many bytes went in and came out.

    `watch` is entered with the gateway's process, once a small batch has left what any batch needs. What it gives is
    told the end of each phase.
    """
    plans = limits.plans(folder, acme=PLAN)
    path = folder / "in.jsonl"
    native = NativeStack(folder / "gateway", hotpath_address=hotpath_address, gateway={"tenants-file": plans})
    try:
        stack = native.start()
        with limits.client(stack, "acme") as http:
            _write(path, WARMUP_LINES)
            _run(http, path, lambda _: None)
            _write(path, lines)
            with watch(stack.pids["gateway"]) as ended:
                output = _run(http, path, ended)
    finally:
        native.stop()
    return path.stat().st_size, output


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
    """What the gateway holds at most, as the system has counted it."""
    held: list[float] = []

    @contextlib.contextmanager
    def watch(pid: int) -> Iterator[Callable[[str], None]]:
        held.append(memory(pid, "VmRSS") / MIB)
        yield lambda _: None
        held.append(memory(pid, "VmHWM") / MIB)

    with Instant() as hotpath:
        went, came = go_through(folder, lines, hotpath.address, watch)
    return Growth(went / MIB, came / MIB, *held)


def _write(path: pathlib.Path, lines: int) -> None:
    with path.open("w") as file:
        for number in range(lines):
            body = {"model": MODEL, "input": f"{number:06} ".ljust(LINE_BYTES, "x"), "encoding_format": "base64"}
            file.write(json.dumps(request(str(number), body)) + "\n")


def _run(http: httpx.Client, path: pathlib.Path, ended: Callable[[str], None]) -> int:
    """Have a file run, tell the end of each phase, and return how long the output is."""
    with path.open("rb") as content:
        uploaded = http.post("/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", content)})
    ended("goes in")
    asked = {"input_file_id": uploaded.raise_for_status().json()["id"], "endpoint": EMBEDDINGS}
    batch = http.post("/v1/batches", json={**asked, "completion_window": "24h"}).raise_for_status().json()

    def is_over() -> bool:
        nonlocal batch
        batch = http.get(f"/v1/batches/{batch['id']}").raise_for_status().json()
        return batch["status"] in TERMINAL

    wait_until("the end of the batch", is_over, LIMIT_S)
    assert (batch["status"], batch["request_counts"]["failed"]) == ("completed", 0), batch
    ended("is run")
    with http.stream("GET", f"/v1/files/{batch['output_file_id']}/content") as reply:
        output = sum(map(len, reply.raise_for_status().iter_bytes()))
    ended("comes out")
    return output
