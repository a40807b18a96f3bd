"""What docs/make-it-yours.md says can be deleted, can."""

import pathlib
import re
import subprocess
import sys
from dataclasses import dataclass

import pytest

from repo.documents import dead_links
from repo.tree import ROOT, copy_tree, git

ROW = re.compile(r"^\| ([\w ]+) \| ((?:`[\w./-]+` ?)+) \| ([^|]+) \|", re.M)

README = re.compile(r"\bREADME\b(?!\.md)")  # the root's, by its short name


@dataclass(frozen=True)
class Part:
    """A row of the table: what to delete, and the documents that still mention it then."""

    paths: list[str]
    mentions: set[str]


PARTS = {
    name: Part(re.findall(r"`([^`]+)`", paths), set(re.findall(r"[\w./-]+\.md", README.sub("README.md", mentions))))
    for name, paths, mentions in ROW.findall((ROOT / "docs/make-it-yours.md").read_text())
}


@pytest.fixture(params=PARTS)
def part(request: pytest.FixtureRequest) -> Part:
    return PARTS[request.param]


@pytest.fixture
def without(part: Part, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy of the tracked tree without one part."""
    copy_tree(tmp_path)
    for path in part.paths:
        assert git("ls-files", "--", path, cwd=tmp_path), f"{path} is not in the repository"
        git("rm", "-rq", "--", path, cwd=tmp_path)
    return tmp_path


def test_the_table_is_read() -> None:
    assert "benchmarks" in PARTS
    assert len(PARTS) >= 4


def test_every_link_into_a_part_is_a_mention_to_mend(part: Part, without: pathlib.Path) -> None:
    assert {document for document, _ in dead_links(without)} <= part.mentions


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
