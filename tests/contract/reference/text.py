"""Tokens to text as they come: whole characters, and nothing that might be the start of a stop string."""

import codecs
from collections.abc import Sequence

from tokenizers import Tokenizer


class TextSoFar:
    """A continuation's text. What was told and what is told next are never taken back."""

    def __init__(self, stop_strings: Sequence[str]) -> None:
        self._stop_strings = sorted(stop_strings, key=len, reverse=True)  # of those that end together the longest
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._searched = ""
        self._told = 0  # characters of what is searched
        self.stopped_by: str | None = None

    def push(self, token: bytes, search: bool) -> str:
        """Append a token; return what is certain now. What comes while `search` is false can hold no stop string."""
        return self._append(self._decoder.decode(token), search)

    def finish(self, search: bool) -> str:
        """End the text; return the rest of it."""
        certain = self._append(self._decoder.decode(b"", final=True), search)
        return certain if self.stopped_by else certain + self._tell(len(self._searched))

    def _append(self, piece: str, search: bool) -> str:
        if not search:
            return piece
        before = len(self._searched)
        self._searched += piece
        for end in range(before + 1, len(self._searched) + 1):
            for stop in self._stop_strings:
                if self._searched.endswith(stop, 0, end):
                    self.stopped_by = stop
                    return self._tell(end - len(stop))
        return self._tell(len(self._searched) - self._undecided())

    def _tell(self, end: int) -> str:
        start, self._told = self._told, end
        return self._searched[start:end]

    def _undecided(self) -> int:
        """Return how many of the last characters may be the start of a stop string."""
        longest = max(map(len, self._stop_strings), default=0)
        for length in range(min(longest - 1, len(self._searched)), 0, -1):
            if any(len(stop) > length and self._searched.endswith(stop[:length]) for stop in self._stop_strings):
                return length
        return 0


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """Return what each id of a byte-level vocabulary stands for; control tokens stand for nothing."""
    byte_of = _bytes_of_characters()
    control = {index for index, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    tokens = sorted(tokenizer.get_vocab(with_added_tokens=True).items(), key=lambda pair: pair[1])
    return [b"" if index in control else bytes(byte_of[character] for character in token) for token, index in tokens]


def _bytes_of_characters() -> dict[str, int]:
    """Return the byte that each character of a byte-level vocabulary stands for.

    Printable bytes stand for themselves; the others are the characters from U+0100 on, in their order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
