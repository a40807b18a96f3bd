"""The one entry point: its help, and what it makes of the place where it runs."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

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


def test_a_path_with_a_space_is_refused_in_one_sentence(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "my projects"
    folder.mkdir()
    shutil.copy(ROOT / "Makefile", folder)
    result = subprocess.run(["make", "help"], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 2
    assert f'The path "{folder}" has a space' in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "127.0.0.1,localhost,::1"),
        ({"NO_PROXY": "example.com"}, "example.com,127.0.0.1,localhost,::1"),
        ({"no_proxy": "example.com,*.example.org"}, "example.com,*.example.org,127.0.0.1,localhost,::1"),
    ],
)
def test_this_machine_is_never_asked_through_a_proxy(given: dict[str, str], expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"} | given
    shown = ["make", "--silent", "--eval", "shown: ; @echo $$NO_PROXY $$no_proxy", "shown"]
    result = subprocess.run(shown, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    assert result.stdout.split() == [expected, expected]
