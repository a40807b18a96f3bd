"""A collector of traces, as OpenTelemetry's own ones take them, that answers as a test says."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Span

from stack.waiting import wait_until

LIMIT_S = 20
CLIENT = "00f067aa0ba902b7"  # the span of a client that begins a trace


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Serves while it is entered as a context, on a free port where none is named."""

    def __init__(self, address: str = "127.0.0.1:0") -> None:
        self._lock = threading.Lock()
        self._requests: list[pb.ExportTraceServiceRequest] = []
        self._server = grpc.server(ThreadPoolExecutor(4))
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port(address)}"
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, self._server)

    def Export(
        self, request: pb.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> pb.ExportTraceServiceResponse:
        with self._lock:
            self._requests.append(request)
        return pb.ExportTraceServiceResponse()

    def raw(self) -> bytes:
        """Everything that came, as it came."""
        with self._lock:
            return b"".join(request.SerializeToString() for request in self._requests)

    def spans(self) -> list[Span]:
        """All that came, in the order of their beginnings."""
        with self._lock:
            found = [
                span
                for request in self._requests
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def trace(self, trace_id: str, until: Callable[[list[Span]], bool]) -> list[Span]:
        """Those of one trace, once they are as expected."""

        def look() -> list[Span] | None:
            spans = [span for span in self.spans() if span.trace_id.hex() == trace_id]
            return spans if until(spans) else None

        return wait_until(f"the spans of the trace {trace_id}", look, LIMIT_S)

    def all(self, until: Callable[[list[Span]], bool]) -> list[Span]:
        """All that came, once they are as expected."""
        return wait_until("spans", lambda: spans if until(spans := self.spans()) else None, LIMIT_S)

    def __enter__(self) -> "Collector":
        self._server.start()
        return self

    def close(self) -> None:
        """Take nothing any more."""
        self._server.stop(grace=None).wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sampled(number: int) -> tuple[str, str]:
    """The id of a trace, and a client's trace context that has it recorded."""
    trace_id = f"{number:032x}"
    return trace_id, f"00-{trace_id}-{CLIENT}-01"


def has(*names: str) -> Callable[[list[Span]], bool]:
    """Whether there is a span of each name."""
    return lambda spans: {span.name for span in spans}.issuperset(names)


def tree(spans: Iterable[Span]) -> list[str]:
    """One line for each span, in the order of their beginnings, two blanks deeper than the one that it is below."""
    spans = list(spans)
    ids = {span.span_id for span in spans}

    def below(parent: bytes | None, depth: int) -> list[str]:
        lines: list[str] = []
        for span in spans:
            if span.parent_span_id == parent or (parent is None and span.parent_span_id not in ids):
                lines += ["  " * depth + span.name, *below(span.span_id, depth + 1)]
        return lines

    return below(None, 0)


def attributes(of: Span | Span.Event) -> dict[str, object]:
    return {pair.key: _value(pair.value) for pair in of.attributes}


def _value(value: AnyValue) -> object:
    if value.HasField("array_value"):
        return [_value(each) for each in value.array_value.values]
    kind = value.WhichOneof("value")
    return getattr(value, kind) if kind else None
