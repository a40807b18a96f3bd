"""The repository's tracked files, as git sees them."""

import pathlib
import shutil
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


def copy_tree(target: pathlib.Path) -> None:
    """Copy the tracked files into an empty folder and commit them there."""
    for path in tracked_files():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, target / path)
    git("init", "--quiet", cwd=target)
    commit_all(target, "copied")


def commit_all(root: pathlib.Path, message: str) -> None:
    """Commit everything in a copy."""
    git("add", "--all", cwd=root)
    git("-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "-m", message, cwd=root)
