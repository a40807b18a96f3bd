"""A copy of the repository that a document's edits are made in, and what was built of the original."""

import os
import pathlib
import shutil
import subprocess
import sys

from repo.edits import edits
from repo.tree import ROOT, copy_tree

SEEDS = (".fingerprint", "build", "deps")  # of a profile's folder: what cargo goes by, and what it made


class Copy:
    """A folder with the tracked files, in which commands run with this Python and the copy's own packages."""

    def __init__(self, root: pathlib.Path, document: str) -> None:
        """Copy everything and make the edits of a document, or of a part of it."""
        self.root = root
        copy_tree(root)
        (root / "models").symlink_to(ROOT / "models")
        (root / ".venv").symlink_to(sys.prefix)  # where Rust's tests look for ONNX Runtime, and for Python
        for edit in edits(document):
            edit.apply(root)

    def run(self, folder: str, command: str) -> None:
        """Run a line of shell; another status than 0 is an AssertionError with the end of what it printed."""
        environment = {
            **os.environ,
            "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{self.root / 'tests'}:{self.root / 'python-research/src'}",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        result = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.root / folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout[-10_000:]}"

    def take_what_was_built(self, profile: str) -> None:
        """Copy cargo's work of a profile, so that less is built anew. Through links it would write into ours."""
        made, target = (root / "rust-hotpath/target" / profile for root in (ROOT, self.root))
        for name in SEEDS:
            if (made / name).exists():
                shutil.copytree(made / name, target / name, symlinks=True)
