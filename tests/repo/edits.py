"""Edits that a document tells the reader to make, made by a program: what a document says is what is tested.

A file's path stands in bold on a line of its own: **`path`** before a block in `diff`, **`path`**, new: before one with
the whole file. In a diff, lines that begin with a space or "-" must stand in the file once, one after the other; they
become those that begin with a space or "+". A line "@@" begins another place in the same file. Files and folders that
go away are the lines of a block in `text` after **delete**.
"""

import argparse
import pathlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from repo.tree import ROOT

BLOCK = re.compile(
    r"^\*\*(?:`(?P<path>[^`\n]+)`|delete)\*\*(?P<new>, new)?:?\n\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)
HUNK_BORDER = re.compile(r"^@@\n", re.M)


class EditError(Exception):
    """A place that an edit names is not there, or there twice."""


@dataclass(frozen=True)
class Edit:
    """One block of a document. Without a path it names what is deleted."""

    path: str | None
    is_new: bool
    text: str

    def apply(self, root: pathlib.Path) -> None:
        """Make the edit below a folder, or raise EditError."""
        if self.path is None:
            for line in self.text.splitlines():
                delete(root, line)
        elif self.is_new:
            if (root / self.path).exists():
                raise EditError(f"{self.path} is there already")
            (root / self.path).parent.mkdir(parents=True, exist_ok=True)
            (root / self.path).write_text(self.text)
        else:
            text = (root / self.path).read_text()
            for hunk in HUNK_BORDER.split(self.text):
                text = changed(text, hunk, self.path)
            (root / self.path).write_text(text)


def changed(text: str, hunk: str, path: str) -> str:
    """A file's text after the change at one place."""
    lines = [line or " " for line in hunk.splitlines()]  # editors strip the space of an empty line
    before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
    after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
    starts = [match.start() for match in re.finditer(f"^{re.escape(before)}", text, re.M)]
    if len(starts) != 1:
        raise EditError(f"{path} has this {len(starts)} times, not once:\n{before}")
    return text[: starts[0]] + after + text[starts[0] + len(before) :]


def delete(root: pathlib.Path, pattern: str) -> None:
    """Delete files and folders; a pattern that matches none is a mistake."""
    found = sorted(root.glob(pattern))
    if not found:
        raise EditError(f"there is no {pattern}")
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def edits(document: str) -> Iterator[Edit]:
    """The edits of a document, or of a part of it, in their order."""
    for block in BLOCK.finditer(document):
        yield Edit(block["path"], bool(block["new"]), block["text"])


def section(document: str, heading: str) -> str:
    """The part of a document below a heading of the second level."""
    return document.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def main() -> None:
    parser = argparse.ArgumentParser(prog="repo.edits", description="Make the edits that a document tells to make.")
    parser.add_argument("document", type=pathlib.Path)
    parser.add_argument("section", nargs="?", help="a heading of the second level; without it all of the document")
    arguments = parser.parse_args()
    text = arguments.document.read_text()
    for edit in edits(section(text, arguments.section) if arguments.section else text):
        edit.apply(ROOT)


if __name__ == "__main__":
    main()
