"""How long a batch stands still when its gateway is killed."""

import contextlib
import dataclasses
import pathlib
import sqlite3
import statistics
import time
from collections.abc import Callable

from bench.durable import api
from bench.durable.effort import Effort
from bench.gateway.peers import TEXT, WORKS
from stack.native import NativeStack
from stack.postgres import Postgres, postgres_programs
from stack.waiting import wait_until

# Two segments, which take longer than a kill and a lease.
LINES, TEXTS = 1_024, 16
LIMIT_S = 60
POLL_S = 0.002
# Segments that run again, of those that ran when their gateway died.
AGAIN = "SELECT count(*) FROM {}job WHERE kind = 'segment' AND state = 'leased' AND attempt > {}"
ATTEMPTS = "SELECT coalesce(max(attempt), 0) FROM {}job WHERE kind = 'segment' AND state = 'leased'"


@dataclasses.dataclass(frozen=True)
class Recovery:
    """Medians of the kills, in seconds."""

    embedded: float  # from when the next process listens
    embedded_listens: float  # from the kill until then
    shared: float | None  # from the kill until the other gateway has all that the dead one had; None: no PostgreSQL


def measure(folder: pathlib.Path, effort: Effort) -> Recovery:
    embedded = [_embedded(folder / f"embedded-{n}") for n in range(effort.kills)]
    programs = postgres_programs()
    shared = [_shared(folder / f"shared-{n}", programs) for n in range(effort.kills)] if programs else []
    listens, goes_on = zip(*embedded, strict=True)
    return Recovery(statistics.median(goes_on), statistics.median(listens), statistics.median(shared or [0]) or None)


def _batch(folder: pathlib.Path, client: api.Client) -> str:
    endpoint, body = WORKS[TEXT]
    api.write(
        folder / "in.jsonl",
        endpoint,
        ({**body, "input": ["a text of some ten tokens, of which there are many"] * TEXTS} for _ in range(LINES)),
    )
    return client.submit(endpoint, client.upload(folder / "in.jsonl"))


def _begun(ask: Callable[[str], int], schema: str = "") -> Callable[[], bool]:
    """Wait until segments run, and return what says whether some run again."""
    wait_until("segments run", lambda: ask(ATTEMPTS.format(schema)) > 0, LIMIT_S)
    attempts = ask(ATTEMPTS.format(schema))
    return lambda: ask(AGAIN.format(schema, attempts)) > 0


def _embedded(folder: pathlib.Path) -> tuple[float, float]:
    stack = NativeStack(folder, gateway=api.settings(folder), hotpath={"model-names": "all-minilm-l6-v2"})
    with contextlib.ExitStack() as stop:
        stop.callback(stack.stop)
        where = stack.start()
        _batch(folder, api.Client(where))
        database = stop.enter_context(contextlib.closing(sqlite3.connect(stack.data / "gateway.db")))

        def ask(query: str) -> int:
            return int(database.execute(query).fetchone()[0])

        goes_on = _begun(ask)
        killed = time.monotonic()
        stack.replace_gateway()
        listens = time.monotonic()
        wait_until("segments run again", goes_on, LIMIT_S, POLL_S)
        runs = time.monotonic()
        stack.processes()[0].kill()  # told to end, it would drain for as long as a segment takes
        return listens - killed, runs - listens


def _shared(folder: pathlib.Path, programs: pathlib.Path) -> float:
    postgres = Postgres(programs)
    with contextlib.ExitStack() as stop:
        stop.callback(postgres.remove)
        postgres.start()
        # One gateway runs both segments; the other one comes when that is so, and has nothing to do.
        settings = {**api.settings(folder), "database-url": postgres.url, "blobs": str(folder / "blobs")}
        first = NativeStack(folder / "first", gateway=settings, hotpath={"model-names": "all-minilm-l6-v2"})
        stop.callback(first.stop)
        where = first.start()
        _batch(folder, api.Client(where))

        def ask(query: str) -> int:
            return int(postgres.ask(query))

        goes_on = _begun(ask, "triptych.")
        second = NativeStack(folder / "second", gateway=settings, hotpath_address=first.addresses["grpc"])
        stop.callback(second.stop)
        second.start()
        killed = time.monotonic()
        first.processes()[0].kill()
        wait_until("segments run again", goes_on, LIMIT_S, POLL_S)
        runs = time.monotonic()
        second.processes()[0].kill()  # told to end, it would drain for as long as a segment takes
        return runs - killed
