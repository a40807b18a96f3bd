"""`make bench` runs to its end. What it measures here means nothing."""

import pathlib
import subprocess
import sys
from collections.abc import Sequence

import pytest

from bench.embeddings import raw
from repo.tree import ROOT

# What each half shows at least: a row of its table of goals, and its plots.
HALVES = {
    "embeddings": ("benchmarks", "latency added at 1 client, p99", {"load.svg", "cpu.svg"}),
    "generation": ("benchmarks-generation", "second turn: time to first token", {"chunks.svg", "cpu.svg"}),
}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.timeout(600)
def test_every_measurement_and_all_plots(half: str, tmp_path: pathlib.Path) -> None:
    name, row, plots = HALVES[half]
    command = [sys.executable, "-m", "bench", "--quick", "--only", half, "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT / "tests", check=True)
    assert row in (tmp_path / f"{name}.md").read_text()
    assert {path.name for path in (tmp_path / name).iterdir()} == plots


def test_a_part_of_a_pass_has_its_share_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed is counted in feeds; the shortest texts first, these would have too many."""
    schedules: list[Sequence[raw.Feed]] = []

    def texts_per_s(graph: pathlib.Path, feeds: Sequence[raw.Feed], *rest: float) -> float:
        schedules.append(feeds)
        return 1.0

    monkeypatch.setattr(raw, "texts_per_s", texts_per_s)
    raw.best_schedule(pathlib.Path(), [[0] * length for length in range(1, 101)], workers=1, rounds=1, round_s=1)
    assert len(schedules) == len(raw.SCHEDULES)
    for feeds in schedules:
        texts = [len(feed["seqlens_k"]) for feed in feeds]
        assert sum(texts) == 100
        assert sum(texts[: len(feeds) // 2]) == pytest.approx(50, abs=10)


def test_quick_figures_cannot_replace_the_real_ones() -> None:
    command = [sys.executable, "-m", "bench", "--quick"]
    result = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--out" in result.stderr
