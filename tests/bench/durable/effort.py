"""How much to measure."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Effort:
    """How often, for how long, and of how much."""

    rounds: int
    batch_s: float  # about how long a batch runs whose speed is measured
    round_s: float  # of requests beside a batch
    long_round_s: float  # the same where they take long
    kills: int
    memory_lines: int  # of 4 KB, that go in, run and come out
    idle_s: float
    benchtime: str  # of Go's benchmarks


FULL = Effort(rounds=3, batch_s=10, round_s=6, long_round_s=8, kills=2, memory_lines=50_000, idle_s=10, benchtime="1s")
QUICK = Effort(rounds=1, batch_s=1, round_s=0.5, long_round_s=1, kills=1, memory_lines=500, idle_s=0.5, benchtime="10x")
