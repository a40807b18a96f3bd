"""How a text that is longer than the encoder takes is cut. The hot path has the same function.

A text's score is the highest of its windows', so that one bad paragraph is not hidden by a long good text.
"""

import itertools
from collections.abc import Sequence


def windows(token_ids: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Return the inputs of at most `max_tokens` that a tokenized text is run as.

    `token_ids` has the special tokens that open and close a text, one each, and so has each window. Between them are
    the text's other tokens: as few parts as will do, in order, without overlap, and of lengths that differ by 1 at
    most, so that no part is a stump: part i of k takes the tokens from floor(i n / k) to floor((i + 1) n / k) of n.
    """
    opening, *content, closing = token_ids
    count = len(content)
    parts = max(1, -(-count // (max_tokens - 2)))
    borders = [index * count // parts for index in range(parts + 1)]
    return [[opening, *content[start:end], closing] for start, end in itertools.pairwise(borders)]
