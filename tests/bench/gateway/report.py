"""Shows what was measured: docs/benchmarks-gateway.md and its plot, from one run's figures alone."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from bench.gateway.beside import HEADER
from bench.gateway.effort import Effort
from bench.gateway.neighbours import CHAT_TOKENS, FLOOD, FLOODING, BesideFlood
from bench.gateway.overload import CONNECTIONS, OVERLOAD, PEAK_CONNECTIONS, SERVICES, WORDS, Held, Overload
from bench.gateway.peers import CHAT, GATEWAY, PLAIN, TEXT, Taken
from bench.gateway.peers import CONNECTIONS as PEER_CONNECTIONS
from bench.gateway.policy import LIMITS, MEMORY, REDIS, Added
from bench.gateway.replicas import ALLOWED_PER_S, GATEWAYS
from bench.gateway.replicas import FLOOD as SHARED_FLOOD
from bench.gateway.streams import AT_ONCE, Events
from bench.gateway.traces import ALL, OFF, SOME, Traced
from bench.litellm_install import VERSION
from bench.machine import Occasion
from bench.page import Row, markdown, table
from plots import GOLD, RUST, save_plot

# The limit of the ratio beside the flood.
NEIGHBOUR_GOALS = {TEXT: "≤ 1.5", CHAT: "≤ 3"}
# Of the latency that limits add, by where their numbers are kept.
LATENCY_GOALS = {MEMORY: "≤ 150 µs", REDIS: "≤ 1,000 µs"}


@dataclasses.dataclass(frozen=True)
class Results:
    """One run."""

    occasion: Occasion
    effort: Effort
    taken: Mapping[str, Mapping[str, Taken]]  # by work and side
    policy: Mapping[str, Mapping[str, Added]]  # by where the numbers are kept, and work
    traces: Mapping[str, Mapping[str, Traced]]  # by work, and by which part of the requests is recorded
    accepted: float | None  # by gateways that share a limit, ÷ allowed; None: there was no Redis
    events: Sequence[Events]
    beside: Mapping[str, BesideFlood]  # by work
    overload: Overload

    @property
    def has_litellm(self) -> bool:
        return any(side not in (GATEWAY, PLAIN) for side in self.taken[TEXT])


def rows(results: Results) -> list[Row]:
    """The figures that say whether the design holds."""
    over = results.overload
    found = []
    for work, sides in results.taken.items():
        for side, taken in sides.items():
            if side != GATEWAY:
                goal = "" if side == PLAIN else "≥ 100"
                found.append(
                    Row(f"requests/s per core, {work}", side, f"{taken.ratio:.{1 if side == PLAIN else 0}f}", goal)
                )
    added = [(place, work, each) for place, works in results.policy.items() for work, each in works.items()]
    for place, work, each in added:
        what = f"CPU time of {work}, all limits in {place}"
        found.append(Row(what, "the one that is required", f"{each.cpu_ratio:.2f}", "≤ 1.15"))
    for place, work, each in added:
        what = f"latency that limits in {place} add to {work}, p99"
        found.append(Row(what, "the one that is required", f"{1e3 * each.added_p99_ms:.0f} µs", LATENCY_GOALS[place]))
    for work, parts in results.traces.items():
        for part, goal in ((SOME, "≤ 1.03"), (ALL, "")):
            what = f"CPU time of {work}, traces of {part if part == ALL else f'{part} of all'}"
            found.append(Row(what, "no traces", f"{parts[part].ratio:.2f}", goal))
    if results.accepted is not None:
        what = f"accepted by {GATEWAYS} gateways on one Redis, from an empty bucket"
        found.append(Row(what, "what the plan allows", f"{results.accepted:.3f}", "0.99 to 1.00"))
    for events in results.events:
        goal = "≥ 20,000" if events.pace is AT_ONCE else ""
        found.append(Row(f"events of streams/s per core, {events.pace.name}", "", f"{events.per_core_s:,.0f}", goal))
    for work, beside in results.beside.items():
        what = f"p99 of {work if work == TEXT else 'a short chat'} beside a tenant at {FLOOD} times its plan"
        found.append(Row(what, "alone", f"{beside.ratio:.2f}", NEIGHBOUR_GOALS[work]))
    return [
        *found,
        Row(f"served at {OVERLOAD} times the load", "peak", f"{over.ratio:.2f}", "≥ 0.9"),
        Row("refusals there, p99", "", f"{over.refusal_p99_ms:.1f} ms", "≤ 10 ms"),
        *(
            Row(f"memory of {SERVICES[service]} there, second half", "first half", f"{held.ratio:.2f}", "≤ 1.1")
            for service, held in over.held.items()
        ),
    ]


def write(results: Results, document: pathlib.Path) -> None:
    """Write the document, and the plot into the folder beside it that has its name."""
    plots = document.with_suffix("")
    save_plot(plots / "cpu.svg", lambda axes: _draw_cpu(axes, results.taken))
    document.write_text(_markdown(results, plots.name))


def _markdown(results: Results, plots: str) -> str:
    effort, over = results.effort, results.overload
    return f"""# Benchmarks of the gateway

Written by `make bench`; [embeddings](benchmarks.md) and [generation](benchmarks-generation.md) have pages of their own.
Ratios are taken within this one run, all sides in turn, and are the medians of {effort.rounds} rounds; absolute numbers
are this machine's.

{results.occasion.markdown()}
- Driver: one thread of Go on the same machine, `nullengine load`
- CPU time is each process's own, with its children, in user and kernel mode: driver and engine are not in it
{_peer(results)}

{markdown(rows(results))}

## A request

Before an engine that answers at once, over {PEER_CONNECTIONS} connections that each wait for their replies. The gateway
checks the key and the plan, decodes the request and makes another one of it for the engine's gRPC; a vector is asked
for in base64, as the official clients do. Go's `httputil.ReverseProxy` hands on what it gets, and knows nothing of it.
The engine speaks OpenAI's HTTP to the other proxies.

{_requests(results)}

![CPU time by side]({plots}/cpu.svg)

## Limits

The same requests of two tenants. One has every limit there is, for all its keys and for each ({len(LIMITS)} each), of
which none is reached, in the memory of its gateway or in a Redis beside it; the other one has the limit of requests
that every plan has, in memory. CPU time is the gateway's, over {PEER_CONNECTIONS} connections; latency that of one
client, who is the one and the other in turn. The p99s of two halves of like requests differ too: less than that cannot
be told from nothing.{"" if REDIS in results.policy else " There was no redis-server."}

{_policy(results)}
{_shared(results)}
## Traces

The same requests, of gateways that record no traces, those of every hundredth request, or all, and send them to a
collector that takes everything. CPU time is the gateway's, the sending included.

{_traces(results)}

## An event of a stream

Each token is one event, written and flushed by itself.

{_events(results)}

## One tenant beside another

The whole stack, default settings. One tenant sends {FLOOD} times what its plan allows, another one sends a request when
its last one is answered: {TEXT}, or a chat of {CHAT_TOKENS} tokens. What the plan allows is served beside it, the rest
is refused with 429.

{_neighbours(results)}

A chat takes so long that a round has some tens of them: their p99 is nearly the slowest.

## Too much

The whole stack, default settings, texts of {WORDS} words. The peak is what {PEAK_CONNECTIONS} clients get that wait for
their replies: {over.peak_per_s:.0f} a second. At {OVERLOAD} times as many, over up to {CONNECTIONS:,} connections,
{over.goodput_per_s:.0f} a second are served and {over.refused:.0%} refused with 503, at the median after
{over.refusal_p50_ms:.1f} ms. Latency counts from when a request is due, the driver's own delays included, while
inference has all processors. Of these the driver takes {over.driver_cores:.2f} then and the gateway
{over.gateway_cores:.2f}, which the hot path ({over.hotpath_cores:.2f}) lacks: the driver's part is nobody's loss where
clients are elsewhere. Resident memory is that of all overloads of the run, one after the other: in their first and
second half the gateway held {_held(over.held["gateway"])} at the median, the hot path {_held(over.held["hotpath"])}.
"""


def _held(held: Held) -> str:
    return f"{held.first_mib:.0f} and {held.second_mib:.0f} MiB"


def _peer(results: Results) -> str:
    if not results.has_litellm:
        return "- Peer: LiteLLM's proxy was not there; `make litellm` installs it, and adds the rows against it"
    return f"""- Peer: LiteLLM's proxy {VERSION}, one worker process with one key, no database, no limits and no
  logs, with its default server (uvicorn) and its fastest (granian)"""


def _requests(results: Results) -> str:
    lines = [
        [
            work,
            side,
            f"{each.per_s:,.0f}",
            f"{each.cpu_us:,.0f}",
            f"{1e6 / each.cpu_us:,.0f}",
            f"{each.p50_ms:.1f}",
            f"{each.p99_ms:.1f}",
            "" if side == GATEWAY else f"{each.ratio:.1f}",
        ]
        for work, sides in results.taken.items()
        for side, each in sides.items()
    ]
    header = ("", "side", "requests/s", "CPU µs for one", "requests/s per core", "p50 ms", "p99 ms", "gateway ÷ it")
    return table(header, lines)


def _policy(results: Results) -> str:
    lines = [
        [
            f"{work}, in {place}",
            f"{each.plain_cpu_us:.0f}",
            f"{each.limited_cpu_us:.0f}",
            f"{each.cpu_ratio:.2f}",
            f"{1e3 * each.plain_p99_ms:.0f}",
            f"{1e3 * each.added_p50_ms:.0f}",
            f"{1e3 * each.added_p99_ms:.0f}",
            f"{1e3 * each.jitter_p99_ms:.0f}",
        ]
        for place, works in results.policy.items()
        for work, each in works.items()
    ]
    header = (
        "",
        "CPU µs, one limit",
        "all",
        "ratio",
        "p99 µs, one limit",
        "added p50 µs",
        "added p99 µs",
        "of like halves",
    )
    return table(header, lines)


def _traces(results: Results) -> str:
    lines = [
        [work, *(f"{parts[part].cpu_us:.0f}" for part in (OFF, SOME, ALL))]
        + [f"{parts[part].ratio:.3f}" for part in (SOME, ALL)]
        for work, parts in results.traces.items()
    ]
    return table(("", "CPU µs, no traces", SOME, ALL, f"{SOME} ÷ none", f"{ALL} ÷ none"), lines)


def _shared(results: Results) -> str:
    if results.accepted is None:
        return ""
    return f"""
{GATEWAYS} gateways share a limit of {ALLOWED_PER_S} requests a second in one Redis. Of {SHARED_FLOOD} times as many,
sent to both in turn, they accept {results.accepted:.3f} of what the limit allows, once its burst is used up.
"""


def _events(results: Results) -> str:
    lines = [
        [each.pace.name, str(each.pace.streams), f"{each.cpu_us:.1f}", f"{each.per_core_s:,.0f}"]
        for each in results.events
    ]
    return table(("tokens come", "streams", "CPU µs for one", "events/s per core"), lines)


def _neighbours(results: Results) -> str:
    lines = [
        [
            work if work == TEXT else f"a chat of {CHAT_TOKENS} tokens",
            f"{FLOODING[work][1]}/s",
            f"{each.flood_served_per_s:.1f}/s",
            f"{each.flood_refused:.0%}",
            *each.cells(),
        ]
        for work, each in results.beside.items()
    ]
    return table(("", "plan of the flood", "served of it", "refused", *HEADER), lines)


def _draw_cpu(axes: Axes, taken: Mapping[str, Mapping[str, Taken]]) -> None:
    sides = list(taken[TEXT])
    height = 0.38
    for offset, (work, color) in enumerate(((TEXT, RUST), (CHAT, GOLD))):
        values = [taken[work][side].cpu_us for side in sides]
        axes.barh([at + offset * height for at in range(len(sides))], values, height=height, color=color, label=work)
    axes.set_yticks([at + height / 2 for at in range(len(sides))], sides)
    axes.set(xlabel="CPU time for one request, µs", xscale="log")
    axes.invert_yaxis()
    axes.legend(loc="lower right", frameon=False)
