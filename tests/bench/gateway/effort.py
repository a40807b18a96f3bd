"""How long to measure."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Effort:
    """How often all sides take turns, and for how long each time."""

    rounds: int
    round_s: float  # where requests take milliseconds
    long_round_s: float  # where they take long, or queues have to fill first


FULL, QUICK = Effort(rounds=5, round_s=4, long_round_s=12), Effort(rounds=1, round_s=0.5, long_round_s=1)
