"""What a gateway holds while a large batch goes in, is run, and comes out."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import psutil

from bench.durable import api
from bench.durable.effort import Effort
from bench.gateway.peers import TEXT, WORKS
from bench.gateway.programs import Engine
from bench.sampler import MIB, Sampler
from stack.native import NativeStack

LINE_BYTES = 4_000
WARMUP_LINES = 1_000


@dataclasses.dataclass(frozen=True)
class Memory:
    input_bytes: int
    output_bytes: int
    before_mib: float  # after a small batch
    most_mib: float
    phases: Sequence[tuple[str, float]]  # and when each ended, in seconds
    samples: Sequence[tuple[float, float]]  # seconds, MiB

    @property
    def grown_mib(self) -> float:
        return self.most_mib - self.before_mib


def measure(folder: pathlib.Path, effort: Effort) -> Memory:
    """Before an engine that answers at once."""
    engine = Engine(folder)
    stack = NativeStack(folder / "gateway", hotpath_address=engine.contract, gateway=api.settings(folder))
    try:
        where = stack.start()
        client = api.Client(where)
        path = folder / "in.jsonl"
        _write(path, WARMUP_LINES)  # for what any batch needs
        _run(client, path, lambda _: None)
        before = psutil.Process(where.pids["gateway"]).memory_info().rss / MIB
        _write(path, effort.memory_lines)
        sampler = Sampler(where.pids["gateway"])
        phases: list[tuple[str, float]] = []
        try:
            output = _run(client, path, lambda phase: phases.append((phase, sampler.now())))
        finally:
            sampler.stop()
    finally:
        stack.stop()
        engine.stop()
    most = max(taken for _, taken in sampler.samples)
    return Memory(path.stat().st_size, output, before, most, phases, sampler.samples)


def _write(path: pathlib.Path, lines: int) -> None:
    endpoint, body = WORKS[TEXT]
    api.write(path, endpoint, ({**body, "input": f"{n:06} ".ljust(LINE_BYTES, "x")} for n in range(lines)))


def _run(client: api.Client, path: pathlib.Path, ended: Callable[[str], None]) -> int:
    """Have a file run, tell the end of each phase, and return how long the output is."""
    endpoint, _ = WORKS[TEXT]
    file = client.upload(path)
    ended("goes in")
    batch = client.submit(endpoint, file)
    client.wait(batch)
    ended("is run")
    output = client.download(client.wait(batch, results=True)["output_file_id"])
    ended("comes out")
    return output
