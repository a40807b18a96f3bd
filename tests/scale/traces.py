"""Traffic as a file that the simulator replays, and that the real stack can be sent too."""

import dataclasses
import json
import math
import pathlib
import random
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Arrival:
    """A request for a text; each begins in its own way."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


def make(rate_per_s: float, seconds: float, seed: int) -> list[Arrival]:
    """A Poisson process of lognormal lengths, short enough that minutes hold many."""
    of = random.Random(seed)
    arrivals, now = [], 0.0
    while (now := now + of.expovariate(rate_per_s)) < seconds:
        prompt = round(min(400.0, max(8.0, 64 * math.exp(0.7 * of.gauss()))))
        output = round(min(200.0, max(2.0, 32 * math.exp(0.7 * of.gauss()))))
        arrivals.append(Arrival(now, prompt, output))
    return arrivals


def write(path: pathlib.Path, arrivals: Sequence[Arrival]) -> None:
    path.write_text("".join(json.dumps(dataclasses.asdict(arrival)) + "\n" for arrival in arrivals))
