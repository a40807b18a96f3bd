"""Programs that some tests drive, and that not every machine has."""

import os
import shutil

import pytest


def need(program: str, untested: str) -> None:
    """Fail in CI where a program is missing; elsewhere skip loudly, saying what is not tested."""
    if shutil.which(program) is None:
        if "CI" in os.environ:
            pytest.fail(f"{program} is missing, and in CI it must be there")
        pytest.skip(f"LOUD: {program} is missing: {untested} NOT tested")
