"""`make bench`: measures, prints and writes docs/benchmarks.md, and -generation.md, -gateway.md, -durable.md beside it.

It takes about half an hour, and refuses where other work or changes of the tree would show. `--quick` tries every
part for a moment, for tests: its figures mean nothing, and it wants another folder to write to.
"""

import argparse
import pathlib

from rich.console import Console

import bench.durable.effort
import bench.durable.report
import bench.durable.run
import bench.embeddings.load
import bench.embeddings.report
import bench.embeddings.run
import bench.gateway.effort
import bench.gateway.report
import bench.gateway.run
import bench.generation.effort
import bench.generation.report
import bench.generation.run
from bench import machine, page
from bench.machine import Occasion
from stack.description import ROOT

DOCS = ROOT / "docs"


def embeddings(occasion: Occasion, quick: bool, folder: pathlib.Path, console: Console) -> None:
    effort = bench.embeddings.run.QUICK if quick else bench.embeddings.run.FULL
    results = bench.embeddings.run.measure(occasion, effort, console)
    page.show(bench.embeddings.report.rows(results), console)
    bench.embeddings.report.write(results, folder / "benchmarks.md")


def gateway(occasion: Occasion, quick: bool, folder: pathlib.Path, console: Console) -> None:
    effort = bench.gateway.effort.QUICK if quick else bench.gateway.effort.FULL
    results = bench.gateway.run.measure(occasion, effort, console)
    page.show(bench.gateway.report.rows(results), console)
    bench.gateway.report.write(results, folder / "benchmarks-gateway.md")


def durable(occasion: Occasion, quick: bool, folder: pathlib.Path, console: Console) -> None:
    effort = bench.durable.effort.QUICK if quick else bench.durable.effort.FULL
    results = bench.durable.run.measure(occasion, effort, console)
    page.show(bench.durable.report.rows(results), console)
    bench.durable.report.write(results, folder / "benchmarks-durable.md")


def generation(occasion: Occasion, quick: bool, folder: pathlib.Path, console: Console) -> None:
    effort = bench.generation.effort.QUICK if quick else bench.generation.effort.FULL
    results = bench.generation.run.measure(occasion, effort, console)
    page.show(bench.generation.report.rows(results), console)
    bench.generation.report.write(results, folder / "benchmarks-generation.md")


def allow_connections(console: Console) -> None:
    """Let the load generator have its connections, or say that it has fewer."""
    allowed, wanted = bench.embeddings.load.allow_connections(), bench.embeddings.load.CONNECTIONS
    if allowed < wanted:
        console.print(
            f"[yellow]The limit of open files (ulimit -Hn) leaves {allowed} of {wanted} connections: "
            "further requests wait for one, and their latency counts that."
        )


PARTS = {"embeddings": embeddings, "generation": generation, "gateway": gateway, "durable": durable}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="try every part for a moment")
    machine.add_noisy(parser)
    parser.add_argument("--only", choices=PARTS, help="measure one part")
    parser.add_argument("--out", type=pathlib.Path, default=DOCS, help="the folder to write into")
    arguments = parser.parse_args()
    if arguments.quick and arguments.out == DOCS:
        parser.error("--quick measures nothing worth keeping: choose another --out")
    console = Console()
    allow_connections(console)
    occasion = machine.now_or_exit(parser, noisy=arguments.noisy or arguments.quick)
    for name, measure in PARTS.items():
        if arguments.only in (None, name):
            measure(occasion, arguments.quick, arguments.out, console)
    console.print(f"{arguments.out} has the documents, with plots beside them")


if __name__ == "__main__":
    main()
