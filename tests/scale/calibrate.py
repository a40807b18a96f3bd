"""Measures what runs of the decoder cost, through the real stack: `python -m scale.calibrate`, alone on the machine.

A run takes a + b · rows + c · tokens in the cache before them, and for tokens of prompts the like. Streams that decode
together say the first three, prompts that are read alone the others. Other work on the machine makes times longer and
never shorter, so each figure is a low quantile.
"""

import argparse
import json
import pathlib
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from bench import machine
from bench.generation.prompts import Prompts
from bench.generation.servers import CHUNK_TOKENS, load_model
from bench.generation.streams import Answer, together
from scale.program import COSTS
from scale.real import Fleet
from stack.description import ROOT
from stack.native import MODELS

STREAMS = (1, 2, 4, 8, 16, 24)
SHORT, LONG = 16, 600  # prompts of the streams, in tokens
PROMPTS = (48, 112, 240, 496, 1008, 1968)
WINDOW = 24  # steps of which each a time is taken
QUANTILE = 0.25


def main() -> None:
    parser = argparse.ArgumentParser(prog="scale.calibrate", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    machine.add_noisy(parser)
    parser.add_argument("--out", type=pathlib.Path, default=COSTS)
    arguments = parser.parse_args()
    console = Console()
    occasion = machine.now_or_exit(parser, noisy=arguments.noisy)
    known = json.loads(COSTS.read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model = load_model(MODELS, ROOT / ".cache/wheels", folder)
        fleet = Fleet(folder / "stack", 1)
        try:
            decoder, way = measure(fleet, model.prompts, arguments.rounds, console)
        finally:
            fleet.stop()
    found = {
        "processor": f"{occasion.machine}; 1 thread of inference",
        "source": f"`python -m scale.calibrate`, {occasion.date}, {occasion.commit}; "
        "the encoder as in docs/benchmarks.md, on the processor of that page",
        "decoder": {**known["decoder"], **decoder},
        "encoder": known["encoder"],
        "way": way,
    }
    arguments.out.write_text(json.dumps(found, indent=2) + "\n")
    console.print_json(data=found)


def measure(fleet: Fleet, prompts: Prompts, rounds: int, console: Console) -> tuple[dict[str, float], dict[str, float]]:
    """Costs of the decoder, and of the way to it and back, in microseconds."""
    steps: list[tuple[list[float], float]] = []
    works = [(count, SHORT) for count in STREAMS] + [(count, LONG) for count in (1, 4, 8)]
    for count, prompt in track([work for work in works for _ in range(rounds)], "streams", console=console):
        tokens = 160 if prompt == SHORT else 80
        requests = [fleet.complete(prompts.text(prompt), prompt, tokens) for _ in range(count)]
        steps += _steps(together(requests), prompt)
    best: dict[tuple[float, ...], list[float]] = {}
    for features, took in steps:
        best.setdefault(tuple(features), []).append(took)
    run, row, cached = _fit([(list(features), _low(times)) for features, times in best.items()])
    firsts: dict[int, list[float]] = {length: [] for length in PROMPTS}
    for length in track([length for length in PROMPTS for _ in range(2 * rounds)], "prompts", console=console):
        (answer,) = together([fleet.complete(prompts.text(length), length, 2)])
        firsts[length].append(answer.first_token_s)
    alone = []
    for length, times in firsts.items():
        runs = -(-length // CHUNK_TOKENS)
        alone.append(([1.0, length, length * (length - 1) / 2], _low(times) - runs * run))
    way, token, before = _fit(alone)
    decoder = {
        "run_us": run,
        "row_us": row,
        "cached_token_us": cached,
        "prompt_token_us": token,
        "prompt_cached_token_us": before,
    }
    ways = {"there_us": 0.75 * way, "back_us": 0.25 * way}  # of the two, only the sum can be seen
    return (
        {name: round(1e6 * cost, 3) for name, cost in decoder.items()},
        {n: round(1e6 * c, 1) for n, c in ways.items()},
    )


def _steps(answers: Sequence[Answer], prompt: int) -> list[tuple[list[float], float]]:
    """What runs had, and how long each took, while all streams decoded: the mean of each window of steps."""
    first = max(answer.arrivals[0] for answer in answers)
    last = min(answer.arrivals[-1] for answer in answers)
    longest = max(answers, key=lambda answer: answer.arrivals[0])  # it began last
    arrivals = [at for at in longest.arrivals if first <= at <= last]
    count, found = len(answers), []
    for start in range(0, len(arrivals) - WINDOW, WINDOW):
        position = prompt + start + WINDOW / 2
        # Of a window, and not of each step: a client that is late reads several at once.
        took = (arrivals[start + WINDOW] - arrivals[start]) / WINDOW
        found.append(([1.0, float(count), count * position], took))
    return found


def _low(times: Sequence[float]) -> float:
    return float(np.quantile(times, QUANTILE)) if len(times) > 1 else statistics.median(times)


def _fit(points: Sequence[tuple[list[float], float]]) -> list[float]:
    """The costs of features that explain times with the least error, each relative, and none below zero."""
    features: Any = np.array([features for features, _ in points])
    times = np.array([took for _, took in points])
    weights = 1 / np.maximum(times, 1e-6)
    free = list(range(features.shape[1]))
    while True:
        found, *_ = np.linalg.lstsq(features[:, free] * weights[:, None], times * weights, rcond=None)
        negative = [place for place, cost in zip(free, found, strict=True) if cost < 0]
        if not negative:
            return [float(dict(zip(free, found, strict=True)).get(place, 0.0)) for place in range(features.shape[1])]
        free = [place for place in free if place not in negative]


if __name__ == "__main__":
    main()
