"""`make soak`, of durable work: batches whose processes are killed, stopped and cut off at random, and a verdict.

Every line must come out once, and what is charged must be the sum of the lines. Once with the embedded database and one
gateway, and once with PostgreSQL and two.
"""

import argparse
import contextlib
import pathlib
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import openai
from rich.console import Console

from e2e import limits
from e2e.batches import EMBEDDINGS, content, ended, request, submit
from e2e.vectors import MODEL
from stack.native import NativeStack
from stack.postgres import Postgres, postgres_programs
from stack.process import Process
from stack.redis import Redis, redis_server
from stack.waiting import StackError, wait_until

TEXTS = 8  # of a line, so that a batch lasts
STOPPED_S = 12  # longer than a lease
PLAN = "{requests_per_minute: 600000, batch: {requests_per_minute: 600000, tokens_per_day: 1000000000}}"
LIMIT_S = 900
CHARGED_S = 20  # more than what a dead gateway held stays
HOTPATH = {"model-names": MODEL}


class Site:
    """Gateways before one hot path, and what can happen to them."""

    def __init__(self, folder: pathlib.Path, postgres: Postgres | None, redis: Redis | None) -> None:
        settings: dict[str, str] = {"tenants-file": limits.plans(folder, acme=PLAN), "quota-lease": "3s"}
        if postgres and redis:
            settings |= {"database-url": postgres.url, "blobs": str(folder / "blobs"), "redis-url": redis.url}
        self.postgres = postgres
        self.gateways = [NativeStack(folder / "first", gateway=settings, hotpath=HOTPATH)]
        self.gateways[0].start()
        if postgres:
            engine = self.gateways[0].addresses["grpc"]
            self.gateways.append(NativeStack(folder / "second", gateway=settings, hotpath_address=engine))
            self.gateways[1].start()
        self.temporaries = (folder / "blobs" if postgres else self.gateways[0].data / "blobs") / "tmp"
        self.faults: dict[str, tuple[int, Callable[[random.Random], None]]] = {  # how likely, and what
            "a gateway is killed": (5, self._kill_gateway),
            "the hot path is killed": (2, self._kill_hotpath),
        }
        if postgres:
            self.faults |= {"a gateway is stopped": (2, self._stop_gateway), "PostgreSQL crashes": (1, self._crash)}

    def fault(self, rng: random.Random) -> str:
        """Do some harm, and repair it."""
        name = rng.choices(list(self.faults), [likely for likely, _ in self.faults.values()])[0]
        self.faults[name][1](rng)
        return name

    def client(self) -> openai.OpenAI:
        """A client of the first gateway, who waits while that is away."""
        first = self.gateways[0]
        return openai.OpenAI(
            base_url=f"{first.describe().url}/v1", api_key=first.keys["acme"], max_retries=50, timeout=60
        )

    def used_of_the_day(self) -> int:
        with limits.client(self.gateways[0].describe(), "acme") as http:
            return limits.used_of_the_day(http)

    def stop(self) -> None:
        for gateway in reversed(self.gateways):
            gateway.stop()

    def _kill_gateway(self, rng: random.Random) -> None:
        gateway = rng.choice(self.gateways)
        _process(gateway).kill()
        gateway.start_gateway()

    def _kill_hotpath(self, _: random.Random) -> None:
        first = self.gateways[0]
        first.processes()[1].kill()
        first.start_hotpath()

    def _stop_gateway(self, rng: random.Random) -> None:
        stopped = _process(rng.choice(self.gateways))
        stopped.signal(signal.SIGSTOP)
        time.sleep(STOPPED_S)
        stopped.signal(signal.SIGCONT)

    def _crash(self, rng: random.Random) -> None:
        assert self.postgres
        self.postgres.stop()
        time.sleep(rng.uniform(0, 3))
        self.postgres.start()


def _process(gateway: NativeStack) -> Process:
    assert gateway.gateway
    return gateway.gateway


def run(site: Site, lines: int, faults: int, rng: random.Random, console: Console) -> list[str]:
    """What is wrong with a batch after so many faults."""
    body = {"model": MODEL, "input": [f"text {number}" for number in range(TEXTS)], "encoding_format": "base64"}
    asked = [request(str(number), body) for number in range(lines)]
    with site.client() as client:
        before = site.used_of_the_day()
        batch_id = submit(client, asked, EMBEDDINGS)
        for number in range(faults):
            time.sleep(rng.uniform(0, 2))
            console.print(f"{number + 1} of {faults}: {site.fault(rng)}")
        batch = ended(client, batch_id, LIMIT_S)
        replies = content(client, batch.output_file_id)
    wrong = []
    if [reply["custom_id"] for reply in replies] != [line["custom_id"] for line in asked]:
        wrong.append(f"{len(replies)} lines came out of {lines}, or in another order")
    if (batch.request_counts.completed, batch.request_counts.failed) != (lines, 0):
        wrong.append(f"the batch counts {batch.request_counts}")
    used = sum(reply["response"]["body"]["usage"]["total_tokens"] for reply in replies)
    if batch.usage.total_tokens != used:
        wrong.append(f"the batch says {batch.usage.total_tokens} tokens, and its lines {used}")
    try:
        wait_until("the charge", lambda: site.used_of_the_day() == before + used, CHARGED_S)
    except StackError:
        wrong.append(f"{site.used_of_the_day() - before} tokens are charged for {used}")
    if not site.postgres and list(site.temporaries.iterdir()):
        wrong.append(f"temporary files are left: {list(site.temporaries.iterdir())}")
    return wrong


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="soak.durable", description=__doc__)
    parser.add_argument("--lines", type=int, default=5000)
    parser.add_argument("--faults", type=int, default=20, help="of each batch")
    parser.add_argument("--rounds", type=int, default=1, help="batches, with each database")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same seed chooses the same faults")
    parser.add_argument("--only", choices=("sqlite", "postgres"))
    chosen = parser.parse_args(arguments)
    console = Console()
    console.print(
        f"{chosen.rounds} batches of {chosen.lines} lines, with {chosen.faults} faults each; seed {chosen.seed}"
    )
    programs, redis_program, wrong, passed = postgres_programs(), redis_server(), [], 0
    for database in ("sqlite", "postgres"):
        if chosen.only not in (None, database):
            continue
        with contextlib.ExitStack() as stop:
            folder = pathlib.Path(stop.enter_context(tempfile.TemporaryDirectory()))
            postgres = redis = None
            if database == "postgres":
                if not (programs and redis_program):
                    console.print(
                        "LOUD: there is no PostgreSQL or no Redis: durable work in them is NOT tested", style="yellow"
                    )
                    continue
                postgres, redis = Postgres(programs), Redis(redis_program, folder / "redis")
                stop.callback(postgres.remove)
                stop.callback(redis.stop)
                postgres.start()
                redis.start()
            site = Site(folder, postgres, redis)
            stop.callback(site.stop)
            for number in range(chosen.rounds):
                rng = random.Random(f"{chosen.seed}-{database}-{number}")
                found = run(site, chosen.lines, chosen.faults, rng, console)
                wrong += [f"{database}: {each}" for each in found]
                passed += not found
                console.print(f"{database}, batch {number + 1}: {'; '.join(found) or 'exact'}")
    print(f"{passed} passed, {len(wrong)} failed")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
