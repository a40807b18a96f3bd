"""What a gateway holds while a large batch goes in, is run, and comes out."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Iterator, Sequence

import psutil

from bench.durable.effort import Effort
from bench.gateway.programs import Engine
from bench.sampler import MIB, Sampler
from e2e import large


@dataclasses.dataclass(frozen=True)
class Memory:
    input_bytes: int
    output_bytes: int
    before_mib: float  # after a small batch
    phases: Sequence[tuple[str, float]]  # and when each ended, in seconds
    samples: Sequence[tuple[float, float]]  # seconds, MiB

    @property
    def most_mib(self) -> float:
        return max(taken for _, taken in self.samples)

    @property
    def grown_mib(self) -> float:
        return self.most_mib - self.before_mib


def measure(folder: pathlib.Path, effort: Effort) -> Memory:
    """Before an engine that answers at once."""
    before: list[float] = []
    phases: list[tuple[str, float]] = []
    samples: list[tuple[float, float]] = []

    @contextlib.contextmanager
    def watch(pid: int) -> Iterator[Callable[[str], None]]:
        before.append(psutil.Process(pid).memory_info().rss / MIB)
        sampler = Sampler(pid)
        try:
            yield lambda phase: phases.append((phase, sampler.now()))
        finally:
            sampler.stop()
            samples.extend(sampler.samples)

    engine = Engine(folder)
    try:
        went, came = large.go_through(folder, effort.memory_lines, engine.contract, watch)
    finally:
        engine.stop()
    return Memory(went, came, before[0], phases, samples)
