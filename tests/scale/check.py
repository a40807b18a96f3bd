"""The simulator beside the real stack: `make simulate-check`, alone on the machine, writes docs/scale/check.json.

The same trace goes to both: one gateway, and one hot path or two with one thread each.
"""

import argparse
import json
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.generation.servers import load_model
from bench.generation.streams import Answer
from scale import traces
from scale.program import COSTS, simulate
from scale.real import Fleet, replay
from stack.description import ROOT
from stack.native import MODELS

OUT = ROOT / "docs/scale/check.json"
# Requests a second of each replica: about 40 % and 70 % of what one does of this traffic.
RATES = (3.0, 5.5)
REPLICAS = (1, 2)
FIGURES = ("mean", "p50", "p99")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scale.check", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    machine.add_noisy(parser)
    parser.add_argument("--costs", type=pathlib.Path, default=COSTS)
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    arguments = parser.parse_args()
    console = Console()
    occasion = machine.now_or_exit(parser, noisy=arguments.noisy)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model = load_model(MODELS, ROOT / ".cache/wheels", folder)
        for replicas in REPLICAS:
            fleet = Fleet(folder / f"stack{replicas}", replicas)
            try:
                for rate in RATES:
                    arrivals = traces.make(rate * replicas, arguments.seconds, seed=1)
                    with console.status(f"{replicas} replicas, {len(arrivals)} requests"):
                        measured = of_answers(replay(fleet, model.prompts, arrivals), arrivals)
                    said = _simulated(folder, replicas, arrivals, arguments.costs)
                    rows.append({"replicas": replicas, "rate_per_s": rate * replicas, "requests": len(arrivals)})
                    rows[-1] |= {"measured": measured, "simulated": said}
                    console.print(rows[-1])
            finally:
                fleet.stop()
    found = {
        "machine": occasion.machine,
        "date": occasion.date,
        "commit": occasion.commit,
        "noisy": arguments.noisy,
        "seconds": arguments.seconds,
        "rows": rows,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    _show(rows, console)


def of_answers(answers: Sequence[Answer], arrivals: Sequence[traces.Arrival]) -> dict[str, Any]:
    """The simulator's figures, of real answers."""
    firsts = [answer.first_token_s for answer in answers]
    latencies = [answer.arrivals[-1] - answer.sent_at for answer in answers]
    begun, ended = min(answer.sent_at for answer in answers), max(answer.arrivals[-1] for answer in answers)
    tokens = sum(answer.completion_tokens for answer in answers)
    return {
        "first_token_ms": _figures(firsts),
        "latency_ms": _figures(latencies),
        "output_tokens_per_s": tokens / (ended - begun),
    }


def _simulated(
    folder: pathlib.Path, replicas: int, arrivals: Sequence[traces.Arrival], costs: pathlib.Path
) -> dict[str, Any]:
    path = folder / "trace.jsonl"
    traces.write(path, arrivals)
    seconds = arrivals[-1].at_s + 1
    scenario = {"name": "check", "replicas": replicas, "policy": "affinity", "traffic": [], "seconds": seconds}
    (report,) = simulate([scenario], costs=costs, traffic=path)
    tokens = sum(arrival.output_tokens for arrival in arrivals)
    # Until the last one has ended, as it is measured: what was under way at the end of arrivals counts.
    ended = seconds + report["drained_s"]
    return {
        "first_token_ms": {name: report["first_token_ms"][name] for name in FIGURES},
        "latency_ms": {name: report["latency_ms"][name] for name in FIGURES},
        "output_tokens_per_s": tokens / (ended - arrivals[0].at_s),
        "utilisation": report["utilisation"],
    }


def _figures(seconds: Sequence[float]) -> dict[str, float]:
    mean = float(np.mean(seconds))
    p50, p99 = (float(np.quantile(seconds, of, method="inverted_cdf")) for of in (0.5, 0.99))
    return {"mean": 1e3 * mean, "p50": 1e3 * p50, "p99": 1e3 * p99}


def lines(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """A line of cells for each figure: what was measured, what the simulator says, and how far that is off."""
    found = []
    for row in rows:
        of = f"{row['replicas']} × {row['rate_per_s'] / row['replicas']:.1f}/s"
        pairs = [
            (f"{what} {name}", row["measured"][key][name], row["simulated"][key][name], " ms")
            for what, key in (("first token,", "first_token_ms"), ("latency,", "latency_ms"))
            for name in FIGURES
        ]
        pairs.append(
            ("tokens a second", row["measured"]["output_tokens_per_s"], row["simulated"]["output_tokens_per_s"], "")
        )
        found += [
            [of, what, f"{measured:.0f}{unit}", f"{said:.0f}{unit}", f"{said / measured - 1:+.0%}"]
            for what, measured, said, unit in pairs
        ]
    return found


def _show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    table = Table("replicas × load", "", "measured", "simulated", "error")
    for line in lines(rows):
        table.add_row(*line)
    console.print(table)


if __name__ == "__main__":
    main()
