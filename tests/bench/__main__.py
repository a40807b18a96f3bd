"""`make bench`: measures, prints and writes docs/benchmarks.md.

It takes about eight minutes; other work on the machine shows in the figures. `--quick` tries every part for a moment,
for tests: its figures mean nothing, and it wants another place to write to.
"""

import argparse
import datetime
import pathlib
import platform
import subprocess
import tempfile

import psutil
from rich.console import Console
from rich.table import Table

from bench import corpus, measures, report
from stack.description import ROOT
from stack.native import MODELS

DOCUMENT = ROOT / "docs/benchmarks.md"
FULL, QUICK = measures.Effort(rounds=3, round_s=4), measures.Effort(rounds=1, round_s=0.5)
FEATURES = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")


def machine() -> str:
    """Processor, cores, memory and the features that decide how fast it multiplies."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    fields = {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}
    features = [name for name in FEATURES if name in fields.get("flags", "").split()]
    memory = psutil.virtual_memory().total / 2**30
    name = fields.get("model name", platform.processor())
    return f"{name}, {psutil.cpu_count()} cores, {memory:.0f} GiB; {' '.join(features)}"


def commit() -> str:
    """The commit that is measured, and whether the tree differs from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short=12", "HEAD") + (", with changes" if git("status", "--porcelain") else "")


def measure(effort: measures.Effort, console: Console) -> report.Results:
    """Measure everything, one thing after the other."""
    cores = psutil.cpu_count() or 1
    texts = corpus.load(MODELS, ROOT / ".cache/wheels")
    load_before = psutil.getloadavg()[0]
    if load_before > 0.5:
        console.print(f"[yellow]The machine is busy (load {load_before:.1f}): expect noise.")
    with tempfile.TemporaryDirectory() as name, console.status("") as status:
        folder = pathlib.Path(name)
        throughput = []
        for workers in sorted({1, cores}):
            status.update(f"throughput, {workers} inference thread(s)")
            throughput.append(measures.throughput(texts, folder / f"throughput{workers}", workers, effort))
        status.update("latency added")
        latency = measures.added_latency(texts, folder / "latency", effort)
        status.update("against the usual recipe")
        usual = measures.usual_recipe(texts, cores, effort)
        status.update("start and memory")
        footprint = measures.footprint(texts, folder / "footprint", cores, effort)
        status.update("latency as load grows")
        load = measures.latency_under_load(texts, folder / "load", effort)
    return report.Results(
        machine=f"{machine()}; load before {load_before:.1f}",
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        commit=commit(),
        tokens_per_text=texts.tokens_per_text,
        throughput=throughput,
        latency=latency,
        usual_recipe=usual,
        footprint=footprint,
        load=load,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="try every part for a moment")
    parser.add_argument("--out", type=pathlib.Path, default=DOCUMENT, help="the document to write")
    arguments = parser.parse_args()
    if arguments.quick and arguments.out == DOCUMENT:
        parser.error("--quick measures nothing worth keeping: choose another --out")
    console = Console()
    results = measure(QUICK if arguments.quick else FULL, console)
    table = Table("what", "against", "measured", "expected", "wanted")
    for row in report.rows(results):
        table.add_row(row.what, row.against, row.value, row.expected, row.wanted)
    console.print(table)
    report.write(results, arguments.out)
    console.print(f"{arguments.out} is written, with plots in {arguments.out.with_suffix('')}")


if __name__ == "__main__":
    main()
