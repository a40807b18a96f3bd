"""Make the repository yours: `make rename NAME=acme GO_MODULE=example.com/acme`.

Replaces the project's name everywhere (contents and paths, in its three spellings), the Go module's path, and the
domain of error details by GO_MODULE's host; then lets the formatters and the stub generator follow. Works on what git
tracks, in a clean work tree, so that `git diff` shows all of it and `git checkout` undoes it.
"""

import argparse
import importlib.util
import keyword
import pathlib
import re
import subprocess
import sys

from repo.tree import ROOT, git, has_history, text_of, tracked_files

OLD = "triptych"
NOTICE = pathlib.Path("NOTICE")

# A proto package becomes a Rust module and a Go package; Python's keywords come from its own list.
RUST_AND_GO_KEYWORDS = set(
    "as async await box break case chan const continue crate default defer do dyn else enum extern fallthrough false "
    "fn for func go goto gen if impl import in interface let loop macro map match mod move mut package priv pub range "
    "ref return self select static struct super switch trait true try type typeof unsafe unsized use var virtual "
    "where while yield abstract become final override".split()
)


def check_name(name: str) -> str:
    """A name that is good for a proto package, a Python package, a Rust module and a container image."""
    if not re.fullmatch(r"[a-z][a-z0-9]{1,31}", name):
        raise argparse.ArgumentTypeError("2 to 32 of a-z and 0-9, beginning with a letter")
    if keyword.iskeyword(name) or name in RUST_AND_GO_KEYWORDS:
        raise argparse.ArgumentTypeError("a keyword of Python, Go or Rust")
    if name != OLD and importlib.util.find_spec(name):
        raise argparse.ArgumentTypeError(
            "a Python package of this name is installed, and would hide yours or be hidden"
        )
    return name


def check_module(module: str) -> str:
    """A Go module path with a host, as in example.com/acme."""
    if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+(/[\w.~-]+)+", module):
        raise argparse.ArgumentTypeError("a host and a path, as in example.com/acme")
    return module


def go_module(root: pathlib.Path) -> str:
    """The module path that go.mod states."""
    match = re.search(r"^module (\S+)$", (root / "go-gateway/go.mod").read_text(), re.M)
    assert match, "go.mod states its module"
    return match[1]


def replacements(name: str, module: str, old_module: str) -> list[tuple[str, str]]:
    """What becomes what, in this order: the longer before what it contains."""
    return [
        (old_module, module),
        (old_module.split("/")[0], module.split("/")[0]),
        (OLD, name),
        (OLD.capitalize(), name.capitalize()),
        (OLD.upper(), name.upper()),
    ]


def keep_attribution(root: pathlib.Path, name: str) -> None:
    """Says on top of NOTICE whose work this is, and below on whose it is based: the license asks for that."""
    notice = root / NOTICE
    notice.write_text(f"{name.capitalize()}\n\nBased on {notice.read_text()}")


def rename_contents(root: pathlib.Path, pairs: list[tuple[str, str]]) -> None:
    for path in tracked_files(root):
        if path == NOTICE:
            continue
        text = text_of(path, root)
        if text is None:
            continue
        renamed = text
        for old, new in pairs:
            renamed = renamed.replace(old, new)
        if renamed != text:
            (root / path).write_text(renamed)


def rename_paths(root: pathlib.Path, name: str) -> None:
    for path in tracked_files(root):
        renamed = pathlib.Path(*(part.replace(OLD, name) for part in path.parts))
        if renamed != path:
            (root / renamed).parent.mkdir(parents=True, exist_ok=True)
            (root / path).rename(root / renamed)
            for folder in path.parents:
                if folder.name and not any((root / folder).iterdir()):
                    (root / folder).rmdir()


def follow_up(root: pathlib.Path) -> None:
    """What depends on names: import order, generated stubs."""
    commands: list[tuple[list[str], str]] = [
        (["gofmt", "-w", "."], "go-gateway"),
        (["cargo", "fmt"], "rust-hotpath"),
        *(
            ([sys.executable, "-m", "ruff", *step, "."], folder)
            for folder in ("python-research", "tests")
            for step in RUFF
        ),
        ([sys.executable, "proto/generate.py"], "."),
    ]
    for command, folder in commands:
        subprocess.run(command, cwd=root / folder, check=True, stdout=subprocess.DEVNULL)


RUFF = (["check", "--quiet", "--select=I", "--fix"], ["format", "--quiet"])


def main(root: pathlib.Path = ROOT) -> None:
    parser = argparse.ArgumentParser(prog="make rename", description=__doc__)
    parser.add_argument("name", metavar="NAME", type=check_name)
    parser.add_argument("module", metavar="GO_MODULE", type=check_module)
    arguments = parser.parse_args()
    if not has_history(root):
        sys.exit(
            "rename: there is no history here, so nothing could be undone; first: "
            "git init && git add --all && git commit --message 'as downloaded'"
        )
    if git("status", "--porcelain", cwd=root):
        sys.exit(
            "rename: the work tree has changes that are not committed; commit them first, so that you can look back"
        )
    pairs = replacements(arguments.name, arguments.module, go_module(root))
    keep_attribution(root, arguments.name)
    rename_contents(root, pairs)
    rename_paths(root, arguments.name)
    follow_up(root)
    print(f"Now it is {arguments.name}. Look at it with `git status`, try it with `make clean test`, and commit it.")


if __name__ == "__main__":
    main()
