"""What README and docs show in a shell is run, and prints what they say."""

import os
import pathlib
import shlex
import subprocess

import pytest

from repo import documents
from repo.tree import ROOT, tracked_files
from stack.description import Stack

BLOCKS = [block for path in tracked_files() if path.suffix == ".md" for block in documents.blocks(ROOT / path, ROOT)]
PATH = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"


@pytest.fixture
def env(tmp_path: pathlib.Path) -> dict[str, str]:
    """What a shell block runs with: the repository's Python, and temporary files that go with the test."""
    return {**os.environ, "PATH": PATH, "TMPDIR": str(tmp_path)}


def of_kind(kind: str) -> list[pytest.param]:  # type: ignore[valid-type]
    return [pytest.param(block, id=block.where) for block in BLOCKS if block.kind == kind]


def check(block: documents.Block, env: dict[str, str], replace: dict[str, str]) -> None:
    for step, printed in documents.run(block, ROOT, env, replace):
        if step.expected:
            assert documents.matches(step.expected, printed), f"{block.where}: $ {step.command}\nprinted:\n{printed}"


def test_every_shell_block_is_marked() -> None:
    assert [block.where for block in BLOCKS if block.kind not in documents.KINDS] == []


def test_blocks_that_need_no_stack(env: dict[str, str]) -> None:
    for block in BLOCKS:
        if block.kind == "run":
            check(block, env, {})


@pytest.mark.parametrize("block", of_kind("stack"))
def test_block_against_a_stack(
    block: documents.Block, stack: Stack, tmp_path: pathlib.Path, env: dict[str, str]
) -> None:
    stack.write(tmp_path / "stack.json")
    replace = {
        ".run/stack.json": str(tmp_path / "stack.json"),
        "http://127.0.0.1:8080": stack.url,
        "http://localhost:8080": stack.url,
        "127.0.0.1:50051": stack.grpc,
        "http://127.0.0.1:9464": stack.metrics_url,
        "http://127.0.0.1:9465": stack.hotpath_metrics_url,
    }
    check(block, env, replace)


@pytest.mark.parametrize("block", of_kind("make"))
def test_make_targets_exist(block: documents.Block) -> None:
    """These are the long ones (demo, test, up); continuous integration runs them for real."""
    for line in "\n".join(step.command for step in block.steps()).splitlines():
        program, *arguments = shlex.split(line, comments=True)
        assert program == "make", line
        subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, check=True, capture_output=True)


def test_links_that_lead_nowhere_are_found(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.md").write_text(
        "# Two: `words_of`, [a link](b.md)\n\n## Same\n\n### Same\n\n```sh\n# a comment\n```\n\n"
        "[1](#two-words_of-a-link) [2](#a-comment) [3](https://example.com/b.md#any) [4](c.md) [5](c.md#same)\n"
    )
    (tmp_path / "b.md").write_text('[1](a.md#same) [2](a.md#same-1) [3](a.md#same-2) [4](a.md "A title") [5](.#any)\n')
    dead = [("a.md", "#a-comment"), ("a.md", "c.md"), ("a.md", "c.md#same"), ("b.md", "a.md#same-2")]
    assert documents.dead_links(tmp_path) == dead


class TestRunner:
    """The runner itself: a check that cannot fail is none."""

    @staticmethod
    def block(text: str, language: str = "console") -> documents.Block:
        return documents.Block("here:1", "run", language, text)

    def test_console_blocks_are_split_into_commands_and_output(self) -> None:
        steps = self.block("$ echo a \\\n>   b\na b\n$ true\n").steps()
        assert steps == [documents.Step("echo a \\\n  b", "a b\n"), documents.Step("true", "")]

    def test_variables_live_through_a_block(self, tmp_path: pathlib.Path, env: dict[str, str]) -> None:
        block = self.block("$ X=1\n$ echo $X\n1\n")
        assert [printed.strip() for _, printed in documents.run(block, tmp_path, env, {})] == ["", "1"]

    def test_a_failing_command_fails(self, tmp_path: pathlib.Path, env: dict[str, str]) -> None:
        with pytest.raises(AssertionError, match="ended with 3"):
            documents.run(self.block("$ exit 3\n"), tmp_path, env, {})

    @pytest.mark.parametrize(
        ("expected", "actual", "same"),
        [
            ("a\nb", "a\nb\n", True),
            ("a ... d", "a b c d", True),
            ("a\n...\nd", "a\nb\nc\nd", True),
            ("a", "a\nb", False),
            ("a ... d", "a b c", False),
        ],
    )
    def test_output_is_compared(self, expected: str, actual: str, same: bool) -> None:
        assert documents.matches(expected, actual) is same

    def test_blocks_are_found_with_their_markers(self, tmp_path: pathlib.Path) -> None:
        (tmp_path / "a.md").write_text(
            "# A\n\n<!-- stack -->\n```sh\nls\n```\n\n```console\n$ ls\n```\n\n```json\n{}\n```\n"
        )
        found = list(documents.blocks(tmp_path / "a.md", tmp_path))
        assert [(block.where, block.kind, block.language) for block in found] == [
            ("a.md:4", "stack", "sh"),
            ("a.md:8", None, "console"),
        ]
