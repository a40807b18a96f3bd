"""Where and what was measured: the machine, the day, the commit."""

import argparse
import dataclasses
import datetime
import pathlib
import platform

import psutil

from repo.tree import git, has_history

# What the last minute's load may be, on a machine that is to measure.
BUSY = 0.5
FEATURES = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")


@dataclasses.dataclass(frozen=True)
class Occasion:
    """One run of the benchmarks."""

    machine: str
    date: str
    commit: str

    def markdown(self) -> str:
        return f"- Machine: {self.machine}\n- Date: {self.date}; commit {self.commit}"


class UnfitError(Exception):
    """What would be measured now could not be trusted, or not be named."""


def add_noisy(parser: argparse.ArgumentParser) -> None:
    """Have a command take `--noisy`."""
    parser.add_argument("--noisy", action="store_true", help="measure on a busy machine or a changed tree all the same")


def now_or_exit(parser: argparse.ArgumentParser, *, noisy: bool) -> Occasion:
    """Look at the machine, as now does, for a command, which ends where it is not fit."""
    try:
        return now(noisy=noisy)
    except UnfitError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


def now(*, noisy: bool) -> Occasion:
    """Look at the machine and the tree before anything runs.

    Raises UnfitError when something else runs, or the tree differs from its commit; `noisy` measures all the same, and
    the page says so.
    """
    load = psutil.getloadavg()[0]
    if not noisy and load > BUSY:
        raise UnfitError(f"the machine is busy: a load of {load:.1f} in the last minute, of at most {BUSY} (--noisy)")
    if not noisy and _changed():
        raise UnfitError("the tree has changes: commit them, so that the page can say what was measured (--noisy)")
    return Occasion(
        machine=f"{_machine()}; load before {load:.1f}",
        date=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        commit=_commit(),
    )


def _processor() -> dict[str, str]:
    """What Linux says of the last core; nothing elsewhere."""
    path = pathlib.Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return {name.strip(): value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}


def _machine() -> str:
    """Processor, cores, memory and the features that decide how fast it multiplies."""
    flags = _processor().get("flags", "").split()
    features = [name for name in FEATURES if name in flags]
    memory = psutil.virtual_memory().total / 2**30
    name = _processor().get("model name", platform.processor())
    return f"{name}, {psutil.cpu_count()} cores, {memory:.0f} GiB; {' '.join(features)}"


def _commit() -> str:
    """The commit that is measured, and whether the tree differs from it."""
    if not has_history():
        return "unknown"
    return git("rev-parse", "--short=12", "HEAD").strip() + (", with changes" if _changed() else "")


def _changed() -> bool:
    """Whether something differs from the commit, but for the pages, of which the first is written before the second."""
    return has_history() and bool(git("status", "--porcelain", "--", ".", ":!docs"))
