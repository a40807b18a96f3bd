"""The queue and the pool of workers by themselves."""

import dataclasses
import pathlib
import re
import subprocess
import time
from collections.abc import Mapping

from bench.durable import api
from bench.durable.effort import Effort
from bench.gateway.driver import cpu_s
from bench.gateway.programs import Engine
from stack.description import ROOT
from stack.native import NativeStack
from stack.waiting import StackError

WORKERS = (1, 4, 16)
SETTLE_S = 2.0


@dataclasses.dataclass(frozen=True)
class Pool:
    """Nanoseconds an item that does nothing."""

    pool_ns: float
    channel_ns: float


@dataclasses.dataclass(frozen=True)
class Queue:
    added_per_s: float  # one a transaction, synced, in SQLite
    finished_per_s: float  # claimed and finished, likewise
    idle: float  # share of a core that an idle gateway takes with files and batches
    idle_without: float  # and without
    pools: Mapping[int, Pool]  # by the number of workers


def measure(folder: pathlib.Path, effort: Effort) -> Queue:
    jobs = _benchmark("./internal/store", "Jobs/sqlite/alone", effort)
    pools = _benchmark("./internal/workpool", "Pool", effort)
    ((added, finished),) = re.findall(r"([\d.]+) added/s\s+([\d.]+) claimed\+finished/s", jobs)
    taken = {
        (kind, int(workers)): float(ns)
        for kind, workers, ns in re.findall(r"BenchmarkPool/(\w+)/workers=(\d+)\S*\s+\d+\s+([\d.]+) ns/op", pools)
    }
    idle = _idle(folder / "with", effort, {})
    without = _idle(folder / "without", effort, {"blobs": "off"})
    return Queue(
        float(added),
        float(finished),
        idle,
        without,
        {workers: Pool(taken["pool", workers], taken["channel", workers]) for workers in WORKERS},
    )


def _benchmark(package: str, which: str, effort: Effort) -> str:
    """What Go's benchmark prints."""
    command = ["go", "test", "-run=^$", f"-bench={which}", f"-benchtime={effort.benchtime}", "-cpu=2", package]
    done = subprocess.run(command, cwd=ROOT / "go-gateway", capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _idle(folder: pathlib.Path, effort: Effort, settings: Mapping[str, str]) -> float:
    engine = Engine(folder)
    gateway = {**api.settings(folder), "canary-interval": "1h", "ready-window": "2h", **settings}
    stack = NativeStack(folder / "gateway", hotpath_address=engine.contract, gateway=gateway)
    try:
        pid = stack.start().pids["gateway"]
        time.sleep(min(SETTLE_S, effort.idle_s))
        before = cpu_s(pid)
        time.sleep(effort.idle_s)
        return (cpu_s(pid) - before) / effort.idle_s
    finally:
        stack.stop()
        engine.stop()
