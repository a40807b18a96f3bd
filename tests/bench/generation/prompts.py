"""Texts of an exact number of tokens, no two of which begin alike: no server has seen any part of one before."""

import random
from collections.abc import Sequence

from tokenizers import Tokenizer


class Prompts:
    """Words of real texts in a random order, always the same one."""

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._random = random.Random(1)
        self._words = sorted({word for text in texts for word in text.split() if word.isalpha()})

    def text(self, tokens: int) -> str:
        """A text of so many tokens."""
        words = [self._random.choice(self._words) for _ in range(max(1, tokens // 2))]
        while (count := self._count(words)) != tokens:
            if count > tokens:
                words.pop()
            else:
                words.append(self._random.choice(self._words))
        return " ".join(words)

    def ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text).ids)

    def _count(self, words: Sequence[str]) -> int:
        return len(self.ids(" ".join(words)))
