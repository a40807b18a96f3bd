"""Our own collector as a process, its files, and a client that sends it spans."""

import json
import os
import pathlib
import re
import signal
import subprocess
from collections.abc import Callable
from types import TracebackType
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from stack.description import ROOT
from stack.loopback import HOST, free_port
from stack.waiting import wait_until

COMMAND = ROOT / "go-gateway/bin/collector"
CONFIG = ROOT / "deploy/observe/collector.yaml"
FORWARD = ROOT / "deploy/observe/collector-forward.yaml"
LIMIT_S = 60
USAGE_WAIT = "2s"  # spans of both services are sent each second


class OurCollector:
    """Serves on a free port while it is entered as a context, with the configuration of deploy/, which keeps all."""

    def __init__(self, folder: pathlib.Path, **settings: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.address = f"{HOST}:{free_port()}"
        self.url = f"http://{self.address}"
        metrics_port = free_port()
        self.metrics_url = f"http://{HOST}:{metrics_port}/metrics"
        self._log = folder / "collector.log"
        self._env = {
            **os.environ,
            "COLLECTOR_OTLP_ADDRESS": self.address,
            "COLLECTOR_METRICS_PORT": str(metrics_port),
            "COLLECTOR_FOLDER": str(folder),
            "COLLECTOR_USAGE_WAIT": USAGE_WAIT,
            "COLLECTOR_DECISION_WAIT": "2s",
            "COLLECTOR_SHARE_PERCENT": "100",
            **settings,
        }
        self._command = [str(COMMAND), "--config", str(CONFIG)]
        if "COLLECTOR_FORWARD_TO" in settings:
            self._command += ["--config", str(FORWARD)]

    def start(self) -> "OurCollector":
        with self._log.open("ab") as log:
            self.child = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._env
            )

        def serves() -> bool:
            assert self.child.poll() is None, self._log.read_text()
            probe = [str(COMMAND), "healthcheck", "--address", self.address]
            return subprocess.run(probe, capture_output=True, check=False).returncode == 0

        wait_until("the collector", serves, LIMIT_S)
        return self

    def terminate(self) -> int:
        """SIGTERM; the exit status."""
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(LIMIT_S)

    def __enter__(self) -> "OurCollector":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()

    # -- what it wrote

    @property
    def traces(self) -> pathlib.Path:
        return self.folder / "traces.jsonl"

    def log(self) -> str:
        return self._log.read_text()

    def records(self) -> list[dict[str, Any]]:
        """All records of usage, each as its attributes."""
        path = self.folder / "usage.jsonl"
        return records_of(path.read_bytes()) if path.exists() else []

    def wait_for(self, what: str, until: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """The records, once they are as expected."""
        return wait_until(what, lambda: records if until(records := self.records()) else None, LIMIT_S)

    def draw(self, request_id: str) -> str:
        """What `collector trace` says of a request."""
        drawn = subprocess.run([COMMAND, "trace", request_id, self.traces], capture_output=True, text=True, check=False)
        assert drawn.stderr == "" or drawn.returncode != 0, drawn.stderr
        return drawn.stdout

    def send(self, request: pb.ExportTraceServiceRequest) -> None:
        """Send it spans, as a program with OpenTelemetry does."""
        with grpc.insecure_channel(self.address) as channel:
            trace_service_pb2_grpc.TraceServiceStub(channel).Export(request, timeout=LIMIT_S)


def shape(drawn: str) -> list[str]:
    """What `collector trace` drew, without times and attributes: names, two blanks deeper than what they are below."""
    columns = 10 + 1 + 10 + 1 + 24 + 1  # when it began, how long it was, and the bar of both
    lines = [line if re.match("trace|request|caused|and", line) else line[columns:] for line in drawn.splitlines()]
    return [re.sub(r"(?<=\S)(  | \[| FAILED).*", "", line) for line in lines]


def records_of(usage: bytes) -> list[dict[str, Any]]:
    """Records of usage in a file of them, each as its attributes."""
    return [
        {pair["key"]: _value(pair["value"]) for pair in record["attributes"]}
        for line in usage.splitlines(keepends=True)
        if line.endswith(b"\n")  # the rest of the last one comes
        for resource in json.loads(line)["resourceLogs"]
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
    ]


def _value(value: dict[str, Any]) -> object:
    (kind, of), *_ = value.items()
    match kind:
        case "intValue":
            return int(of)
        case "arrayValue":
            return [_value(each) for each in of.get("values", [])]
        case _:
            return of
