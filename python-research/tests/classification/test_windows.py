"""Long texts are cut into windows that lose and repeat nothing."""

from hypothesis import given
from hypothesis import strategies as st

from triptych_research.classification.windows import windows

OPENING, CLOSING = 101, 102


@given(content=st.lists(st.integers(200, 999), max_size=400), max_tokens=st.integers(3, 64))
def test_windows_are_few_even_and_whole(content: list[int], max_tokens: int) -> None:
    parts = windows([OPENING, *content, CLOSING], max_tokens)
    assert all(part[0] == OPENING and part[-1] == CLOSING for part in parts)
    assert [token for part in parts for token in part[1:-1]] == content
    lengths = [len(part) for part in parts]
    assert max(lengths) <= max_tokens
    assert max(lengths) - min(lengths) <= 1
    assert len(content) > (len(parts) - 1) * (max_tokens - 2) or len(parts) == 1  # one part less would not do


def test_a_text_that_fits_is_run_as_it_is() -> None:
    assert windows([OPENING, 7, 8, 9, CLOSING], 5) == [[OPENING, 7, 8, 9, CLOSING]]


def test_where_borders_are() -> None:
    content = list(range(200, 210))
    parts = windows([OPENING, *content, CLOSING], 6)
    assert [part[1:-1] for part in parts] == [[200, 201, 202], [203, 204, 205], [206, 207, 208, 209]]


def test_a_text_without_content_is_one_window() -> None:
    assert windows([OPENING, CLOSING], 16) == [[OPENING, CLOSING]]
