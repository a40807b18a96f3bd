"""The rule by which prompts are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych_research.decoder.chunks import CHUNK_STEP, MAX_CHUNK_TOKENS, MIN_CHUNK_TOKENS, chunk_plan

CHUNK_TOKENS = st.sampled_from(range(MIN_CHUNK_TOKENS, MAX_CHUNK_TOKENS + 1, CHUNK_STEP))


@given(st.integers(1, 9000), CHUNK_TOKENS)
def test_chunks_cover_the_prompt_and_only_a_prompt_of_one_token_has_a_chunk_of_one(prompt: int, size: int) -> None:
    plan = chunk_plan(prompt, size)
    assert sum(plan) == prompt
    assert all(2 <= chunk <= size for chunk in plan) or plan == [1] == [prompt]
    assert not any(chunk % CHUNK_STEP for chunk in plan[:-1])


@given(st.integers(1, 9000), CHUNK_TOKENS)
def test_all_chunks_but_the_last_two_are_full(prompt: int, size: int) -> None:
    # So that two prompts with the same beginning are cut alike there.
    assert set(chunk_plan(prompt, size)[:-2]) <= {size}


@pytest.mark.parametrize(
    ("prompt", "size", "plan"),
    [
        (1, 64, [1]),
        (64, 64, [64]),
        (65, 64, [60, 5]),
        (66, 64, [64, 2]),
        (129, 64, [64, 60, 5]),
        (9, 8, [4, 5]),
    ],
)
def test_a_tail_of_one_token_takes_a_neighbour(prompt: int, size: int, plan: list[int]) -> None:
    assert chunk_plan(prompt, size) == plan


@pytest.mark.parametrize(
    ("prompt", "size", "complaint"),
    [(0, 64, "prompt_tokens is 0"), (5, 4, "chunk_tokens is 4"), (5, 9, "it must be a multiple of 4 from 8 to 128")],
)
def test_other_numbers_are_refused_by_name_and_limit(prompt: int, size: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        chunk_plan(prompt, size)
