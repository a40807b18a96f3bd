"""How fast a graph is: tokens a second of prefill, and of decoding several texts at once."""

import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence

from triptych_research.decoder.session import DecoderSession, Row
from triptych_research.speed import Clock, best_of_rounds

BATCHES = (1, 4, 8)  # texts that decode together
PROMPT_TOKENS = 128
STEPS = 8  # of decoding, in one round
ALL_THREADS = sorted({1, os.cpu_count() or 1})


def tokens_per_second(
    model: bytes, clock: Clock = time.perf_counter, threads: Sequence[int] = ALL_THREADS
) -> dict[str, dict[str, float]]:
    """Return tokens a second by threads, then by kind of work."""
    sessions = {
        f"{count} thread{'s' if count > 1 else ''}": DecoderSession(
            model, slots=max(BATCHES), capacity=PROMPT_TOKENS + STEPS, threads=count
        )
        for count in threads
    }
    for session in sessions.values():
        # Memory that was never written to is not there yet, and reading it is too fast.
        for slab in session.slabs.values():
            slab.fill(0.1)
    works = {(name, work): run for name, session in sessions.items() for work, run in _works(session)}
    speeds: dict[str, dict[str, float]] = {name: {} for name in sessions}
    for (name, work), speed in best_of_rounds(works, clock).items():
        speeds[name][work] = speed
    return speeds


def _works(session: DecoderSession) -> Iterator[tuple[str, tuple[int, Callable[[], object]]]]:
    """Name each kind of work, with its tokens and what runs them."""
    prompt = [1] * PROMPT_TOKENS

    def decode(batch: int) -> None:
        for step in range(STEPS):
            session.run([Row(1, slot, PROMPT_TOKENS + step) for slot in range(batch)], range(batch))

    yield "prefill", (PROMPT_TOKENS, functools.partial(session.prefill, [prompt]))
    for batch in BATCHES:
        yield f"decode {batch}", (batch * STEPS, functools.partial(decode, batch))
