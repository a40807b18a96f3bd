"""Where and what was measured: the machine, the day, the commit."""

import dataclasses
import datetime
import pathlib
import platform

import psutil
from rich.console import Console

from repo.tree import git, has_history

FEATURES = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")


@dataclasses.dataclass(frozen=True)
class Occasion:
    """One run of the benchmarks."""

    machine: str
    date: str
    commit: str

    def markdown(self) -> str:
        return f"- Machine: {self.machine}\n- Date: {self.date}; commit {self.commit}"


def now(console: Console) -> Occasion:
    """Look at the machine before anything runs, and warn when something does already."""
    load = psutil.getloadavg()[0]
    if load > 0.5:
        console.print(f"[yellow]The machine is busy (load {load:.1f}): expect noise.")
    return Occasion(
        machine=f"{_machine()}; load before {load:.1f}",
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        commit=_commit(),
    )


def has(feature: str) -> bool:
    """Whether the processor has a feature, as Linux names it."""
    return feature in _processor().get("flags", "").split()


def _processor() -> dict[str, str]:
    """What Linux says of the last core; nothing elsewhere."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def _machine() -> str:
    """Processor, cores, memory and the features that decide how fast it multiplies."""
    features = [name for name in FEATURES if has(name)]
    memory = psutil.virtual_memory().total / 2**30
    name = _processor().get("model name", platform.processor())
    return f"{name}, {psutil.cpu_count()} cores, {memory:.0f} GiB; {' '.join(features)}"


def _commit() -> str:
    """The commit that is measured, and whether the tree differs from it."""
    if not has_history():
        return "unknown"
    return git("rev-parse", "--short=12", "HEAD") + (", with changes" if git("status", "--porcelain") else "")
