"""Shows what was measured: docs/benchmarks-durable.md and its plot, from one run's figures alone."""

import dataclasses
import pathlib

from matplotlib.axes import Axes

from bench.durable.beside import BATCH_TOKENS, Besides
from bench.durable.effort import Effort
from bench.durable.memory import Memory
from bench.durable.queue import Queue
from bench.durable.recovery import Recovery
from bench.durable.throughput import CONNECTIONS, IDLE_S, Throughput
from bench.gateway.beside import HEADER
from bench.machine import Occasion
from bench.page import Row, markdown, table
from bench.sampler import MIB
from e2e.large import LINE_BYTES
from plots import GOLD, SOFT, save_plot

POOL_WORKERS = 4  # whose overhead stands in the table of goals
MOST_BESIDE = 1.3  # times the p99 of alone


@dataclasses.dataclass(frozen=True)
class Results:
    """One run."""

    occasion: Occasion
    effort: Effort
    speed: Throughput
    beside: Besides
    recovery: Recovery
    queue: Queue
    memory: Memory


def rows(results: Results) -> list[Row]:
    """The figures that say whether the design holds."""
    queue, recovery = results.queue, results.recovery
    pool = queue.pools[POOL_WORKERS]
    found = [
        Row("embeddings/s of a batch", "the peak of requests", f"{results.speed.ratio:.2f}", "≥ 0.95"),
        *(
            Row(f"p99 of {work} beside a batch of such", "alone", f"{each.ratio:.2f}", f"≤ {MOST_BESIDE}")
            for work, each in results.beside.of_work.items()
        ),
        Row("after `kill -9`, until a batch goes on: SQLite", "it listens", f"{recovery.embedded:.2f} s", "≤ 1 s"),
    ]
    if recovery.shared is not None:
        what = "after `kill -9`, until another gateway goes on: PostgreSQL"
        found.append(Row(what, "the kill", f"{recovery.shared:.1f} s", "≤ 12 s"))
    return [
        *found,
        Row("jobs accepted, each synced: SQLite", "", f"{queue.added_per_s:,.0f} /s"),
        Row("an idle queue", "a core", f"{max(0.0, queue.idle - queue.idle_without):.1%}", "≤ 0.5 %"),
        Row("memory while a large batch goes through", "before", f"{results.memory.grown_mib:+.0f} MiB", "± 32 MiB"),
        Row("the pool's overhead for an item", "a bare channel", f"{pool.pool_ns - pool.channel_ns:.0f} ns"),
    ]


def write(results: Results, document: pathlib.Path) -> None:
    """Write the document, and the plot into the folder beside it that has its name."""
    plots = document.with_suffix("")
    save_plot(plots / "memory.svg", lambda axes: _draw_memory(axes, results.memory))
    document.write_text(_markdown(results, plots.name))


def _markdown(results: Results, plots: str) -> str:
    speed, queue, memory, recovery = results.speed, results.queue, results.memory, results.recovery
    return f"""# Benchmarks of durable work

Written by `make bench`; [embeddings](benchmarks.md), [generation](benchmarks-generation.md) and
[the gateway](benchmarks-gateway.md) have pages of their own. Ratios are taken within this one run, both sides in turn,
and are the medians of {results.effort.rounds} rounds; absolute numbers are this machine's.

{results.occasion.markdown()}

{markdown(rows(results))}

## A batch, and requests

The whole stack, default settings, texts of some ten tokens, one a line. The peak is what {CONNECTIONS} clients get that
each wait for their reply: {speed.peak_per_s:,.0f} texts a second. A batch of as many as that gives in
{results.effort.batch_s:.0f} s, from the reply to its creation to the result of its last line, has
{speed.batch_per_s:,.0f} a second; it begins when no request has come for {IDLE_S} s. The clients' driver takes
CPU time too, which a batch has no need of.

## Beside a batch

The whole stack, default settings. One client asks when its last request is answered, alone and while a batch of another
tenant runs: of the same text, and of chats of {BATCH_TOKENS} tokens each. A chat of one token is its first token.

{_beside(results)}

{_verdict(results)}
The batch of texts has {results.beside.texts_per_s:,.0f} a second meanwhile.

## After a kill

A gateway that has its data folder to itself makes its own leases ready when it starts. The next process listens
{recovery.embedded_listens:.2f} s after the kill, and {recovery.embedded:.2f} s later its segments run again. On
PostgreSQL others wait until the dead one's leases of 10 s have run out. Medians of {results.effort.kills} kills.

## The queue and the pool

By themselves, one goroutine, each commit synced: {queue.added_per_s:,.0f} jobs a second are added, one a transaction,
and {queue.finished_per_s:,.0f} claimed and finished. A gateway with nothing to do takes {queue.idle:.1%} of a core with
files and batches, and {queue.idle_without:.1%} without. An item that does nothing:

{_pools(queue)}

## Memory

{memory.input_bytes / MIB:.0f} MiB of lines of {LINE_BYTES:,} bytes go in, are run before an engine that answers at
once, and {memory.output_bytes / MIB:.0f} MiB come out. What the gateway holds, from {memory.before_mib:.0f} MiB after a
small batch to {memory.most_mib:.0f} MiB at most:

![Memory over time]({plots}/memory.svg)
"""


def _beside(results: Results) -> str:
    return table(("", *HEADER), [[work, *each.cells()] for work, each in results.beside.of_work.items()])


def _verdict(results: Results) -> str:
    missed = [f"{work} ({each.ratio:.2f})" for work, each in results.beside.of_work.items() if each.ratio > MOST_BESIDE]
    return f"Wanted is at most {MOST_BESIDE} times the p99 of alone" + (
        f", which is missed by {' and '.join(missed)}: whoever waits for a reply feels a batch." if missed else "."
    )


def _pools(queue: Queue) -> str:
    lines = [
        [str(workers), f"{each.pool_ns:.0f}", f"{each.channel_ns:.0f}", f"{each.pool_ns - each.channel_ns:.0f}"]
        for workers, each in queue.pools.items()
    ]
    return table(("workers", "pool, ns", "bare channel, ns", "more"), lines)


def _draw_memory(axes: Axes, memory: Memory) -> None:
    axes.plot([second for second, _ in memory.samples], [taken for _, taken in memory.samples], color=GOLD)
    top = 1.25 * memory.most_mib
    for phase, until in memory.phases:
        axes.axvline(until, color=SOFT, linewidth=0.8)
        axes.annotate(phase, (until, top), xytext=(-4, -4), textcoords="offset points", ha="right", va="top")
    axes.set(xlabel="seconds", ylabel="resident memory, MiB", ylim=(0, top))
