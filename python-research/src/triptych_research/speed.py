"""How fast graphs are: tokens a second. Ratios within one run mean more than the numbers."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

K = TypeVar("K")
Clock = Callable[[], float]
_ROUNDS = 3


def best_of_rounds(
    works: Mapping[K, tuple[int, Callable[[], object]]], clock: Clock = time.perf_counter
) -> dict[K, float]:
    """Return the tokens a second of each work, which is a number of tokens and what runs them.

    The works take turns and the best round of each counts, so that a busy moment of the machine hits none of them
    alone.
    """
    best = dict.fromkeys(works, 0.0)
    for _ in range(_ROUNDS):
        for key, (tokens, run) in works.items():
            start = clock()
            run()
            best[key] = max(best[key], tokens / (clock() - start))
    return best
