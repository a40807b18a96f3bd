"""The repository's files, as git sees them; and copies of them."""

import pathlib
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def git(*arguments: str, cwd: pathlib.Path = ROOT) -> str:
    """Run git and return what it prints."""
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def has_history(root: pathlib.Path = ROOT) -> bool:
    """Whether it is a clone. An archive that was downloaded is none, wherever it was unpacked."""
    return (root / ".git").exists()  # a file in a work tree


def tracked_files(root: pathlib.Path = ROOT) -> list[pathlib.Path]:
    """Tracked files that exist, relative to the root; without a history, those that git would track."""
    if has_history(root):
        names = git("ls-files", "-z", cwd=root)
    else:
        with tempfile.TemporaryDirectory() as folder:
            git("init", "--quiet", "--bare", folder)
            repository = (f"--git-dir={folder}", "--work-tree=.")
            names = git(*repository, "ls-files", "-z", "--others", "--exclude-standard", cwd=root)
    return sorted(pathlib.Path(name) for name in names.split("\0") if name and (root / name).is_file())


def text_of(path: pathlib.Path, root: pathlib.Path = ROOT) -> str | None:
    """A tracked file's text, or None for a file that is not text."""
    try:
        return (root / path).read_text()
    except UnicodeDecodeError:
        return None


def copy_files(target: pathlib.Path) -> None:
    """Copy the tracked files with the times of their last changes: what was built of them is good for the copy too."""
    for path in tracked_files():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, target / path)


def copy_tree(target: pathlib.Path) -> None:
    """Copy the tracked files into an empty folder and commit them there."""
    copy_files(target)
    git("init", "--quiet", cwd=target)
    commit_all(target, "copied")


def commit_all(root: pathlib.Path, message: str) -> None:
    """Commit everything in a copy."""
    git("add", "--all", cwd=root)
    git("-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "-m", message, cwd=root)
