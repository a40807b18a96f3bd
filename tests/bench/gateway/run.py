"""The gateway's part of the benchmarks, from start to end."""

import pathlib
import tempfile

from rich.console import Console

from bench.gateway import neighbours, overload, peers, policy, programs, replicas, report, streams, traces
from bench.gateway.effort import Effort
from bench.litellm_install import PROGRAM
from bench.machine import Occasion


def measure(occasion: Occasion, effort: Effort, console: Console) -> report.Results:
    """Measure everything, one thing after the other."""
    with tempfile.TemporaryDirectory() as name, console.status("") as status:
        folder = pathlib.Path(name)
        status.update("building the null engine")
        programs.build()
        if not PROGRAM.exists():
            console.print("[yellow]LiteLLM's proxy is not there: `make litellm` installs it. Its rows are left out.")
        status.update("beside other proxies")
        taken = peers.measure(folder / "peers", effort)
        status.update("what limits add")
        added = policy.measure(folder / "policy", effort)
        status.update("what traces add")
        traced = traces.measure(folder / "traces", effort)
        status.update("two gateways on one Redis")
        accepted = replicas.measure(folder / "replicas", effort)
        status.update("events of streams")
        events = streams.measure(folder / "streams", effort)
        status.update("one tenant beside a flood")
        beside = neighbours.measure(folder / "neighbours", effort)
        status.update("ten times too much")
        beyond = overload.measure(folder / "overload", effort)
    return report.Results(occasion, effort, taken, added, traced, accepted, events, beside, beyond)
