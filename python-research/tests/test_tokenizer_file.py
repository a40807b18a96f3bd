"""A tokenizer.json that would take all memory, all time or the process is refused, and where it is, by name."""

import json
from typing import Any

import pytest

from triptych_research import tokenizer_file
from triptych_research.json_fields import CheckpointError


def written(**parts: Any) -> bytes:
    """A tokenizer of one word, with other parts."""
    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    keys = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    return json.dumps({"version": "1.0", "added_tokens": [], **dict.fromkeys(keys), "model": model, **parts}).encode()


def doubling(times: int) -> dict[str, Any]:
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    return {"type": "Sequence", "normalizers": [double] * times}


def splitting(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


@pytest.mark.usefixtures("impatient")
def test_a_normaliser_that_doubles_without_end_is_ended_and_refused() -> None:
    assert tokenizer_file.load(written(normalizer=doubling(4)), "tokenizer.json").get_vocab_size() == 1
    with pytest.raises(CheckpointError, match=r"^tokenizer\.json: (needs more than|takes more than)"):
        tokenizer_file.load(written(normalizer=doubling(40)), "tokenizer.json")


def nested(depth: int) -> bytes:
    sequence: dict[str, Any] = splitting("a")
    for _ in range(depth):
        sequence = {"type": "Sequence", "pretokenizers": [sequence]}
    return written(pre_tokenizer=sequence)


@pytest.mark.parametrize(
    ("within", "beyond", "complaint"),
    [
        (
            written(pre_tokenizer=splitting(r"\s?[a-z]+|\d")),
            written(pre_tokenizer=splitting("(a+)+$")),
            "retry-limit-in-match over",
        ),
        (nested(2), nested(200), "recursion limit exceeded"),
        (
            written(),
            written(normalizer={"type": "Precompiled", "precompiled_charsmap": "/" * 64}),  # six set bits each
            "needs more than|Cannot parse precompiled_charsmap",
        ),
        (written(), b"\xff\xfe", "can't decode byte 0xff"),
        (written(), b"{}", "Model missing"),
    ],
    ids=["pattern", "depth", "character map", "encoding", "form"],
)
def test_what_is_within_the_bounds_is_loaded_and_what_is_not_is_refused(
    within: bytes, beyond: bytes, complaint: str
) -> None:
    assert tokenizer_file.load(within, "tokenizer.json").get_vocab_size() > 0
    with pytest.raises(CheckpointError, match=rf"^tokenizer\.json: .*({complaint})"):
        tokenizer_file.load(beyond, "tokenizer.json")
