"""What both programs promise at their command line."""

import pathlib
import subprocess

import pytest

from stack.native import GATEWAY, HOTPATH

USAGE = 64
PROGRAMS = pytest.mark.parametrize("program", [GATEWAY, HOTPATH], ids=lambda path: path.name)
pytestmark = pytest.mark.usefixtures("native_only")


def run(program: pathlib.Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(program), *arguments], env=env, capture_output=True, text=True, check=False, timeout=60)


@PROGRAMS
def test_all_faults_of_the_settings_are_told_together(program: pathlib.Path) -> None:
    result = run(program, "serve", "--check-config", "--metrics-address=nowhere", "--log-level=loud")
    assert result.returncode == USAGE
    assert "metrics-address" in result.stderr
    assert "log-level" in result.stderr


@PROGRAMS
def test_unknown_flags_are_refused(program: pathlib.Path) -> None:
    assert run(program, "serve", "--check-config", "--no-such-flag=1").returncode == USAGE


@PROGRAMS
def test_healthcheck_without_a_server_fails(program: pathlib.Path) -> None:
    assert run(program, "healthcheck").returncode not in (0, USAGE)
