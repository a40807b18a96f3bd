"""Shows what was simulated: docs/scale.md and its plots, from the figures alone."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes

from bench.page import table
from plots import GOLD, RUST, SOFT, save_plot
from scale import check
from scale.experiments import (
    BURSTS,
    GROWS_MS,
    LIMIT_MS,
    MEDIAN_PROMPT,
    MEDIAN_REPLY,
    POLICIES,
    RETURNS,
    START_S,
    TENANTS,
    Effort,
)
from scale.program import Report

NAMES = {
    "random": "any",
    "round_robin": "in turn",
    "least_of_two": "less loaded of two",
    "affinity": "the gateway's: home, else less loaded of two",
}
LOOKS = {"random": (SOFT, ":"), "round_robin": (SOFT, "-"), "least_of_two": (GOLD, "-"), "affinity": (RUST, "-")}
LOST = ("refused", "waited", "late", "unavailable", "lost", "failed")

Found = Mapping[tuple[str, str], Report]  # by name and policy


class Page:
    """All reports, and what the page says of them."""

    def __init__(
        self,
        reports: Sequence[Report],
        effort: Effort,
        capacity: float,
        costs: Mapping[str, Any],
        checked: pathlib.Path,
    ) -> None:
        """Take the reports, with requests a second that one replica can do, and where the check's figures are."""
        self._found: Found = {(report["name"], report["policy"]): report for report in reports}
        self._effort, self._costs, self._checked = effort, costs, checked
        self.capacity = capacity
        self._events = sum(report["events"] for report in reports)
        self._took_s = sum(report["took_s"] for report in reports)
        self._count = len(reports)

    def write(self, path: pathlib.Path) -> None:
        folder = path.with_suffix("")
        save_plot(folder / "policies.svg", self._draw_policies)
        save_plot(folder / "sizes.svg", self._draw_sizes)
        path.write_text(self._text())

    # -- figures

    def _of(self, name: str, policy: str = "affinity") -> Report:
        return self._found[name, policy]

    def _first(self, name: str, policy: str = "affinity", of: str = "p99") -> float:
        return float(self._of(name, policy)["first_token_ms"][of])

    def rate_within(self, replicas: int) -> float | None:
        """Requests a second of each replica at which p99 of the first token is LIMIT_MS, on a line between two
        loads."""
        below: tuple[float, float] | None = None
        for load in self._effort.loads:
            report = self._found.get((f"size {replicas} {load}", "affinity"))
            if report is None:
                continue
            rate, p99 = load * self.capacity, float(report["first_token_ms"]["p99"])
            if p99 > LIMIT_MS or _lost(report):
                if below is None:
                    return None
                part = (LIMIT_MS - below[1]) / max(p99 - below[1], 1e-9)
                return below[0] + min(max(part, 0.0), 1.0) * (rate - below[0])
            below = rate, p99
        return below[0] if below else None

    def replicas_for(self, rate_per_s: float) -> int | None:
        """How many replicas do so much, by the sizes that were tried."""
        sizes = [(size, rate) for size in self._effort.fleets if (rate := self.rate_within(size))]
        for (size, rate), (larger, other) in pairwise(sizes):
            if size * rate < rate_per_s <= larger * other:
                each = rate + (other - rate) * (rate_per_s - size * rate) / (larger * other - size * rate)
                return -int(-rate_per_s // each)
        return sizes[0][0] if sizes and rate_per_s <= sizes[0][0] * sizes[0][1] else None

    # -- plots

    def _draw_policies(self, axes: Axes) -> None:
        for policy in POLICIES:
            reports = [self._of(f"even {load}", policy) for load in self._effort.loads]
            color, style = LOOKS[policy]
            axes.plot(
                [100 * load for load in self._effort.loads],
                [report["first_token_ms"]["p99"] for report in reports],
                color=color,
                linestyle=style,
                marker="o",
                label=NAMES[policy],
            )
        axes.set(xlabel=f"load of {self._effort.fleet} replicas, % of what they can do", ylabel="first token, p99, ms")
        axes.set(ylim=(None, GROWS_MS))
        axes.set_yscale("log")
        axes.legend(loc="lower right", frameon=False)

    def _draw_sizes(self, axes: Axes) -> None:
        sizes = [size for size in self._effort.fleets if self.rate_within(size)]
        axes.plot(sizes, [self.rate_within(size) or 0.0 for size in sizes], color=RUST, marker="o")
        axes.axhline(self.capacity, color=SOFT, linestyle=":", label="what a replica can do at all")
        axes.set(xlabel="replicas", ylabel="requests a second of each", ylim=(0, None))
        if sizes:
            axes.set_xscale("log")
        axes.legend(loc="lower right", frameon=False)

    # -- words

    def _text(self) -> str:
        decoder = self._costs["decoder"]
        fleet = self._effort.fleet
        speed = self._events / max(self._took_s, 1e-9)
        return f"""# How a fleet behaves

Written by `make simulate`. **Everything here is simulated**, but for [the check](#how-far-off-it-is) and the costs,
which are measured.
The planners are pure code, so the simulator (`rust-hotpath/crates/simulation`) runs the hot path's own, and the
gateway's rule, which is held to
the same [cases](../tests/cases/README.md) as the gateway's code; instead of a processor it has a formula. So it
answers what no two cores can
run: {max(self._effort.fleets):,} hot paths, one that dies, an update of all.

- Costs: {self._costs["processor"]}; {self._costs["source"]}.
  A run of the decoder takes {decoder["run_us"] / 1e3:.2f} ms, {decoder["row_us"] / 1e3:.2f} ms for each row,
  {decoder["prompt_token_us"] / 1e3:.2f} ms
  for each token of a prompt, and {decoder["cached_token_us"]:.1f} µs for each token that a row has in the cache
- Traffic: chats, whose conversations begin at any time (a Poisson process); prompts of {MEDIAN_PROMPT} tokens and
  replies of {MEDIAN_REPLY} at the median, both lognormal;
  {RETURNS["share"]:.0%} of the replies are answered, after {RETURNS["think_s"]} s in the mean; {TENANTS} tenants
- Replicas of one core, default settings, without drafts. One can do {self.capacity:.2f} such requests a second
  ({self._of("capacity")["output_tokens_per_s"]:.0f} tokens of replies)
  for long, and its queue does not grow: loads below are shares of that
- {self._count} scenarios, {self._events / 1e6:.1f} million events, {self._took_s / 60:.1f} minutes:
  {speed / 1e3:.0f} thousand events a second

Numbers are this traffic's and this processor's. What is worth taking along is how they compare,
where they differ by more than a tenth: each is of one seed. "Grows" stands for
a queue that grows, or refuses, as long as so much comes: no
figure means anything there.

## Which rule

{self._rules()}

![First token by load and rule](scale/policies.svg)

{self._policy_table()}

{self._bursts()}

Texts for the encoder, where nothing belongs together and a text is done in milliseconds, p99 of the latency of
{fleet} replicas, ms:

{self._text_table()}

{self._gateways()}

## How many replicas

{self._size_words()}

![Requests a second of each replica](scale/sizes.svg)

{self._size_table()}

## What an update costs

{self._updates()}

## What a bad replica costs

{self._failures()}

## How far off it is

{self._check()}

## What it leaves out

- HTTP, TLS, the tokenizer's and the gateway's processors: a request has a fixed time on its way. Where these are
  short of processors, look at
  [the gateway's benchmarks](benchmarks-gateway.md) first.
- Noise. A real run takes longer now and then, for reasons that no model has; so real p99 are higher where load is low.
- What texts say: drafts, formats, stop words. Readers that are slow, clients that go away or repeat what was refused.
- Memory bandwidth that replicas of one machine share.

## Ask it something else

<!-- make -->
```console
$ make simulate
$ make simulate-check
```

The first one writes this page ({self._took_s / 60:.0f} minutes of it on one core are the simulator's), the second
one [the check](#how-far-off-it-is), for which the machine has to be quiet.
With costs of another processor (`cd tests && PYTHONPATH=. ../.venv/bin/python -m scale.calibrate` measures them into
`rust-hotpath/crates/simulation/costs.json`) all figures are made anew. One scenario:

```text
$ echo '{{"name": "mine", "replicas": 3, "policy": "affinity", "seconds": 600, "traffic": [{{"synthetic":
    {{"rate_per_s": 2, "prompt": {{"exactly": 500}}, "output": {{"exponential": {{"mean": 80, "most": 400}}}}}}}}]}}' |
    tr -d '\\n' | rust-hotpath/target/release/simulate
```

[`scenario.rs`](../rust-hotpath/crates/simulation/src/scenario.rs) and
[`traffic.rs`](../rust-hotpath/crates/simulation/src/traffic.rs) say what there is to ask: policies, gateways,
settings, bursts,
conversations, batch work, and `troubles`. `--traffic FILE` replays what was recorded in place of a scenario's
`traffic`, which may be `[]` then. A JSON object a line:

```json
{{"at_s": 0.25, "prompt_tokens": 180, "output_tokens": 64, "conversation": 7, "tenant": 0}}
```

`output_tokens` 0 is a text for the encoder; `conversation` may be left out. [The collector's
records](collector.md#records-of-usage) have all but that:

```text
jq -c '.resourceLogs[].scopeLogs[].logRecords[] | (.timeUnixNano | tonumber / 1e9) as $at |
  [.attributes[] | {{(.key): (.value | to_entries[0].value)}}] | add | select(."gen_ai.usage.input_tokens") |
  {{at_s: $at, prompt_tokens: (."gen_ai.usage.input_tokens" | tonumber),
    output_tokens: (."gen_ai.usage.output_tokens" // 0 | tonumber)}}' usage.jsonl |
  jq -cs 'sort_by(.at_s) | .[0].at_s as $start | .[] | .at_s -= $start' > traffic.jsonl
```
"""

    def _rules(self) -> str:
        fleet, load = self._effort.fleet, self._effort.loads[len(self._effort.loads) // 3]
        name = f"even {load}"
        of = {policy: _p99(self._of(name, policy)) for policy in POLICIES}
        reused = {policy: self._of(name, policy)["reused_share"] for policy in POLICIES}
        each = {policy: self._of(name, policy)["token_ms"]["p50"] for policy in POLICIES}
        return f"""At {load:.0%} of what {fleet} replicas can do, one first token of a hundred comes later than
{of["affinity"]} ms by the gateway's rule, {of["least_of_two"]} ms with the less loaded of two alone,
{of["round_robin"]} ms in turn, and {of["random"]} ms with any. What the rule saves is work: conversations that come
home have {reused["affinity"]:.0%} of their prompts' tokens computed already
({reused["least_of_two"]:.0%} without a home), and who is answered waits {each["affinity"]:.1f} ms for each further
token, and not {each["least_of_two"]:.1f} ms. Where nothing belongs together, two choices do what they are known for."""

    def _policy_table(self) -> str:
        loads = self._effort.loads
        header = ["first token, p99, ms, by load", *(f"{load:.0%}" for load in loads), f"reused at {loads[-1]:.0%}"]
        lines = [
            [
                NAMES[policy],
                *(_p99(self._of(f"even {load}", policy)) for load in loads),
                f"{self._of(f'even {loads[-1]}', policy)['reused_share']:.0%}",
            ]
            for policy in POLICIES
        ]
        return table(header, lines)

    def _bursts(self) -> str:
        header = ["first token, p99, ms", "50 %, even", "50 %, bursts", "70 %, even", "70 %, bursts"]
        names = [
            name for load in (0.5, 0.7) if load in self._effort.loads for name in (f"even {load}", f"bursts {load}")
        ]
        lines = [[NAMES[policy], *(_p99(self._of(name, policy)) for name in names)] for policy in POLICIES]
        of = f"{BURSTS['times']} times as much for {BURSTS['for_s']} s, after {BURSTS['after_s']} s in the mean"
        return f"In bursts ({of}) the mean load is the same:\n\n{table(header[: 1 + len(names)], lines)}"

    def _text_table(self) -> str:
        loads = (0.5, 0.7, 0.9, 0.95)
        lines = [
            [NAMES[policy], *(_p99(self._of(f"texts {load}", policy), "latency_ms") for load in loads)]
            for policy in POLICIES[:3]
        ]
        return table(["by load", *(f"{load:.0%}" for load in loads)], lines)

    def _gateways(self) -> str:
        counts = (1, 4, 16)
        figures = [f"{self._first(f'gateways {count}'):.0f} ms with {count}" for count in counts]
        return f"""Gateways that do not know of each other send by what replicas tell four times a second, and by
their own calls. At 80 % of the load, p99 of the
first token is {", ".join(figures)}."""

    def _size_words(self) -> str:
        rates = {size: rate for size in self._effort.fleets if (rate := self.rate_within(size))}
        if not rates:
            return f"With no size of a fleet is p99 of the first token within {LIMIT_MS} ms at any load that was tried."
        small, large = min(rates), max(rates)
        wanted = [rate for rate in (1, 10, 100, 500) if self.replicas_for(rate)]
        needed = ", ".join(f"{self.replicas_for(rate)} for {rate}" for rate in wanted)
        why = (
            "In a larger fleet there is always one that is free."
            if rates[large] >= rates[small]
            else """One alone has all conversations at hand, and nothing to share out. In a fleet homes are drawn by
a hash, which is not even, and a conversation leaves its home only when that has more than twice the least load and
4,096 tokens: what that saves in work it costs in waiting, so each is to be loaded a little less."""
        )
        return f"""If 99 of 100 first tokens are to come within {LIMIT_MS / 1e3:g} s and nothing is refused,
{small} replica may have {rates[small]:.2f} requests a second ({rates[small] / self.capacity:.0%} of what it can
do), and each of {large:,} may have {rates[large]:.2f} ({rates[large] / self.capacity:.0%}). {why}
Requests a second need so many replicas: {needed}. For other traffic, count its tokens."""

    def _size_table(self) -> str:
        loads = self._effort.loads
        lines = []
        for size in self._effort.fleets:
            cells = []
            for load in loads:
                report = self._found.get((f"size {size} {load}", "affinity"))
                cells.append(_p99(report) if report else "")
            rate = self.rate_within(size)
            lines.append([f"{size:,}", *cells, f"{rate:.2f}" if rate else "–"])
        header = ["replicas", *(f"{load:.0%}" for load in loads), f"requests/s of each within {LIMIT_MS} ms"]
        return f"First token, p99, ms, by load:\n\n{table(header, lines)}"

    def _updates(self) -> str:
        lines = []
        for load in (0.5, 0.7):
            for at_once in (0, 1, 2):
                report = self._of(f"update {load} {at_once}")
                took = report["updated_s"] - self._effort.warmup_s
                lines.append(
                    [
                        f"{load:.0%}",
                        str(at_once) if at_once else "no update",
                        f"{took:.0f}" if at_once else "",
                        str(_lost(report)),
                        f"{report['first_token_ms']['p50']:.0f}",
                        _p99(report),
                        f"{report['reused_share']:.0%}",
                    ]
                )
        header = ["load", "at a time", "takes, s", "requests lost", "first token, p50, ms", "p99, ms", "reused"]
        return f"""Each of {self._effort.fleet} replicas is drained, ended and started again ({START_S:g} s until
it has proved its models, its cache empty), and then the next one:

{table(header, lines)}

While one is away the others have its work, and conversations that had a home there are read anew elsewhere."""

    def _failures(self) -> str:
        names = {
            "nothing": "nothing is wrong",
            "slow": "one takes three times as long",
            "fails": "one fails at every call, at once",
            "dies": "one dies, and is back",
        }
        lines = []
        for name, words in names.items():
            for policy in POLICIES:
                report = self._of(f"trouble {name}", policy)
                lines.append(
                    [
                        words,
                        NAMES[policy],
                        f"{report['first_token_ms']['p50']:.0f}",
                        _p99(report),
                        f"{_lost(report)} of {sum(report['outcomes'].values())}",
                    ]
                )
        header = ["what", "rule", "first token, p50, ms", "p99, ms", "requests that came to nothing"]
        slow = {policy: _p99(self._of("trouble slow", policy)) for policy in POLICIES}
        return f"""Of {self._effort.fleet} replicas, at 60 % of their load:

{table(header, lines)}

A slow replica is what turns are worst at: each gets as much, whatever it has to do (p99: {slow["round_robin"]};
with the less loaded of two {slow["least_of_two"]}, by the gateway's rule {slow["affinity"]}). One that fails at
once looks idle, and would get
most calls: after five failures it is ejected, for a second and then for twice as long each time."""

    def _check(self) -> str:
        if not self._checked.exists():
            return """**Not measured yet.** `make simulate-check simulate`, on a quiet machine, sends one trace to a
real gateway with one hot path and with two, and writes
the errors here."""
        found = json.loads(self._checked.read_text())
        busy = " **Others worked on the machine meanwhile: these errors are an upper bound.**" if found["noisy"] else ""
        header = ["replicas × load of each", "", "measured", "simulated", "error"]
        return f"""One trace (a Poisson process, prompts of 64 tokens and replies of 32 at the median, for
{found["seconds"]:g} s) went to the simulator, and to a real gateway with one
hot path and with two, of one thread each and without drafts. Gateway and client have their processors from the same
machine, which two hot paths leave none of.
{found["machine"]}; {found["date"]}, commit {found["commit"]}.{busy}

{table(header, check.lines(found["rows"]))}"""


def _p99(report: Report, what: str = "first_token_ms") -> str:
    """A cell of p99, in milliseconds."""
    p99 = report[what]["p99"]
    refused = sum(report["outcomes"][name] for name in ("refused", "waited", "late"))
    if p99 > GROWS_MS or refused > 0.01 * sum(report["outcomes"].values()):
        return "grows"
    return f"{p99:.0f}" if p99 > 100 else f"{p99:.1f}"


def _lost(report: Report) -> int:
    return sum(report["outcomes"][name] for name in LOST)
