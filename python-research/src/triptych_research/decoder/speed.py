"""How fast graphs are: tokens a second of prefill, and of decoding several texts at once."""

import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence

from triptych_research.decoder.session import DecoderSession

BATCHES = (1, 4, 8)  # texts that decode together
PROMPT_TOKENS = 128
STEPS = 8  # of decoding, in one round
ALL_THREADS = sorted({1, os.cpu_count() or 1})
_ROUNDS = 3


def tokens_per_second(
    models: Mapping[str, bytes], clock: Callable[[], float] = time.perf_counter, threads: Sequence[int] = ALL_THREADS
) -> dict[str, dict[str, float]]:
    """Return tokens a second by graph and threads, then by kind of work.

    The graphs take turns and the best round of each counts, so that a busy moment of the machine hits none of them
    alone.
    """
    sessions = {
        f"{name}, {count} thread{'s' if count > 1 else ''}": DecoderSession(
            model, slots=max(BATCHES), capacity=PROMPT_TOKENS + STEPS, threads=count
        )
        for count in threads
        for name, model in models.items()
    }
    for session in sessions.values():
        # Memory that was never written to is not there yet, and reading it is too fast.
        for slab in session.slabs.values():
            slab.fill(0.1)
    best: dict[str, dict[str, float]] = {name: {} for name in sessions}
    for _ in range(_ROUNDS):
        for name, session in sessions.items():
            for work, tokens, run in _works(session):
                start = clock()
                run()
                best[name][work] = max(best[name].get(work, 0.0), tokens / (clock() - start))
    return best


def _works(session: DecoderSession) -> list[tuple[str, int, Callable[[], object]]]:
    """Name, tokens and code of each kind of work."""
    prompt = range(1, PROMPT_TOKENS + 1)

    def decode(batch: int) -> None:
        for step in range(1, STEPS + 1):
            session.run(0, [[1]] * batch, [PROMPT_TOKENS + step] * batch, range(batch))

    return [
        ("prefill", PROMPT_TOKENS, functools.partial(session.prefill, 0, prompt)),
        *((f"decode {batch}", batch * STEPS, functools.partial(decode, batch)) for batch in BATCHES),
    ]
