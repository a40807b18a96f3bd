"""Queries for Prometheus, looked at by its own tool."""

import json
import os
import pathlib
import shutil
import subprocess
from collections.abc import Sequence

import pytest


def check_queries(queries: Sequence[str], folder: pathlib.Path) -> None:
    """Fail where one of them is none; skip loudly where nothing is there to tell."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert "CI" not in os.environ, "there is no promtool"
        pytest.skip("LOUD: there is no promtool: the adapter's queries are NOT tested")
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    path = folder / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))
    subprocess.run([promtool, "check", "rules", str(path)], check=True)
