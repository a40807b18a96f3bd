"""What is asked of the simulator: one scenario for each figure of docs/scale.md.

Replicas have one core. Loads are shares of what one replica can do of this traffic, which is asked first.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

MEDIAN_PROMPT, MEDIAN_REPLY = 80, 60  # tokens
TENANTS = 8
CHATS = {
    "prompt": {"lognormal": {"median": MEDIAN_PROMPT, "sigma": 0.7, "most": 800}},
    "output": {"lognormal": {"median": MEDIAN_REPLY, "sigma": 0.7, "most": 400}},
    "spare_tokens": 200,
    "tenants": TENANTS,
}
RETURNS: dict[str, Any] = {
    "share": 0.6,
    "think_s": 10,
    "question": {"lognormal": {"median": 20, "sigma": 0.7, "most": 200}},
}
TEXTS = {"prompt": {"lognormal": {"median": 22, "sigma": 0.6, "most": 256}}, "tenants": TENANTS}
BURSTS: dict[str, Any] = {"times": 4, "for_s": 5, "after_s": 20}
POLICIES = ("random", "round_robin", "least_of_two", "affinity")
LIMIT_MS = 2000  # what p99 of the first token may be, where replicas are counted
GROWS_MS = 20_000  # beyond this p99 says how long the simulation was: the queue grows

START_S = 7.2  # from the start of a process until it has proved its models, as docs/architecture.md says

Scenario = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much is simulated."""

    replica_seconds: int  # of each scenario, about
    most_seconds: int
    warmup_s: int
    loads: tuple[float, ...]
    fleet: int  # replicas where the number of them is not what is asked
    fleets: tuple[int, ...]
    text_seconds: int


FULL = Effort(
    replica_seconds=2400,
    most_seconds=1500,
    warmup_s=40,
    loads=(0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
    fleet=8,
    fleets=(1, 2, 4, 8, 32, 128, 1000),
    text_seconds=60,
)
QUICK = Effort(
    replica_seconds=60,
    most_seconds=60,
    warmup_s=5,
    loads=(0.5, 0.9),
    fleet=2,
    fleets=(1, 4),
    text_seconds=2,
)


def chats(rate_per_s: float, **changes: Any) -> list[dict[str, Any]]:
    return [{"synthetic": {"rate_per_s": rate_per_s, **CHATS, "returns": RETURNS, **changes}}]


def texts(rate_per_s: float, **changes: Any) -> list[dict[str, Any]]:
    return [{"synthetic": {"rate_per_s": rate_per_s, **TEXTS, **changes}}]


def scenario(
    effort: Effort, name: str, replicas: int, policy: str, traffic: Sequence[Mapping[str, Any]], **changes: Any
) -> Scenario:
    """A scenario of about as much work as any other, but for the largest fleets."""
    seconds = min(max(effort.replica_seconds / replicas, 30), effort.most_seconds) + effort.warmup_s
    return {
        "name": name,
        "replicas": replicas,
        "policy": policy,
        "traffic": traffic,
        "seconds": seconds,
        "warmup_s": effort.warmup_s,
        **changes,
    }


def capacity(effort: Effort, rate_per_s: float) -> Scenario:
    """One replica, which does so much or does not."""
    seconds = effort.warmup_s + effort.most_seconds / 2
    return scenario(effort, "capacity", 1, "affinity", chats(rate_per_s), seconds=seconds)


def is_capacity(report: Mapping[str, Any]) -> bool:
    """Whether that is something that it can do for long: its queue does not grow."""
    lost = sum(report["outcomes"].values()) - report["outcomes"]["done"]
    return bool(lost == 0 and report["first_token_ms"]["p99"] < 10 * LIMIT_MS)


def capacity_of_texts(effort: Effort) -> Scenario:
    """What one replica's encoder does when far more comes than that. A queue with a bound would let short texts in."""
    unbounded = {"max_queued_tokens": 10**12, "max_wait_s": 1e6, "timeout_s": 1e6}
    times: dict[str, Any] = {"seconds": 20, "warmup_s": 2}
    return scenario(effort, "capacity of texts", 1, "affinity", texts(1000), settings=unbounded, **times)


def policies(effort: Effort, capacity: float) -> list[Scenario]:
    """Each policy at each load, and at each load in bursts."""
    rate = capacity * effort.fleet
    return [
        scenario(effort, f"{kind} {load}", effort.fleet, policy, chats(rate * load, **changes))
        for kind, changes in (("even", {}), ("bursts", {"bursts": BURSTS}))
        for policy in POLICIES
        for load in (effort.loads if kind == "even" else (0.5, 0.7))
    ]


def encoders(effort: Effort, capacity: float) -> list[Scenario]:
    """The same of texts, where nothing belongs together."""
    times: dict[str, Any] = {"seconds": effort.text_seconds + 2, "warmup_s": 2}
    return [
        scenario(effort, f"texts {load}", effort.fleet, policy, texts(capacity * effort.fleet * load), **times)
        for policy in POLICIES[:3]
        for load in (0.5, 0.7, 0.9, 0.95)
    ]


def sizes(effort: Effort, capacity: float) -> list[Scenario]:
    """Each size of a fleet at each load."""
    return [
        scenario(effort, f"size {replicas} {load}", replicas, "affinity", chats(capacity * replicas * load))
        for replicas in effort.fleets
        for load in (effort.loads if replicas < 100 else [load for load in effort.loads if load in (0.7, 0.9)])
    ]


def gateways(effort: Effort, capacity: float) -> list[Scenario]:
    """Gateways that do not know of each other."""
    rate = capacity * effort.fleet * 0.8
    return [
        scenario(effort, f"gateways {count}", effort.fleet, "affinity", chats(rate), gateways=count)
        for count in (1, 4, 16)
    ]


def updates(effort: Effort, capacity: float) -> list[Scenario]:
    """A rolling update, so many replicas at a time, beside none."""
    found = []
    for load in (0.5, 0.7):
        traffic = chats(capacity * effort.fleet * load)
        for at_once in (0, 1, 2):
            troubles = [{"rolling_update": {"from_s": effort.warmup_s, "at_once": at_once}}] if at_once else []
            name = f"update {load} {at_once}"
            times = {"seconds": effort.warmup_s + (240 if effort.fleet > 4 else 30)}
            more: dict[str, Any] = {"troubles": troubles, "settings": {"start_s": START_S}, **times}
            found.append(scenario(effort, name, effort.fleet, "affinity", traffic, **more))
    return found


def failures(effort: Effort, capacity: float) -> list[Scenario]:
    """One of the replicas is slow, fails or dies."""
    seconds = effort.warmup_s + (300 if effort.fleet > 4 else 30)
    whole: dict[str, Any] = {"replica": 0, "from_s": effort.warmup_s, "for_s": 1e6}
    troubles: dict[str, list[dict[str, Any]]] = {
        "nothing": [],
        "slow": [{"slow": {**whole, "times": 3}}],
        "fails": [{"fails": {**whole, "share": 1}}],
        "dies": [{"dies": {"replica": 0, "at_s": effort.warmup_s + 1}}],
    }
    traffic = chats(capacity * effort.fleet * 0.6)
    return [
        scenario(effort, f"trouble {name}", effort.fleet, policy, traffic, troubles=found, seconds=seconds)
        for name, found in troubles.items()
        for policy in POLICIES
    ]


def everything(effort: Effort, of_chats: float, of_texts: float) -> list[Scenario]:
    return [
        *policies(effort, of_chats),
        *encoders(effort, of_texts),
        *sizes(effort, of_chats),
        *gateways(effort, of_chats),
        *updates(effort, of_chats),
        *failures(effort, of_chats),
    ]
