"""Shows what was measured: docs/benchmarks.md and its plots, from one run's figures alone."""

import dataclasses
import pathlib
from collections.abc import Sequence

from matplotlib.axes import Axes
from triptych_research.embedding.speed import PADDED_BATCH

from bench.embeddings.measures import (
    BLOCK,
    LIST_CLIENTS,
    TEXTS_PER_LIST,
    AddedLatency,
    Footprint,
    LoadPoint,
    Throughput,
    UsualRecipe,
)
from bench.embeddings.mixed_load import GENERATIONS, MixedLoad
from bench.machine import Occasion
from bench.page import Row, draw_cpu, markdown, table, threads
from plots import GOLD, RUST, SOFT, save_plot


@dataclasses.dataclass(frozen=True)
class Results:
    """One run."""

    occasion: Occasion
    tokens_per_text: float
    throughput: Sequence[Throughput]
    latency: AddedLatency
    usual_recipes: Sequence[UsualRecipe]
    footprint: Footprint
    load: Sequence[LoadPoint]
    mixed_load: MixedLoad


def rows(results: Results) -> list[Row]:
    """The figures that say whether the design holds."""
    found = []
    for each in results.throughput:
        raw = f"ONNX Runtime alone, {threads(each.workers)}, {each.schedule}"
        for what, ratio in (
            ("1 text a request, 16 clients", each.singles_ratio),
            ("32 texts a request", each.lists_ratio),
        ):
            found.append(Row(f"texts/s, {what}, {threads(each.workers)}", raw, f"{ratio:.2f}", "≥ 0.90", "0.95"))
    for each in results.throughput:
        if peer := each.peer:
            against = f"llama.cpp's server, Q8_0, {threads(each.workers)}"
            for what, ratio in (
                ("1 text a request, 16 clients", peer.singles_ratio),
                ("32 texts a request", peer.lists_ratio),
            ):
                found.append(Row(f"texts/s, {what}, {threads(each.workers)}", against, f"{ratio:.2f}"))
    latency, memory = results.latency, results.footprint
    raw = "tokenizer + ONNX Runtime in process, same text"
    weights = f"{memory.weights_mib:.0f} MiB of weights, {memory.workers} sessions"
    return [
        *found,
        Row("latency added at 1 client, p50", raw, f"{latency.added_p50_ms:.2f} ms", "≤ 0.8 ms", "0.6 ms"),
        Row("latency added at 1 client, p99", raw, f"{latency.added_p99_ms:.2f} ms", "≤ 3 ms", "2 ms"),
        *(row for usual in results.usual_recipes for row in _usual_rows(usual)),
        Row("start to verified ready", "", f"{memory.ready_s:.1f} s"),
        Row("hot path's RSS after load", weights, f"{memory.rss_mib:.0f} MiB"),
        *_mixed_load_rows(results.mixed_load),
    ]


def _usual_rows(usual: UsualRecipe) -> list[Row]:
    against = f"padded {usual.precision}, sorted, {PADDED_BATCH} a batch; one session, all cores"
    return [
        Row("texts/s, packed, one session, all cores", against, f"{usual.one_session:.1f}"),
        Row("texts/s, packed, one session a core", against, f"{usual.session_per_core:.1f}"),
    ]


def _mixed_load_rows(beside: MixedLoad) -> list[Row]:
    flood, generations = "short chat beside a flood of texts", f"short chat beside {GENERATIONS} long ones of one key"
    chat = beside.chat_beside_texts_s / beside.chat_alone_s
    texts = beside.texts_beside_chat / beside.texts_alone
    giant = f"{1e3 * beside.text_beside_giant_p99_s:.0f} ms"
    return [
        Row(flood, "the same alone", f"{chat:.1f}", "≤ 4"),
        Row("texts/s of that flood", "without the chat", f"{texts:.2f}", "≥ 0.5"),
        Row(
            generations,
            f"alone {beside.chat_alone_s:.2f} s",
            f"{beside.chat_beside_generations_s:.2f} s",
            "≤ 5 s",
        ),
        Row("one text beside a request of 2,048 long ones, p99", "", giant, "≤ 1000 ms"),
    ]


def _mixed_load_table(beside: MixedLoad) -> str:
    chat, text = f"{beside.chat_alone_s:.2f} s", f"{1e3 * beside.text_alone_s:.1f} ms"
    lists = f"lists of {TEXTS_PER_LIST} texts, {LIST_CLIENTS} clients"
    giant = f"{1e3 * beside.text_beside_giant_p99_s:.0f} ms (p99)"
    return table(
        ("beside", "small request", "alone, median", "beside"),
        [
            (lists, "chat", chat, f"{beside.chat_beside_texts_s:.2f} s (median)"),
            (f"{GENERATIONS} long generations", "chat", chat, f"{beside.chat_beside_generations_s:.2f} s (median)"),
            ("one request of 2,048 texts of 250 words", "text", text, giant),
        ],
    )


def write(results: Results, document: pathlib.Path) -> None:
    """Write the document, and the plots into the folder beside it that has its name."""
    plots = document.with_suffix("")
    save_plot(plots / "load.svg", lambda axes: _draw_load(axes, results.load))
    cpu = [(threads(each.workers), {name: each.cpu_us[name] for name in PROCESSES}) for each in results.throughput]
    save_plot(plots / "cpu.svg", lambda axes: draw_cpu(axes, cpu, "CPU time for one text, µs"))
    document.write_text(_markdown(results, plots.name))


def _markdown(results: Results, plots: str) -> str:
    header = ["inference threads", "ONNX Runtime alone", "stack, 1 text a request", "stack, 32 texts a request"]
    lines = [
        [threads(each.workers), *(f"{speed:.0f}" for speed in (each.raw, each.singles, each.lists))]
        for each in results.throughput
    ]
    if peers := [each.peer for each in results.throughput if each.peer]:
        header += ["llama.cpp, 1 text a request", "llama.cpp, 32 texts a request"]
        lines = [[*line, f"{peer.singles:.0f}", f"{peer.lists:.0f}"] for line, peer in zip(lines, peers, strict=True)]
    absolute = table(header, lines)
    cpu = "\n".join(
        f"| {threads(each.workers)} | " + " | ".join(f"{each.cpu_us[name]:.0f}" for name in PROCESSES) + " |"
        for each in results.throughput
    )
    curve = "\n".join(
        f"| {point.load:.0%} | {point.rate_per_s:.0f} | {point.served_per_s:.0f} | {point.p50_ms:.1f} "
        f"| {point.p99_ms:.1f} | {point.refused:.0%} |"
        for point in results.load
    )
    latency, beside = results.latency, results.mixed_load
    return f"""# Benchmarks

Written by `make bench`; [generation](benchmarks-generation.md) has a page of its own. Ratios are taken within this one
run, both sides in turn; absolute numbers are this machine's.

{results.occasion.markdown()}
- Texts: the model card's evaluation texts, {results.tokens_per_text:.0f} tokens in the mean
- Driver: one Python thread on the same machine; it takes its CPU time from what it measures (see below)

{markdown(rows(results))}

Latency is compared text by text: {latency.raw_p50_ms:.2f} ms raw and {latency.stack_p50_ms:.2f} ms through the stack
at the median. Both sides take turns by blocks of {BLOCK} texts, so that each finds its own weights in the caches; a
block's first text is not counted. Two raw runs of the same text differ by up to {latency.raw_jitter_p99_ms:.2f} ms
themselves (p99): that much of the p99 is the machine's.

The matrices of a batch of short texts are too small to share between threads: on two cores a second thread in one
session gains little, where a second session doubles its speed. So the hot path has one session for each
core, of one thread.

## Texts a second

{absolute}

## Where the time goes

CPU time for one text in a request of its own, in µs. The hot path's share holds inference itself. With as many
inference threads as cores, everything else takes its time from inference: no ratio above (inference ÷ all) can be
reached. With a core to spare, the services run beside it.

| inference threads | {" | ".join(PROCESSES)} |
|---|{"---|" * len(PROCESSES)}
{cpu}

![CPU time by process]({plots}/cpu.svg)

## Latency as load grows

Requests arrive at random at a share of the measured capacity, whether or not earlier ones are answered; latency counts
from the moment at which a request was due. The limits are the default ones: the gateway serves 1024 requests at once,
and the hot path queues 65,536 tokens; what is beyond either is refused with 503 and `Retry-After`. The driver does not
repeat them. Each load lasts twice as long as what is counted, the second half: the first one fills the queue.

| load | arrivals/s | served/s | p50 ms | p99 ms | refused |
|---|---|---|---|---|---|
{curve}

![Latency and refusals by load]({plots}/load.svg)

## One tenant beside another

All three models, default settings. One key sends what it can, another one small requests: a chat of 8 tokens, or one
short text. Keys take turns, each has a share of what is free, and the models share the processors.

{_mixed_load_table(beside)}

The lists alone are {beside.texts_alone:.0f} texts a second, and {beside.texts_beside_chat:.0f} beside the chats.
"""


PROCESSES = ("hotpath", "gateway", "driver")


def _draw_load(axes: Axes, points: Sequence[LoadPoint]) -> None:
    loads = [100 * point.load for point in points]
    axes.plot(loads, [point.p99_ms for point in points], color=RUST, marker="o", label="p99")
    axes.plot(loads, [point.p50_ms for point in points], color=GOLD, marker="o", label="p50")
    axes.set(xlabel="load, % of capacity", ylabel="latency, ms", yscale="log")
    refused = axes.twinx()
    refused.bar(loads, [100 * point.refused for point in points], width=6, color=SOFT, alpha=0.5, label="refused")
    refused.set(ylabel="refused, %", ylim=(0, 100))
    axes.set_zorder(1)
    axes.patch.set_visible(False)
    axes.legend(loc="upper left", frameon=False)
