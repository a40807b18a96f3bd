"""Shows what was measured: docs/benchmarks-generation.md and its plots, from one run's figures alone."""

import dataclasses
import pathlib
import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes

from bench.generation.decoding import EIGHT, LONG_PROMPT_TOKENS, PREFILL, SINGLE, STREAMS, WORKS, Decoding
from bench.generation.delays import OTHERS, QUESTION_TOKENS, REPLY_TOKENS, ChunkSize, FirstToken, Turn
from bench.generation.effort import Effort
from bench.generation.memory import Memory
from bench.generation.servers import CHUNK_TOKENS, DRAFT_TOKENS, SPIN_US
from bench.llama_build import PACKAGE, VERSION
from bench.machine import Occasion
from bench.page import Row, draw_cpu, markdown, table, threads
from plots import GOLD, RUST, save_plot

PROCESSES = ("hotpath", "gateway", "driver")
TURN_TOKENS = 400  # of the first turn in the table of goals, where it was measured
# Expected and wanted ratio to the bare loop, and to llama.cpp.
BARE_GOAL = ("≥ 0.93", "0.97")
GOALS = {SINGLE: ("≥ 1.25", "1.4"), EIGHT: ("≥ 2.5", "3"), PREFILL: ("≥ 3.5", "4")}
NAMES = {
    SINGLE: "decode tok/s, 1 stream",
    EIGHT: f"summed decode tok/s, {STREAMS} streams",
    PREFILL: f"prefill tok/s, {LONG_PROMPT_TOKENS}-token prompt",
}


@dataclasses.dataclass(frozen=True)
class Results:
    """One run."""

    occasion: Occasion
    cores: int
    effort: Effort
    decoding: Sequence[Decoding]  # by thread budget
    first_token: FirstToken
    turns: Sequence[Turn]
    chunks: Sequence[ChunkSize]
    memory: Memory

    @property
    def turn(self) -> Turn:
        """That of the table of goals."""
        return min(self.turns, key=lambda turn: abs(turn.first_turn_tokens - TURN_TOKENS))

    @property
    def chunk(self) -> ChunkSize:
        """That of the table of goals: the default."""
        return next(chunk for chunk in self.chunks if chunk.chunk_tokens == CHUNK_TOKENS)


def rows(results: Results) -> list[Row]:
    """The figures that say whether the design holds."""
    found = []
    for each in results.decoding:
        side, budget = each.sides[0], threads(each.threads)
        others = [("the same graph in a bare loop in process", side.bare, SINGLE, BARE_GOAL)]
        others += [(f"the server of {peer}", peer, work, GOALS[work]) for peer in each.peers for work in WORKS]
        for against, other, work, goal in others:
            found.append(Row(f"{NAMES[work]}, {budget}", against, f"{each.ratio(side, other, work):.2f}", *goal))
    memory = results.memory
    long = results.effort.long_prompt_tokens
    return [
        *found,
        Row(
            f"time to first token with {OTHERS} others decoding",
            "alone",
            f"{results.first_token.ratio:.2f}",
            "≤ 2.5",
            "1.5",
        ),
        Row(
            f"longest gap of a running stream while a prompt of {long:,} tokens arrives, {CHUNK_TOKENS} tokens a chunk",
            "its median gap",
            f"{results.chunk.ratio:.1f}",
            "≤ 6",
            "4",
        ),
        Row(
            f"second turn: time to first token, {results.turn.total_tokens} tokens",
            "first turn of the same length",
            f"{results.turn.ratio:.2f}",
            "≤ 0.15",
            "0.1",
        ),
        Row(
            "hot path's RSS, cache full",
            f"{memory.weights_mib:.0f} MiB of weights + {memory.cache_mib:.0f} MiB of cache",
            f"{memory.used_ratio:.2f}",
            "≤ 1.3",
            "1.15",
        ),
    ]


def write(results: Results, document: pathlib.Path) -> None:
    """Write the document, and the plots into the folder beside it that has its name."""
    plots = document.with_suffix("")
    save_plot(plots / "chunks.svg", lambda axes: _draw_chunks(axes, results.chunks))
    cpu = [
        (f"{work}, {threads(each.threads)}", {name: each.cpu_us[work][name] for name in PROCESSES})
        for each in results.decoding
        for work in each.cpu_us
    ]
    save_plot(plots / "cpu.svg", lambda axes: draw_cpu(axes, cpu, "CPU time for one token, µs"))
    document.write_text(_markdown(results, plots.name))


def _markdown(results: Results, plots: str) -> str:
    effort, first, memory = results.effort, results.first_token, results.memory
    return f"""# Benchmarks of generation

Written by `make bench`; [embeddings](benchmarks.md) have a page of their own. Ratios are taken within this one run, all
sides in turn, and are the medians of {effort.rounds} rounds; absolute numbers are this machine's.

{results.occasion.markdown()}
- Both sides: greedy, streamed over HTTP, every prompt a new one of an exact length that both sides count alike
- Driver: one Python thread on the same machine; it takes its CPU time from what it measures (see below)
{_peers(results)}

{markdown(rows(results))}

A thread budget is the number of inference threads; gateway, hot path and driver have threads beside them, which with a
budget of {threads(results.cores)} share the cores with inference. The speed of one stream is that from its first token
to its last of {effort.tokens}; that of {STREAMS} counts the time in which all of them decode; prefill is the prompt's
length by the time to the first token. The bare loop is Python, in place, with nothing bound or copied in a step.

## Speed

{_speeds(results)}

Tokens a second, then the ratios. Threads wait for each other by burning their core for {SPIN_US} µs at most
(`--generation-spin-us`), llama.cpp's by default for longer. [Why it is as fast as it is](decoder-speed.md).

All sides compute each token by itself, but for the stack with drafts (`--draft-tokens {DRAFT_TOKENS}`, the default),
which says the same text. The prompts are words in random order, after which a small model soon repeats itself: that is
where drafts help most, and a reply that says something new gains little. So no speed in the first table has them.

## Where the time goes

CPU time for one token, in µs. The hot path's share holds inference itself.

{_cpu(results)}

![CPU time by process]({plots}/cpu.svg)

## How long people wait

All without drafts. The first token of a short prompt comes after {first.alone_ms:.0f} ms alone, and after
{first.beside_ms:.0f} ms while {OTHERS} other streams decode.

A prompt is read in chunks of at most so many tokens, fewer beside running streams, whose next tokens come from the same
runs: reading faster makes their gaps longer. Gaps are medians of the rounds; a stream's median gap is that before the
prompt arrives.

{_chunks(results)}

![Longest gap and prefill by chunk size]({plots}/chunks.svg)

A conversation's second turn begins as the first one did, and what was read of that is not read again; the reply
({REPLY_TOKENS} tokens) and the question ({QUESTION_TOKENS}) are.

{_turns(results)}

## Memory

{_memory(results)}

RSS after load holds what the check against the golden cases took. The cache takes memory as it is written to; it was
filled with {memory.kept:.0%} of the tokens that it has room for.
"""


def _peers(results: Results) -> str:
    peers = results.decoding[0].peers
    if not peers:
        return "- Peer: llama.cpp's server was not there; `make llama-server` builds it, and adds the rows against it"
    return f"""- Peer: llama.cpp's server of {PACKAGE} {VERSION}, built for this processor, with the file that the
  bundle was made of, as many threads, and its defaults for all else that matters to speed"""


def _speeds(results: Results) -> str:
    lines, compared = [], [(peer, work) for peer in results.decoding[0].peers for work in WORKS]
    for each in results.decoding:
        for side in each.sides:
            ratios = [each.ratio(side, other, work) for other, work in [(side.bare, SINGLE), *compared]]
            lines.append([str(each.threads), str(side), *_medians(each, str(side)), *(f"{it:.2f}" for it in ratios)])
        lines += [[str(each.threads), peer, *_medians(each, peer), *[""] * (1 + len(compared))] for peer in each.peers]
    header = ["threads", "side", *WORKS, f"{SINGLE} ÷ bare loop", *(f"{work} ÷ {peer}" for peer, work in compared)]
    return table(header, lines)


def _medians(decoding: Decoding, side: str) -> list[str]:
    return [f"{statistics.median(decoding.speeds[side][work]):.0f}" for work in WORKS]


def _cells(item: ChunkSize | Turn, *formats: str) -> list[str]:
    """A row of a table: each field in its form."""
    return [format(value, form) for value, form in zip(dataclasses.astuple(item), formats, strict=True)]


def _cpu(results: Results) -> str:
    lines = [
        [str(each.threads), work, *(f"{each.cpu_us[work][name]:.0f}" for name in PROCESSES)]
        for each in results.decoding
        for work in each.cpu_us
    ]
    return table(["inference threads", "", *PROCESSES], lines)


def _chunks(results: Results) -> str:
    lines = [_cells(chunk, "d", ".0f", ".0f", ".1f", ".1f", ".1f") for chunk in results.chunks]
    header = ["tokens a chunk", f"prefill tok/s, {LONG_PROMPT_TOKENS} tokens, alone"]
    header += [f"prefill tok/s, {results.effort.long_prompt_tokens:,} tokens, beside a stream"]
    return table([*header, "median gap, ms", "longest gap, ms", "ratio"], lines)


def _turns(results: Results) -> str:
    lines = [_cells(turn, "d", "d", "d", ".0f", ".0f", ".2f") for turn in results.turns]
    header = ["first message, tokens", "second turn's prompt", "of these reused"]
    return table([*header, "time to first token, ms", "of a first turn as long, ms", "ratio"], lines)


def _memory(results: Results) -> str:
    each = results.memory
    columns = {
        "weights, MiB": f"{each.weights_mib:.0f}",
        "RSS after load, MiB": f"{each.loaded_mib:.0f}",
        "÷ weights": f"{each.loaded_ratio:.2f}",
        "cache, MiB": f"{each.cache_mib:.0f}",
        "RSS with the cache full, MiB": f"{each.used_mib:.0f}",
        "÷ (weights + cache)": f"{each.used_ratio:.2f}",
    }
    return table(list(columns), [list(columns.values())])


def _draw_chunks(axes: Axes, chunks: Sequence[ChunkSize]) -> None:
    sizes = [str(chunk.chunk_tokens) for chunk in chunks]
    axes.plot(sizes, [chunk.longest_gap_ms for chunk in chunks], color=RUST, marker="o", label="longest gap")
    axes.plot(sizes, [chunk.median_gap_ms for chunk in chunks], color=RUST, linestyle=":", label="median gap")
    axes.set(xlabel="tokens a chunk", ylabel="gap of a running stream, ms", ylim=(0, None))
    speed = axes.twinx()
    speed.plot(sizes, [chunk.prefill_tokens_per_s for chunk in chunks], color=GOLD, marker="s", label="prefill, alone")
    speed.set(ylabel="prefill, tokens/s", ylim=(0, None))
    lines = [*axes.get_lines(), *speed.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="upper left", frameon=False)
