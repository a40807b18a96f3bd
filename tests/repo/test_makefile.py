"""`make help` shows everything that is meant to be typed."""

import re
import subprocess

from repo.tree import ROOT

TEXT = (ROOT / "Makefile").read_text()
PHONY = {name for line in re.findall(r"^\.PHONY:(.*)$", TEXT, re.M) for name in line.split()}
DESCRIBED = [(name, about) for name, about in re.findall(r"^([^\s:#]+):[^=\n]*## (.+)$", TEXT, re.M) if name in PHONY]


def test_every_target_with_a_description_is_in_the_help() -> None:
    result = subprocess.run(["make", "--silent", "help"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert ("e2e", "The end-to-end tests alone (STACK=native|compose|url)") in DESCRIBED
    assert [line.split(maxsplit=2) for line in result.stdout.splitlines()] == [
        ["make", name, about] for name, about in DESCRIBED
    ]
