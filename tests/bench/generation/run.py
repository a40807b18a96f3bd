"""The generation half of the benchmarks, from start to end."""

import pathlib
import tempfile

import psutil
from rich.console import Console

from bench.generation import decoding, delays, memory, report
from bench.generation.decoding import Side
from bench.generation.effort import Effort
from bench.generation.servers import CHUNK_TOKENS, DRAFT_TOKENS, Stack, load_model
from bench.llama_build import PROGRAM
from bench.machine import Occasion
from stack.description import ROOT
from stack.native import MODELS


def measure(occasion: Occasion, effort: Effort, console: Console) -> report.Results:
    """Measure everything, one thing after the other."""
    peers = ["llama.cpp"] if PROGRAM.exists() else []
    if not peers:
        console.print("[yellow]llama.cpp's server is not there: `make llama-server` builds it. Its rows are left out.")
    cores = psutil.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name, console.status("") as status:
        folder = pathlib.Path(name)
        model = load_model(MODELS, ROOT / ".cache/wheels", folder)
        found = []
        for threads in sorted({1, cores}):
            status.update(f"decoding, thread budget {threads}")
            sides = [Side(), Side(draft_tokens=DRAFT_TOKENS)]
            if threads > 1:  # spinning is for threads that wait for each other
                sides.append(Side(spin_us=0))
            found.append(decoding.measure(model, folder, threads, sides, peers, effort))
        chunks = []
        for size in effort.chunk_tokens:
            status.update(f"chunks of {size} tokens")
            # Without drafts: of a text that repeats itself, several tokens arrive at once, and gaps say nothing.
            stack = Stack(folder / f"chunks{size}", chunk_tokens=str(size), draft_tokens="0")
            try:
                chunks.append(delays.chunk_size(model, stack, size, effort))
                if size == CHUNK_TOKENS:
                    status.update("first tokens")
                    first_token = delays.first_token(model, stack, effort)
                    turns = [delays.second_turn(model, stack, tokens, effort) for tokens in effort.turn_tokens]
            finally:
                stack.stop()
        status.update("memory")
        taken = memory.measure(model, folder / "memory", effort.cache_bytes)
    return report.Results(occasion, cores, effort, found, first_token, turns, chunks, taken)
