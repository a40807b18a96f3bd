"""Gates of `make lint` that need more than a command: `python -m repo.gates breaking | drift`."""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

from repo.tree import ROOT, git, has_history

BUF = ROOT / ".venv/bin/buf"
GENERATED = [
    "python-research/src/triptych",
    "go-gateway/internal/pb",
    "deploy/observe/grafana/dashboards",
    "docs/config.md",
]
MAIN_BRANCHES = ("origin/main", "main")


def breaking() -> None:
    """Refuse a change of the protos that breaks those who use them: compared with main, and on main with its parent."""
    if not has_history():
        print("breaking: SKIPPED: there is no history to compare with")
        return
    base = base_commit()
    if base is None or not git("ls-tree", base, "proto"):
        print("breaking: no earlier protos to compare with")
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", base, "proto"], cwd=ROOT, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=archive, check=True)
        result = subprocess.run([BUF, "breaking", "proto", "--against", f"{folder}/proto"], cwd=ROOT, check=False)
    if result.returncode:
        sys.exit(f"breaking: see above; compared with {base[:12]}")


def base_commit() -> str | None:
    """Where this work began: the last commit that it shares with main, or, on main itself, the commit before it."""
    head = git("rev-parse", "HEAD").strip()
    for branch in MAIN_BRANCHES:
        found = subprocess.run(
            ["git", "merge-base", "HEAD", branch], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if found.returncode == 0 and found.stdout.strip() != head:
            return found.stdout.strip()
    parents = git("rev-list", "--parents", "--max-count=1", "HEAD").split()[1:]
    return parents[0] if parents else None


def drift() -> None:
    """Refuse generated files that are not what their sources generate, or that git does not know."""
    before = contents()
    subprocess.run(["make", "--no-print-directory", "generate"], cwd=ROOT, check=True)
    after = contents()
    changed = sorted(str(path) for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    untracked = uncommitted = list[str]()
    if has_history():
        untracked = git("ls-files", "--others", "--exclude-standard", "--", *GENERATED).splitlines()
        uncommitted = git("status", "--porcelain", "--", *GENERATED).splitlines() if "CI" in os.environ else []
    if changed or untracked or uncommitted:
        sys.exit(
            "drift: `make generate` changed these, or git does not know them: look at them and commit them\n  "
            + "\n  ".join([*changed, *untracked, *uncommitted])
        )


def contents() -> dict[pathlib.Path, bytes]:
    """The generated files as they are."""
    places = [ROOT / name for name in GENERATED]
    files = [path for place in places for path in ([place] if place.is_file() else place.rglob("*"))]
    return {path.relative_to(ROOT): path.read_bytes() for path in files if path.is_file() and path.suffix != ".pyc"}


if __name__ == "__main__":
    gates = {"breaking": breaking, "drift": drift}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gate", choices=gates)
    gates[parser.parse_args().gate]()
