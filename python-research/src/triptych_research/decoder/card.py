"""What a generation model's card says: what its graph keeps of float32, and how fast it is."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from triptych_research import card
from triptych_research.bundle import QUALITY_PLOT, SPEED_PLOT
from triptych_research.card import Card
from triptych_research.decoder.checkpoint import DecoderCheckpoint
from triptych_research.decoder.golden import CLEAR_MARGIN
from triptych_research.decoder.quality import BOUNDS, LARGEST, LONG_TOKENS, Comparison, Quality
from triptych_research.decoder.speed import BATCHES, PROMPT_TOKENS


@dataclass(frozen=True)
class Measurements:
    """All that was measured."""

    quality: Quality
    tokens_per_second: Mapping[str, Mapping[str, float]]  # by threads, then by kind of work
    size_bytes: int


def make(
    checkpoint: DecoderCheckpoint,
    measured: Measurements,
    comparison: Comparison,
    left_out: Mapping[str, str],
) -> Card:
    """Return the card."""
    config = checkpoint.weights.config
    cache_bytes = 2 * config.layers * config.kv_heads * config.head_dim * 2
    shape = f"{config.layers} layers of {config.heads} heads ({config.kv_heads} of keys), {config.hidden_size} wide"
    speaks = "Speaks in conversations." if checkpoint.chat_markup else "Continues text; it has no chat template."
    return Card(
        summary=(
            f"Text to its continuation; at most {config.context_tokens:,} tokens, prompt and continuation together.\n"
            f"{speaks}"
        ),
        facts={
            "architecture": f"{shape}; {config.vocabulary_size:,} tokens in the vocabulary",
            "cache": f"{cache_bytes:,} bytes a token",
        },
        body=_body(measured),
        measured=dataclasses.asdict(measured),
        plots={QUALITY_PLOT: _quality_figure(comparison), SPEED_PLOT: _speed_figure(measured.tokens_per_second)},
        left_out=left_out,
    )


def _body(measured: Measurements) -> str:
    return f"""\
## What the graph keeps of float32

Weights that the source has in blocks of 32 with 4 or 8 bits are as they were, bit for bit; others are rounded to 8 bits
in such blocks. Activations are rounded to 8 bits, each block with a scale of its own; keys and values are kept in
float16. The measures compare this with the same weights run in float32, at {measured.quality.positions:,} positions:
passages of prose, dialogue, code and data in several languages, and the float32 reference's own replies; and along one
text that is longer. They say nothing of how good the model is. With a number outside of its bound there is no bundle.

{_quality_table(measured)}

![Divergence and flips]({QUALITY_PLOT})

The graph gives the same bits on every processor, alone and in company. Its greedy text is its own: where two words are
nearly as likely, rounding decides. In the golden cases it agrees with the float32 reference wherever the reference's
lead is {CLEAR_MARGIN:g} logits or more.

## Speed

Tokens a second, without tokenizer and sampling. *Prefill* runs prompts of {PROMPT_TOKENS} tokens; *decode n* makes a
token for each of n texts of that length at once.

{_speed_table(measured)}

![Tokens a second]({SPEED_PLOT})"""


def _quality_table(measured: Measurements) -> str:
    q = measured.quality
    rows = [
        ("rise of the passages' negative log-likelihood", f"{q.nll_increase:+.2%} (≤ {BOUNDS.max_nll_increase:.2%})"),
        ("mean divergence (KL, nats)", f"{q.kl:.4f} (≤ {BOUNDS.max_kl:g})"),
        ("same likeliest token", f"{q.top1:.1%} (≥ {BOUNDS.min_top1:.1%})"),
        ("largest lead of a token that lost (logits)", f"{q.widest_flip:.2f}"),
        (
            f"divergence along a text of up to {LONG_TOKENS:,} tokens, part by part",
            f"{', '.join(f'{kl:.4f}' for kl in q.kl_by_place)} (≤ {BOUNDS.max_part_kl:g})",
        ),
        ("largest key or value", f"{q.largest:,.0f} (< {LARGEST:,.0f})"),
        ("size of the graph", f"{measured.size_bytes / 1e6:.0f} MB"),
    ]
    return card.table(["", ""], rows)


def _speed_table(measured: Measurements) -> str:
    works = ["prefill", *(f"decode {batch}" for batch in BATCHES)]
    speeds = measured.tokens_per_second.items()
    return card.table(["", *works], ([name, *(f"{each[work]:,.0f}" for work in works)] for name, each in speeds))


def _quality_figure(comparison: Comparison) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    bins = np.geomspace(1e-6, 1, 61)
    left.hist(np.clip(comparison.kl, bins[0], bins[-1]), bins=bins, histtype="step")
    right.hist(comparison.flips[comparison.flips > 0], bins=np.linspace(0, 2, 41), histtype="step")
    left.set(xscale="log", xlabel="divergence from float32 (nats)", ylabel="positions")
    right.set(xlabel="float32's lead where the likeliest token differs (logits)", ylabel="positions")
    right.axvline(CLEAR_MARGIN, color="tab:red", linestyle="--", label="clear margin of golden cases")
    right.legend()
    return figure


def _speed_figure(tokens_per_second: Mapping[str, Mapping[str, float]]) -> Figure:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    width = 0.8 / len(tokens_per_second)
    for index, (name, speeds) in enumerate(tokens_per_second.items()):
        values = [speeds[f"decode {batch}"] for batch in BATCHES]
        left.bar(np.arange(len(BATCHES)) + index * width, values, width, label=name)
        right.bar([index * width], [speeds["prefill"]], width)
    left.set_xticks(np.arange(len(BATCHES)) + 0.4 - width / 2, [f"decode {batch}" for batch in BATCHES])
    right.set_xticks([])
    right.set(xlabel="prefill")
    left.set(ylabel="tokens/s")
    left.legend(fontsize="small")
    return figure
