"""`make pictures` draws every panel of every dashboard, and what it drew last is of the dashboards as they are."""

import html
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from dashboards import draw
from repo.tree import ROOT
from stack.prometheus import OBSERVE, prometheus
from stack.redis import redis_server

KEPT = ROOT / "docs/dashboards"


def texts(path: pathlib.Path) -> set[str]:
    """What a picture says."""
    return {html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())}


def titles(name: str) -> set[str]:
    panels = json.loads((OBSERVE / f"grafana/dashboards/{name}.json").read_text())["panels"]
    return {panel["title"] for panel in panels}


@pytest.mark.parametrize("name", list(draw.names()))
def test_kept_pictures_have_every_panel(name: str) -> None:
    assert titles(name) - texts(KEPT / f"{name}.svg") == set(), "make pictures"


def test_all_pictures_are_of_dashboards() -> None:
    assert {path.stem for path in KEPT.iterdir()} == set(draw.names())


@pytest.mark.timeout(300)
def test_they_are_drawn(tmp_path: pathlib.Path) -> None:
    if prometheus() is None or redis_server() is None:
        assert "CI" not in os.environ, "there is no prometheus, or no redis-server"
        pytest.skip("LOUD: there is no prometheus, or no redis-server: that dashboards are drawn is NOT tested")
    command = [sys.executable, "-m", "dashboards", "--quick", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT / "tests", check=True, stdin=subprocess.DEVNULL)
    for name in draw.names():
        said = texts(tmp_path / f"{name}.svg")
        assert titles(name) <= said
        assert {"a", "f"} <= said, "what happened"
    assert any("/v1/embeddings" in text for text in texts(tmp_path / "service.svg"))
