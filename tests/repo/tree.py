"""The repository's tracked files, as git sees them."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def git(*arguments: str, cwd: pathlib.Path = ROOT) -> str:
    """Run git and return what it prints."""
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def tracked_files(root: pathlib.Path = ROOT) -> list[pathlib.Path]:
    """Tracked files that exist, relative to the root."""
    names = git("ls-files", "-z", cwd=root).split("\0")
    return [pathlib.Path(name) for name in names if name and (root / name).is_file()]


def text_of(path: pathlib.Path, root: pathlib.Path = ROOT) -> str | None:
    """A tracked file's text, or None for a file that is not text."""
    try:
        return (root / path).read_text()
    except UnicodeDecodeError:
        return None
