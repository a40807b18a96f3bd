"""`make simulate`: asks the simulator what docs/scale.md tells, and writes it.

It takes minutes of one core, and measures nothing: the costs are in the simulator's folder.
"""

import argparse
import json
import pathlib

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from scale import check, experiments, report
from scale.experiments import FULL, QUICK
from scale.program import COSTS, PROGRAM, Report, simulate
from stack.description import ROOT

PAGE = ROOT / "docs/scale.md"
# What one replica can do is found by halving what lies between nothing and this.
MOST_PER_S = 16.0
HALVINGS = 10


def main() -> None:
    parser = argparse.ArgumentParser(prog="scale", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="ask everything for a moment, for tests")
    parser.add_argument("--costs", type=pathlib.Path, default=COSTS)
    parser.add_argument("--program", type=pathlib.Path, default=PROGRAM)
    parser.add_argument("--out", type=pathlib.Path, default=PAGE, help="the page; its plots go beside it")
    arguments = parser.parse_args()
    if arguments.quick and arguments.out == PAGE:
        parser.error("--quick says nothing worth keeping: choose another --out")
    effort = QUICK if arguments.quick else FULL
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    reports: list[Report] = []
    console = Console()
    with Progress(*columns, console=console) as progress:
        shown = progress.add_task("what one replica can do")

        def ask(scenarios: list[experiments.Scenario]) -> None:
            for found in simulate(scenarios, costs=arguments.costs, program=arguments.program):
                reports.append(found)
                progress.update(shown, advance=1, description=f"{found['replicas']} replicas, {found['name']}")

        of_texts, of_chats = experiments.capacity_of_texts(effort), 0.0
        progress.update(shown, total=1 + HALVINGS)
        ask([of_texts])
        step = MOST_PER_S / 2
        for _ in range(HALVINGS):
            ask([experiments.capacity(effort, of_chats + step)])
            if experiments.is_capacity(reports[-1]):
                of_chats += step
            else:
                del reports[-1]
            step /= 2
        others = experiments.everything(effort, of_chats, reports[0]["requests_per_s"])
        progress.update(shown, total=1 + HALVINGS + len(others))
        ask(others)
    costs = json.loads(arguments.costs.read_text())
    report.Page(reports, effort, of_chats, costs, check.OUT).write(arguments.out)
    console.print(f"{arguments.out} says what came of it")


if __name__ == "__main__":
    main()
