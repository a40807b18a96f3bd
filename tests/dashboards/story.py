"""Three minutes of a stack, in which something happens."""

import contextlib
import pathlib
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import httpx
import openai

from e2e import batches, chats, limits
from e2e.our_collector import OurCollector
from e2e.receivers import Receiver
from e2e.traffic import Traffic
from stack.description import Stack
from stack.native import NativeStack
from stack.prometheus import Prometheus, scaled
from stack.redis import Redis

PLANS = {
    "acme": "{requests_per_minute: 600000, tokens_per_minute: 100000000}",
    "globex": "{requests_per_minute: 600000, tokens_per_minute: 100000000}",
    "tiny": "{requests_per_minute: 60}",
}
CROWD, SAID_TOKENS = 24, 48
STEP_S = 1


@dataclass(frozen=True)
class Effort:
    """How long each part takes."""

    calm_s: float
    away_s: float
    batch_lines: int


FULL = Effort(calm_s=25, away_s=8, batch_lines=8000)
QUICK = Effort(calm_s=1, away_s=1, batch_lines=10)


@dataclass
class Watch:
    """Says what is going on, and notes when it began."""

    prometheus: Prometheus
    began: float = field(default_factory=time.time)
    happened: dict[str, float] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)

    def note(self, what: str) -> None:
        letter = chr(ord("a") + len(self.happened))
        self.happened[letter], self.told[letter] = self.now(), what

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.time() - self.began

    def ask(self, query: str) -> list[tuple[Mapping[str, str], list[tuple[float, float]]]]:
        """What a panel's query found since the beginning, in seconds since then."""
        found = self.prometheus.ask_range(scaled(query), self.began, time.time(), STEP_S)
        curves = [
            (each["metric"], [(moment - self.began, float(value)) for moment, value in each["values"]])
            for each in found
        ]
        numbers = [(labels, [point for point in curve if point[1] == point[1]]) for labels, curve in curves]
        return [(labels, curve) for labels, curve in numbers if curve]


@contextlib.contextmanager
def stage(prometheus: str, redis_program: str, folder: pathlib.Path) -> Iterator[tuple[NativeStack, Redis, Watch]]:
    """A stack with a Redis, our collector, and a Prometheus that watches all of them."""
    redis = Redis(redis_program, folder / "redis")
    redis.start()
    with contextlib.ExitStack() as closing:
        closing.callback(redis.stop)
        collector = closing.enter_context(OurCollector(folder / "collector"))
        gateway = {
            "tenants-file": limits.plans(folder, **PLANS),
            "redis-url": redis.url,
            "otlp-endpoint": collector.url,
            "trace-ratio": "1",
            "webhook-allow-networks": "127.0.0.0/8",
            "webhook-retries": "1s,2s",
        }
        native = NativeStack(folder / "stack", gateway=gateway, hotpath={"otlp-endpoint": collector.url})
        stack = native.start()
        closing.callback(native.stop)
        watching = closing.enter_context(Prometheus(prometheus, folder / "prometheus", stack, collector.metrics_url))
        yield native, redis, Watch(watching)


def play(native: NativeStack, redis: Redis, watch: Watch, effort: Effort) -> Iterator[str]:
    """Let it happen; tells what comes next."""
    stack = native.describe()
    sdk = openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.keys["acme"])
    with Traffic(stack), sdk, Receiver(answer=lambda number: 204 if number % 2 else 500) as receiver:
        sdk.webhooks.create(name="hook", url=receiver.url, event_types=["batch.completed"])
        yield "requests of all kinds, one after the other"
        time.sleep(effort.calm_s)
        watch.note("a batch")
        yield f"a batch of {effort.batch_lines} lines beside them"
        batch = batches.submit(sdk, [batches.embed(number) for number in range(effort.batch_lines)])
        time.sleep(effort.calm_s)
        watch.note("a crowd")
        yield f"{CROWD} chats at once"
        crowd(stack)
        batches.submit(sdk, [batches.embed(0)])
        time.sleep(effort.calm_s / 2)
        watch.note("hot path killed")
        yield "the hot path is killed, and started again"
        assert native.hotpath
        native.hotpath.kill()
        time.sleep(effort.away_s)
        native.start_hotpath()
        native.wait_ready()
        watch.note("hot path back")
        batches.submit(sdk, [batches.embed(0)])
        time.sleep(effort.calm_s)
        watch.note("Redis stopped")
        yield "Redis is stopped, and started again"
        redis.stop()
        time.sleep(effort.away_s)
        redis.start()
        watch.note("Redis back")
        batches.submit(sdk, [batches.embed(0)])
        time.sleep(effort.calm_s)
        batches.ended(sdk, batch)


def crowd(stack: Stack) -> None:
    """Chats of another tenant, all at once, and wait for them."""

    def chat(number: int) -> None:
        said = chats.body(chats.say(f"Tell a story of the number {number}."), max_tokens=SAID_TOKENS, stream=True)
        with limits.client(stack, "globex") as http, contextlib.suppress(httpx.HTTPError):
            http.post("/v1/chat/completions", json=said)

    threads = [threading.Thread(target=chat, args=[number]) for number in range(CROWD)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
