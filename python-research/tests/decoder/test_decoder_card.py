"""What a generation model's card says, and how its speeds are taken."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import tiny_decoder as tiny

from triptych_research.decoder import card, speed
from triptych_research.decoder.checkpoint import DecoderCheckpoint
from triptych_research.decoder.graph import build
from triptych_research.decoder.quality import Comparison
from triptych_research.sources import Source

SOURCE = Source("file:tiny", "0" * 64, "MIT", "nobody", files=None)  # type: ignore[arg-type]  # a card reads none
WORKS = ["prefill", *(f"decode {batch}" for batch in speed.BATCHES)]


def measurements(comparison: Comparison) -> card.Measurements:
    return card.Measurements(
        quality=comparison.summary(comparison, largest=23.7),
        tokens_per_second={"1 thread": dict(zip(WORKS, (900.0, 100.0, 250.0, 350.0), strict=True))},
        size_bytes=12_000_000,
    )


def test_a_card_has_the_numbers_and_the_bounds() -> None:
    random = np.random.default_rng(0)
    comparison = Comparison(
        nll=np.full(9, 2.02, np.float32),
        reference_nll=np.full(9, 2.0, np.float32),
        kl=random.uniform(0, 0.01, 200).astype(np.float32),
        flips=np.array([0.25] * 10 + [0] * 190, np.float32),
    )
    checkpoint = DecoderCheckpoint(tiny.weights(), b"", [], [0])
    measured = measurements(comparison)
    files = card.make(checkpoint, measured, comparison, {}).render("tiny", SOURCE, "f")
    text = files["CARD.md"].decode()
    for fact in (
        "+1.00% (≤ 0.50%)",
        "95.0% (≥ 96.0%)",
        "| 0.25 |",
        "12 MB",
        "| 900 | 100 | 250 | 350 |",
        "200 positions",
        "| largest key or value | 24 (< 65,504) |",
        " part by part | 0.00",
    ):
        assert fact in text, fact
    assert "it has no chat template" in text
    assert json.loads(files["measurements.json"])["quality"]["top1"] == pytest.approx(0.95)
    assert all(files[name].startswith(b"\x89PNG") for name in ("quality.png", "speed.png"))


def test_of_several_rounds_the_best_counts() -> None:
    def clock() -> Iterator[float]:
        now, durations = 0.0, [4.0, 2.0, 3.0]  # of each round's works
        for duration in durations:
            for _ in WORKS:
                yield now
                now += duration
                yield now

    ticks = clock()
    model = build(tiny.weights()).SerializeToString()
    result = speed.tokens_per_second(model, lambda: next(ticks), threads=[1])
    assert result == {
        "1 thread": {
            "prefill": speed.PROMPT_TOKENS / 2,
            **{f"decode {batch}": batch * speed.STEPS / 2 for batch in speed.BATCHES},
        }
    }
    with pytest.raises(StopIteration):
        next(ticks)
