"""The part of durable work of the benchmarks, from start to end."""

import pathlib
import tempfile

from rich.console import Console

from bench.durable import api, beside, memory, queue, recovery, report, throughput
from bench.durable.effort import Effort
from bench.gateway import programs
from bench.machine import Occasion
from stack.native import NativeStack


def measure(occasion: Occasion, effort: Effort, console: Console) -> report.Results:
    """Measure everything, one thing after the other."""
    with tempfile.TemporaryDirectory() as name, console.status("") as status:
        folder = pathlib.Path(name)
        status.update("building the null engine")
        programs.build()
        status.update("the queue and the pool")
        queued = queue.measure(folder / "queue", effort)
        status.update("a large batch's memory")
        taken = memory.measure(folder / "memory", effort)
        stack = NativeStack(folder / "stack", gateway=api.settings(folder))
        status.update("a batch beside the hot path's peak")
        try:
            where = stack.start()
            speed = throughput.measure(where, folder, effort)
            status.update("requests beside a batch")
            besides = beside.measure(where, folder, effort)
        finally:
            stack.stop()
        status.update("after a kill")
        recovered = recovery.measure(folder / "recovery", effort)
    return report.Results(occasion, effort, speed, besides, recovered, queued, taken)
