"""The embeddings half of the benchmarks, from start to end."""

import pathlib
import tempfile

import psutil
from rich.console import Console

from bench.embeddings import corpus, measures, mixed_load, report
from bench.machine import Occasion
from stack.description import ROOT
from stack.native import MODELS

FULL = measures.Effort(rounds=3, round_s=4, giant_texts=2048)
QUICK = measures.Effort(rounds=1, round_s=0.25, giant_texts=128)


def measure(occasion: Occasion, effort: measures.Effort, console: Console) -> report.Results:
    """Measure everything, one thing after the other."""
    cores = psutil.cpu_count() or 1
    texts = corpus.load(MODELS)
    with tempfile.TemporaryDirectory() as name, console.status("") as status:
        folder = pathlib.Path(name)
        status.update("the peer's file")
        peer = corpus.write_peer(texts, ROOT / ".cache", folder)
        if peer is None:
            console.print(
                "[yellow]llama.cpp's server is not there: `make llama-server` builds it. Its rows are left out."
            )
        throughput = []
        for workers in sorted({1, cores}):
            status.update(f"throughput, {workers} inference thread(s)")
            throughput.append(measures.throughput(texts, folder / f"throughput{workers}", workers, peer, effort))
        status.update("latency added")
        latency = measures.added_latency(texts, folder / "latency", effort)
        status.update("against the usual recipe")
        fp32 = corpus.write_float32(ROOT / ".cache", folder)
        usual = measures.usual_recipes(texts, fp32, folder, cores, effort)
        status.update("start and memory")
        footprint = measures.footprint(texts, folder / "footprint", cores, effort)
        status.update("latency as load grows")
        load = measures.latency_under_load(texts, folder / "load", effort)
        status.update("one tenant beside another")
        beside = mixed_load.measure(texts, folder / "mixed_load", effort)
    return report.Results(
        occasion=occasion,
        tokens_per_text=texts.tokens_per_text,
        throughput=throughput,
        latency=latency,
        usual_recipes=usual,
        footprint=footprint,
        load=load,
        mixed_load=beside,
    )
