"""Links in documents, and their shell blocks: found, checked for a marker, and run with their expected output.

A block is marked by an HTML comment on the line before it (README.md in this folder's parent explains the convention).
"""

import pathlib
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from repo.tree import tracked_files

SHELL_LANGUAGES = {"console", "sh", "shell", "bash"}
KINDS = {"run", "stack", "make"}
BLOCK = re.compile(r"(?:^<!-- (?P<kind>\w+) -->\n)?^```(?P<language>[\w-]*)\n(?P<text>.*?)^```$", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
BLOCK_LIMIT_S = 120


def dead_links(root: pathlib.Path) -> list[tuple[str, str]]:
    """The document and the target of each link between tracked files that leads nowhere, or to no heading there."""
    links = [
        (path, target)
        for path in tracked_files(root)
        if path.suffix == ".md"
        for target in LINK.findall((root / path).read_text())
        if "://" not in target
    ]
    return [(str(path), target) for path, target in links if _is_dead(root / path, target)]


def _is_dead(document: pathlib.Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = document.parent / name if name else document
    if not path.exists():
        return True
    return bool(anchor) and path.suffix == ".md" and anchor not in anchors(path.read_text())


def anchors(text: str) -> set[str]:
    """What links to a document's headings are called, as GitHub makes them: the second of a name is "name-1"."""
    found: Counter[str] = Counter()
    result = set()
    for heading in HEADING.findall(BLOCK.sub("", text)):
        words = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        result.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return result


@dataclass(frozen=True)
class Step:
    """One command and what it should print; `expected` is empty where nothing is promised."""

    command: str
    expected: str


@dataclass(frozen=True)
class Block:
    """One marked shell block."""

    where: str  # file:line
    kind: str | None
    language: str
    text: str

    def steps(self) -> list[Step]:
        """Lines that begin with "$ " are commands ("> " continues one); those after them are their output."""
        if self.language != "console":
            return [Step(self.text, "")]
        steps: list[Step] = []
        for line in self.text.splitlines():
            if line.startswith("$ "):
                steps.append(Step(line[2:], ""))
            elif line.startswith("> ") and steps and not steps[-1].expected:
                steps[-1] = Step(f"{steps[-1].command}\n{line[2:]}", "")
            elif steps:
                steps[-1] = Step(steps[-1].command, f"{steps[-1].expected}{line}\n")
            else:
                raise ValueError(f"{self.where}: output before the first command")
        return steps


def blocks(path: pathlib.Path, root: pathlib.Path) -> Iterator[Block]:
    """The shell blocks of one document."""
    text = path.read_text()
    for match in BLOCK.finditer(text):
        if match["language"] in SHELL_LANGUAGES:
            line = text.count("\n", 0, match.start("language")) + 1
            yield Block(f"{path.relative_to(root)}:{line}", match["kind"], match["language"], match["text"])


def matches(expected: str, actual: str) -> bool:
    """Whether the output is as promised: "..." stands for anything, also for several lines; spaces at ends are free."""
    pieces = [
        re.escape(piece) for piece in "\n".join(line.rstrip() for line in expected.strip().splitlines()).split("...")
    ]
    return (
        re.fullmatch(".*".join(pieces), "\n".join(line.rstrip() for line in actual.strip().splitlines()), re.S)
        is not None
    )


def run(block: Block, cwd: pathlib.Path, env: Mapping[str, str], replace: Mapping[str, str]) -> list[tuple[Step, str]]:
    """Run a block's commands in one shell; return what each printed. A status other than 0 is an AssertionError.

    `replace` puts the addresses of a stack that runs for the test in the place of the documented ones.
    """
    end_of_step = "\x1e"  # "record separator": no command prints it
    steps = block.steps()
    script = "".join(f"{step.command}\nprintf '\\036'\n" for step in steps)
    for documented, actual in replace.items():
        script = script.replace(documented, actual)
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=cwd,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BLOCK_LIMIT_S,
        check=False,
    )
    assert result.returncode == 0, f"{block.where} ended with {result.returncode}:\n{result.stdout}"
    return list(zip(steps, result.stdout.split(end_of_step), strict=False))
