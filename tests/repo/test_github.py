"""What GitHub is told: it says nothing that make does not do."""

import re
from typing import Any

import pytest
import yaml

from repo.tree import ROOT, tracked_files

WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
STEPS = [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.M))
# What an ecosystem's lock is called, by what dependabot calls the ecosystem.
LOCKS = {
    "gomod": "go.sum",
    "cargo": "Cargo.lock",
    "pip": "requirements.txt",
    "npm": "package-lock.json",
    "docker": "gateway.Dockerfile",
}


@pytest.mark.parametrize("command", sorted({step["run"] for step in STEPS if "run" in step}))
def test_steps_are_targets_of_make(command: str) -> None:
    if not command.startswith("sudo apt-get "):
        assert re.fullmatch(r"make ([a-z0-9-]+)( [A-Z_]+=\w+)*", command)
        assert command.split()[1] in TARGETS


@pytest.mark.parametrize("action", sorted({step["uses"] for step in STEPS if "uses" in step}))
def test_actions_are_githubs_own_and_pinned(action: str) -> None:
    assert re.fullmatch(r"actions/[\w-]+@v\d+", action)


def test_jobs_have_a_limit_and_may_only_read() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 120 for job in WORKFLOW["jobs"].values())


def test_every_lock_is_looked_after() -> None:
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    watched = {(update["package-ecosystem"], update["directory"]) for update in updates}
    for ecosystem, lock in LOCKS.items():
        for path in tracked_files():
            if path.name == lock:
                assert (ecosystem, f"/{path.parent}") in watched
    assert ("github-actions", "/") in watched


def test_hooks_are_targets_of_make() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    for hook in local["hooks"]:
        assert hook["entry"].removeprefix("make ") in TARGETS
