"""A downloaded archive is no clone: it has no history. What needs one says so; all else works as in a clone."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from repo.tree import ROOT, copy_files, git, tracked_files


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The tracked files, and what `make` puts beside them."""
    root = tmp_path_factory.mktemp("archive")
    copy_files(root)
    (root / ".venv").mkdir()
    (root / ".venv/made").touch()
    return root


def run(archive: pathlib.Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f".:{archive / 'python-research/src'}"}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=archive / "tests",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_its_files_are_those_that_git_would_track(archive: pathlib.Path) -> None:
    assert tracked_files(archive) == tracked_files()


def test_one_that_is_unpacked_within_another_clone_is_still_none(tmp_path: pathlib.Path) -> None:
    git("init", "--quiet", cwd=tmp_path)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner/file").touch()
    assert tracked_files(tmp_path / "inner") == [pathlib.Path("file")]


@pytest.mark.timeout(300)
def test_the_repository_s_own_tests_pass(archive: pathlib.Path) -> None:
    files = [f"repo/test_{name}.py" for name in ("layout", "errors", "make_it_yours", "github")]
    result = run(archive, "pytest", "--quiet", *files, "-k", "not holds_together")  # that one takes minutes
    assert result.returncode == 0, result.stdout


def test_the_gates_of_lint_say_what_they_skip(archive: pathlib.Path) -> None:
    result = run(archive, "repo.gates", "breaking")
    assert (result.returncode, result.stdout) == (0, "breaking: SKIPPED: there is no history to compare with\n")


@pytest.mark.parametrize(("change", "status"), [("true", 0), ("echo >> docs/config.md", 1)])
def test_drift_is_seen(archive: pathlib.Path, change: str, status: int) -> None:
    (archive / "Makefile").write_text(f"generate:\n\t{change}\n")
    result = run(archive, "repo.gates", "drift")
    shutil.copy2(ROOT / "Makefile", archive / "Makefile")
    assert result.returncode == status, result.stdout


def test_it_is_not_renamed_without_a_way_back(archive: pathlib.Path) -> None:
    result = run(archive, "repo.rename", "acme", "example.com/acme")
    assert result.returncode == 1
    assert result.stdout == (
        "rename: there is no history here, so nothing could be undone; first: "
        "git init && git add --all && git commit --message 'as downloaded'\n"
    )
