"""What must hold while the stack is under attack: it lives, is ready, serves others, and does not grow."""

import pathlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import psutil

from e2e import metrics
from e2e.chats import body, say
from e2e.vectors import MODEL
from soak.attacks import MODERATION
from stack.description import Stack

# A bystander's small requests, one after the other: what each may take on a machine that is busy with the attack.
LIMITS_S = {"embedding": 10.0, "moderation": 10.0, "chat": 20.0}
# Of what a service takes once everything was seen, the rest of the time may add so much.
GROWTH = 1.2
GROWTH_BYTES = 200 << 20
# When everybody has left, nothing of what they asked for is held or worked on any more.
REST_S = 30
AT_REST = (
    *(f"gateway_{what}" for what in ("inflight_requests", "streams", "replica_outstanding_calls")),
    "gateway_replica_outstanding_tokens",
    *(f"hotpath_{what}" for what in ("queued_tokens", "queued_inputs", "running_inputs", "queued_generations")),
    *(f"hotpath_{what}" for what in ("prefilling_generations", "decoding_rows", "parked_rows", "reserved_tokens")),
    "hotpath_format_text_bytes",
)
FAULTS = ('"level":"ERROR"', "panicked", "goroutine ", "overflowed its stack")


@dataclass
class Watch:
    """Everything that was seen."""

    stack: Stack
    started: float = field(default_factory=time.monotonic)
    memory: dict[str, list[tuple[float, int]]] = field(default_factory=dict)  # service → (seconds, bytes)
    waits: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in LIMITS_S})  # seconds
    failures: list[str] = field(default_factory=list)

    def look(self) -> None:
        """Note how much memory each service takes, and that it is the process that it was."""
        for service, pid in self.stack.pids.items():
            if not psutil.pid_exists(pid):
                self.failures.append(f"{service} is gone")
                continue
            family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
            taken = sum(rss(process) for process in family)
            self.memory.setdefault(service, []).append((time.monotonic() - self.started, taken))
        if httpx.get(f"{self.stack.url}/readyz", timeout=10).status_code != 200:
            self.failures.append(f"not ready after {time.monotonic() - self.started:.0f} s")

    def bystander(self, http: httpx.Client) -> None:
        """Ask for one small thing of each kind, as another tenant."""
        requests = {
            "embedding": ("/v1/embeddings", {"model": MODEL, "input": "a short text"}),
            "moderation": ("/v1/moderations", {"model": MODERATION, "input": "a short text"}),
            "chat": ("/v1/chat/completions", body(say("Hello!"), max_tokens=8)),
        }
        for name, (path, fields) in requests.items():
            began = time.monotonic()
            response = http.post(path, json=fields)
            took = time.monotonic() - began
            self.waits[name].append(took)
            if response.status_code != 200:
                self.failures.append(f"{name} of a bystander: {response.status_code} {response.text[:200]}")
            elif took > LIMITS_S[name]:
                self.failures.append(f"{name} of a bystander took {took:.1f} s, {LIMITS_S[name]:.0f} are allowed")

    def wait_for_rest(self) -> None:
        """Note what is still held some time after everybody has left."""
        end = time.monotonic() + REST_S
        while held := self.held():
            if time.monotonic() > end:
                self.failures.append(f"{REST_S} s after everybody has left: {held}")
                return
            time.sleep(0.5)

    def held(self) -> dict[str, float]:
        """What of AT_REST is not 0."""
        read = metrics.read(self.stack.metrics_url) | metrics.read(self.stack.hotpath_metrics_url)
        return {name: read[name] for name in AT_REST if read[name]}

    def judge(self) -> list[str]:
        """Everything that is wrong at the end."""
        found = list(self.failures)
        for service, samples in self.memory.items():
            third = len(samples) // 3
            if not third:
                continue
            parts = samples[third : 2 * third], samples[2 * third :]
            settled, last = (int(statistics.median(taken for _, taken in part)) for part in parts)
            if last > GROWTH * settled + GROWTH_BYTES:
                found.append(f"{service} grows: {settled >> 20} to {last >> 20} MiB")
        for service, log in self.stack.logs.items():
            lines = pathlib.Path(log).read_text(errors="replace").splitlines()
            found += [f"log of {service}: {line[:300]}" for line in lines if any(fault in line for fault in FAULTS)]
        return found


def rss(process: psutil.Process) -> int:
    """Resident bytes; 0 for one that has ended meanwhile."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def p(waits: Sequence[float], share: float) -> float:
    """A quantile; 0 of nothing."""
    return sorted(waits)[min(len(waits) - 1, int(share * len(waits)))] if waits else 0.0
