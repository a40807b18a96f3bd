"""How long to measure generation."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much is measured, whatever it is."""

    rounds: int
    tokens: int  # of each stream whose speed is measured
    probes: int  # requests of each kind whose time to first token is measured, in a round
    chunk_tokens: tuple[int, ...]  # the hot path's settings that are tried
    turn_tokens: tuple[int, ...]  # prompts of first turns
    long_prompt_tokens: int  # of the prompt that arrives while a stream runs
    cache_bytes: int  # the hot path's setting where memory is measured


FULL = Effort(
    rounds=5,
    tokens=128,
    probes=4,
    chunk_tokens=(16, 32, 64, 128),
    turn_tokens=(200, 400, 800),
    long_prompt_tokens=2000,
    cache_bytes=2**30,  # the default
)
QUICK = Effort(
    rounds=1,
    tokens=32,
    probes=1,
    chunk_tokens=(64,),
    turn_tokens=(200,),
    long_prompt_tokens=300,
    cache_bytes=96 * 2**20,
)
