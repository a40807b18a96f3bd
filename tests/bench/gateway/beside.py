"""One client's requests, alone and beside something else."""

import dataclasses

from bench.gateway.driver import Replies

HEADER = ("alone: p50 ms", "p99 ms", "beside: p50 ms", "p99 ms", "p99 ÷ alone")


@dataclasses.dataclass(frozen=True)
class Beside:
    """Medians of the rounds."""

    alone_p50_ms: float
    alone_p99_ms: float
    beside_p50_ms: float
    beside_p99_ms: float
    ratio: float  # of the p99s, median of the rounds' ratios

    def cells(self) -> list[str]:
        """Those of a line under HEADER."""
        latencies = (self.alone_p50_ms, self.alone_p99_ms, self.beside_p50_ms, self.beside_p99_ms)
        return [*(f"{each:.1f}" for each in latencies), f"{self.ratio:.2f}"]


def of_round(alone: Replies, beside: Replies) -> tuple[float, float, float, float, float]:
    """The figures of one round, in their order above."""
    return alone.p50_ms, alone.p99_ms, beside.p50_ms, beside.p99_ms, beside.p99_ms / alone.p99_ms
