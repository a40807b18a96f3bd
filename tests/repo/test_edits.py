"""The edits of documents: that they are made as written, and that they still fit the files."""

import os
import pathlib
import subprocess
import sys

import pytest

from repo.edits import Edit, EditError, edits, section
from repo.tree import ROOT, copy_files

ADD_AN_ENDPOINT = (ROOT / "docs/add-an-endpoint.md").read_text()


def edit(text: str) -> Edit:
    return Edit("file", False, text)


class TestEdits:
    """What the runner makes of a block: a check that cannot fail is none."""

    @pytest.fixture
    def root(self, tmp_path: pathlib.Path) -> pathlib.Path:
        (tmp_path / "file").write_text("a\n\nb\nc\nb\nd\n")
        return tmp_path

    @pytest.mark.parametrize(
        ("diff", "after"),
        [
            ("-a\n+A\n", "A\n\nb\nc\nb\nd\n"),
            (" c\n+between\n b\n", "a\n\nb\nc\nbetween\nb\nd\n"),
            (" a\n\n-b\n", "a\n\nc\nb\nd\n"),
            ("-a\n@@\n-d\n+D\n", "\nb\nc\nb\nD\n"),
        ],
    )
    def test_lines_become_others(self, root: pathlib.Path, diff: str, after: str) -> None:
        edit(diff).apply(root)
        assert (root / "file").read_text() == after

    @pytest.mark.parametrize(("diff", "times"), [("-b\n", 2), ("-e\n", 0), ("-a\n-b\n", 0)])
    def test_a_place_must_be_there_once(self, root: pathlib.Path, diff: str, times: int) -> None:
        with pytest.raises(EditError, match=f"file has this {times} times"):
            edit(diff).apply(root)

    def test_files_come_and_go(self, root: pathlib.Path) -> None:
        Edit("folder/new", True, "text\n").apply(root)
        with pytest.raises(EditError, match="there already"):
            Edit("folder/new", True, "text\n").apply(root)
        Edit(None, False, "folder\nfi*\n").apply(root)
        assert list(root.iterdir()) == []
        with pytest.raises(EditError, match="there is no fi"):
            Edit(None, False, "fi*\n").apply(root)

    def test_blocks_are_found(self) -> None:
        document = (
            "\n## One\n\n**`a/b`**\n\n```diff\n-a\n```\n\n**`c`**, new:\n\n```go\nx\n```\n\n```go\nno edit\n```\n"
            "\n## Two\n\n**delete**\n\n```text\na\n```\n"
        )
        assert list(edits(document)) == [
            Edit("a/b", False, "-a\n"),
            Edit("c", True, "x\n"),
            Edit(None, False, "a\n"),
        ]
        assert len(list(edits(section(document, "Two")))) == 1


@pytest.fixture(scope="module")
def with_endpoint(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A copy in which docs/add-an-endpoint.md was followed."""
    root = tmp_path_factory.mktemp("endpoint")
    copy_files(root)
    for each in edits(ADD_AN_ENDPOINT):
        each.apply(root)
    return root


def test_every_block_of_code_is_an_edit() -> None:
    assert ADD_AN_ENDPOINT.count("\n```\n") == len(list(edits(ADD_AN_ENDPOINT))) + ADD_AN_ENDPOINT.count("```text\n")


WELL_FORMED = {
    "protos": "$BIN/buf lint proto && $BIN/buf format --diff --exit-code proto",
    "python": "cd tests && $BIN/ruff check . && $BIN/ruff format --check .",
    "go": 'cd go-gateway && test -z "$(gofmt -l . | tee /dev/stderr)"',
    "rust": "cd rust-hotpath && cargo fmt --check",
}


@pytest.mark.parametrize("language", WELL_FORMED)
def test_what_it_makes_is_well_formed(with_endpoint: pathlib.Path, language: str) -> None:
    """That it builds and works is what tests/walkthroughs holds."""
    environment = {**os.environ, "BIN": str(pathlib.Path(sys.executable).parent)}
    command = ["bash", "-euo", "pipefail", "-c", WELL_FORMED[language]]
    result = subprocess.run(command, cwd=with_endpoint, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
