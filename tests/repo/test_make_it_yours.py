"""What docs/make-it-yours.md says can be deleted, can."""

import pathlib
import re
import subprocess
import sys

import pytest

from repo.tree import ROOT, copy_tree, git

ROW = re.compile(r"^\| ([\w ]+) \| ((?:`[\w./-]+` ?)+) \|", re.M)
PARTS = {
    name: re.findall(r"`([^`]+)`", paths) for name, paths in ROW.findall((ROOT / "docs/make-it-yours.md").read_text())
}


@pytest.fixture(params=PARTS)
def without(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the tracked tree without one part."""
    copy_tree(tmp_path)
    for path in PARTS[request.param]:
        assert git("ls-files", "--", path), f"{path} is not in the repository"
        git("rm", "-rq", "--", path, cwd=tmp_path)
    return tmp_path


def test_the_table_is_read() -> None:
    assert "benchmarks" in PARTS
    assert len(PARTS) >= 4


@pytest.mark.timeout(300)
def test_the_rest_holds_together(without: pathlib.Path) -> None:
    commands = [
        ["mypy", "--cache-dir", str(ROOT / "tests/.mypy_cache")],
        ["pytest", "--collect-only", "--quiet"],
        ["pytest", "--quiet", "repo/test_errors.py"],
    ]
    for command in commands:
        result = subprocess.run(
            [sys.executable, "-m", *command], cwd=without / "tests", capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{' '.join(command)}:\n{result.stdout}{result.stderr}"
