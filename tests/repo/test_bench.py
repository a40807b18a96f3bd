"""`make bench` runs to its end. What it measures here means nothing."""

import pathlib
import subprocess
import sys

import pytest

from repo.tree import ROOT


@pytest.mark.timeout(300)
def test_every_measurement_and_both_plots(tmp_path: pathlib.Path) -> None:
    document = tmp_path / "figures.md"
    command = [sys.executable, "-m", "bench", "--quick", "--out", str(document)]
    subprocess.run(command, cwd=ROOT / "tests", check=True)
    text = document.read_text()
    assert "latency added at 1 client, p99" in text
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"load.svg", "cpu.svg"}


def test_quick_figures_cannot_replace_the_real_ones() -> None:
    command = [sys.executable, "-m", "bench", "--quick"]
    result = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--out" in result.stderr
