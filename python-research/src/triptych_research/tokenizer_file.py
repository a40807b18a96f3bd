"""A tokenizer.json from outside, loaded only after it has been tried where it can be stopped (`confined`).

Its patterns may be such that a word takes for ever or ends the process, its normaliser may double a text forty times.
"""

import functools
import json

from tokenizers import Tokenizer

from triptych_research import confined, json_fields
from triptych_research.json_fields import CheckpointError
from triptych_research.sources import Source

# What makes patterns try every way there is: a run of each kind of character that ends in another one.
_RUN = 4096
_ENDS = ("", "!", "\n", "a")
_TRIALS = (
    *(
        each * _RUN + end
        for each in ("a", "A", "1", " ", "\n", ".", "é", "字", "\u0301", "👩\u200d", "_")
        for end in _ENDS
    ),
    *(pair * (_RUN // 2) + "!" for pair in ("ab", "aA", "a1", "a ", " a", "a.", "a\n", " \n", "'s")),
    "Grüße, 世界 👩\u200d👩\u200d👧! It's 3.14 or 1,000,000; def f(x):\n\treturn {'a': [x]}  # done\r\n",
    "".join(map(chr, (*range(0x2000), *range(0xFB00, 0xFE00)))),
)


def load(content: bytes, file: str) -> Tokenizer:
    """Return a tokenizer that has been tried. Raises CheckpointError, which names the file."""
    _try(content, file)
    return Tokenizer.from_buffer(content)


def read(source: Source, vocabulary_size: int, lower_case: bool = False) -> bytes:
    """Return the tokenizer.json of a source, without padding and truncation; `lower_case`: that before all else."""
    # Published files often carry the padding and truncation of somebody's training run (all-MiniLM-L6-v2 pads to 128).
    # The packed graph has no padding, and truncation is the service's to decide and to report.
    raw = json_fields.read(source, "tokenizer.json") | {"padding": None, "truncation": None}
    if lower_case:
        before = [] if raw.get("normalizer") is None else [raw["normalizer"]]
        raw["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *before]}
    content = json.dumps(raw, ensure_ascii=False, separators=(",", ":")).encode()
    tokenizer = load(content, "tokenizer.json")
    largest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if largest >= vocabulary_size:
        raise CheckpointError(f"tokenizer.json: token id {largest} is outside of config.json's {vocabulary_size}")
    return content


def control_tokens(tokenizer: Tokenizer) -> dict[str, int]:
    """Control tokens, text to id."""
    return {token.content: index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}


@functools.lru_cache(maxsize=2)  # the same file is read when it comes, and when its bundle is written and promoted
def _try(content: bytes, file: str) -> None:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{file}: {error}") from error
    confined.call(file, _load_and_encode, text)


def _load_and_encode(content: str) -> None:
    try:
        tokenizer = Tokenizer.from_str(content)
        for text in _TRIALS:
            tokenizer.decode(tokenizer.encode(text).ids)
    except MemoryError:
        raise
    except BaseException as error:  # tokenizers raises Exception, and PanicException, which is none
        raise CheckpointError(str(error)) from error
