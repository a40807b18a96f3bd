"""What traces take of a core, in a gateway before an engine that does nothing."""

import contextlib
import dataclasses
import pathlib
import statistics
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import grpc

from bench.gateway import tenants
from bench.gateway.effort import Effort
from bench.gateway.peers import WORKS, Side
from bench.gateway.programs import Engine
from stack.native import NativeStack

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
# Which part of the requests is recorded; the first one has no collector.
OFF, SOME, ALL = "off", "1 %", "all"
SETTINGS: Mapping[str, Mapping[str, str]] = {OFF: {}, SOME: {"trace-ratio": "0.01"}, ALL: {"trace-ratio": "1"}}


@dataclasses.dataclass(frozen=True)
class Traced:
    """Medians of the rounds."""

    cpu_us: float  # of a request
    ratio: float  # to the same without traces, median of the rounds' ratios


@contextlib.contextmanager
def _sink() -> Iterator[str]:
    """The address of a collector that takes everything, and looks at nothing."""

    class Sink(grpc.GenericRpcHandler):
        def service(self, call: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
            if call.method != EXPORT:
                return None
            return grpc.unary_unary_rpc_method_handler(lambda *_: b"")  # an empty reply is one that refuses no span

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Sink()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop(grace=None).wait()


def measure(folder: pathlib.Path, effort: Effort) -> Mapping[str, Mapping[str, Traced]]:
    """By work, and by which part of the requests is recorded."""
    with contextlib.ExitStack() as stop:
        engine = Engine(folder)
        stop.callback(engine.stop)
        url = stop.enter_context(_sink())
        sides = {}
        for name, traces in SETTINGS.items():
            place = folder / name.replace(" ", "")
            settings = {**tenants.write(place, {}), **traces, **({"otlp-endpoint": url} if traces else {})}
            stack = NativeStack(place, hotpath_address=engine.contract, gateway=settings)
            stop.callback(stack.stop)
            where = stack.start()
            sides[name] = Side(where.url, where.keys["acme"], where.pids["gateway"])
        return {work: _in_turns(work, sides, effort) for work in WORKS}


def _in_turns(work: str, sides: Mapping[str, Side], effort: Effort) -> Mapping[str, Traced]:
    for side in sides.values():
        side.measure(work, effort.round_s / 4)
    rounds = [
        {name: side.measure(work, effort.round_s)[1] for name, side in sides.items()} for _ in range(effort.rounds)
    ]
    return {
        name: Traced(
            statistics.median(cpu[name] for cpu in rounds), statistics.median(cpu[name] / cpu[OFF] for cpu in rounds)
        )
        for name in sides
    }
