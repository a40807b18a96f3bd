"""The README's first screen."""

from repo.tree import ROOT

README = (ROOT / "README.md").read_text()
FIRST_SCREEN = 80  # lines: what it is, for whom, the parts, the numbers, the two commands
SEARCHED = ("continuous batching", "KV cache", "batch invariance", "OpenAI", "ONNX Runtime", "multi-tenant")


def test_the_two_commands_are_on_the_first_screen() -> None:
    assert "make demo " in "\n".join(README.splitlines()[:FIRST_SCREEN])


def test_it_has_the_words_that_people_search_for() -> None:
    assert [words for words in SEARCHED if words not in README] == []
