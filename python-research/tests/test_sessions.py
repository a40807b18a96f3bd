"""How sessions are opened."""

from conftest import ROOT


def test_no_session_is_opened_in_another_way() -> None:
    sources = [path for part in ("python-research/src", "tests") for path in (ROOT / part).rglob("*.py")]
    assert [path.name for path in sources if "InferenceSession(" in path.read_text()] == ["sessions.py"]
