"""The README's first screen: what it promises is said elsewhere too, where it is measured or tested."""

import re

from repo.tree import ROOT

README = (ROOT / "README.md").read_text()
PAGES = "".join((ROOT / "docs" / name).read_text() for name in ("benchmarks.md", "benchmarks-generation.md"))
FIRST_SCREEN = 80  # lines: what it is, for whom, the parts, the numbers, the two commands
SEARCHED = ("continuous batching", "KV cache", "batch invariance", "OpenAI", "ONNX Runtime", "multi-tenant")


def test_its_figures_stand_in_the_pages_of_the_benchmarks() -> None:
    table = README.split("| measured |", 1)[1].split("\n\n", 1)[0]
    figures = re.findall(r"\*\*([^*]+)\*\*", table)
    assert len(figures) >= 3
    assert [figure for figure in figures if f"**{figure}**" not in PAGES] == []


def test_the_two_commands_are_on_the_first_screen() -> None:
    assert "make demo " in "\n".join(README.splitlines()[:FIRST_SCREEN])


def test_it_has_the_words_that_people_search_for() -> None:
    assert [words for words in SEARCHED if words not in README] == []
