"""`make simulate` runs to its end, and what it makes of figures is right."""

import pathlib
import re
import subprocess
import sys

import pytest

from bench.generation import streams
from repo.tree import ROOT
from scale import calibrate, check, traces
from scale.program import simulate
from stack.waiting import StackError


@pytest.mark.timeout(300)
def test_the_page_is_written(tmp_path: pathlib.Path) -> None:
    page = tmp_path / "scale.md"
    command = [sys.executable, "-m", "scale", "--quick", f"--out={page}"]
    result = subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    text = page.read_text()
    for name in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (tmp_path / name).stat().st_size > 1000
    assert not re.search(r"\bnan\b|\binf\b|None", text), text
    assert re.findall(r"^## (.+)$", text, re.M) == re.findall(r"^## (.+)$", (ROOT / "docs/scale.md").read_text(), re.M)


def test_what_is_wrong_with_a_scenario_is_said() -> None:
    with pytest.raises(StackError, match=r"line 1: policy: unknown variant `best`"):
        list(simulate([{"name": "a", "replicas": 1, "policy": "best", "traffic": [], "seconds": 1}]))


def test_a_trace_is_replayed(tmp_path: pathlib.Path) -> None:
    arrivals = traces.make(rate_per_s=4, seconds=20, seed=1)
    assert 50 < len(arrivals) < 120
    traces.write(tmp_path / "trace.jsonl", arrivals)
    asked = {"name": "a", "replicas": 2, "policy": "affinity", "traffic": [], "seconds": 21}
    (report,) = simulate([asked], traffic=tmp_path / "trace.jsonl")
    assert report["outcomes"]["done"] == len(arrivals)
    assert report["output_tokens_per_s"] == pytest.approx(sum(each.output_tokens for each in arrivals) / 21, rel=0.1)


def test_costs_are_found_in_times() -> None:
    features = [[1.0, rows, rows * length] for rows in (1.0, 4.0, 16.0) for length in (20.0, 400.0)]
    times = [4e-3 + 7e-4 * rows + 2e-6 * cached for _, rows, cached in features]
    assert calibrate._fit(list(zip(features, times, strict=True))) == pytest.approx([4e-3, 7e-4, 2e-6])
    falling = [time - 9e-6 * cached for time, (_, _, cached) in zip(times, features, strict=True)]
    assert min(calibrate._fit(list(zip(features, falling, strict=True)))) == 0, "nothing takes less than no time"


def test_steps_are_timed_while_all_streams_decode() -> None:
    step_s, late_s = 0.01, 0.5
    first = [index * step_s for index in range(150)]
    second = [late_s + index * step_s for index in range(100)]
    answers = [streams.Answer(0.0, arrivals, "", 16, len(arrivals), 0) for arrivals in (first, second)]
    found = calibrate._steps(answers, prompt=16)
    assert [features for features, _ in found] == [[1.0, 2.0, 2.0 * (16 + 24 * window + 12)] for window in range(4)]
    assert [took for _, took in found] == pytest.approx([step_s] * 4)


def test_errors_are_shares_of_what_was_measured() -> None:
    figures = {"mean": 100.0, "p50": 80.0, "p99": 200.0}
    of = {"first_token_ms": figures, "latency_ms": figures, "output_tokens_per_s": 50.0}
    said = {**of, "latency_ms": {**figures, "p99": 150.0}}
    lines = check.lines([{"replicas": 2, "rate_per_s": 6.0, "requests": 10, "measured": of, "simulated": said}])
    assert lines[5] == ["2 × 3.0/s", "latency, p99", "200 ms", "150 ms", "-25%"]
    assert [line[-1] for line in lines].count("+0%") == 6
