"""What a gateway keeps its state in, for tests of faults that hold with each."""

import os
import pathlib
import random
import secrets
from dataclasses import dataclass

import httpx

from stack.native import NativeStack
from stack.postgres import Postgres
from stack.waiting import wait_until


@dataclass(frozen=True)
class Database:
    """A place for a gateway of a test's own."""

    settings: dict[str, str]  # of the gateway
    postgres: Postgres | None = None  # None: SQLite, in the gateway's data folder

    def blobs(self, native: NativeStack) -> pathlib.Path:
        return pathlib.Path(self.settings["blobs"]) if self.postgres else native.data / "blobs"

    def half_written(self, native: NativeStack) -> list[pathlib.Path]:
        """What killed gateways have left in the folder of blobs; nothing counts where it may be another gateway's."""
        return [] if self.postgres else list((self.blobs(native) / "tmp").iterdir())


def deaths(native: NativeStack, queue: str, *flags: str) -> list[int]:
    """How many claims of each of a queue's jobs ended with their process; `flags` choose among the jobs."""
    listed = native.run_gateway("jobs", "list", f"--queue={queue}", "--limit=1000", *flags)
    header, *rows = listed.splitlines()
    column = slice(header.index("DEATHS"), header.index("OWNER"))  # a table: columns are as wide as their widest cell
    return [int(row[column]) for row in rows]


def hit(native: NativeStack, queue: str) -> int:
    """How many jobs that have not ended have lost a process. What two kills hit runs alone, and a third gives it up."""
    open_ones = [deaths(native, queue, f"--state={state}") for state in ("ready", "leased", "later")]
    return sum(number > 0 for numbers in open_ones for number in numbers)


def wait_for_work(http: httpx.Client, limit_s: float) -> None:
    """Wait until one of a tenant's newest jobs runs."""

    def some_run() -> bool:
        listed = http.get("/v1/jobs", params={"limit": 100}).raise_for_status().json()["data"]
        return any(job["status"] == "in_progress" for job in listed)

    wait_until("a job that runs", some_run, limit_s)


def chance() -> random.Random:
    """Randomness of a seed that a failure shows; TEST_SEED repeats it."""
    seed = int(os.environ.get("TEST_SEED") or secrets.randbits(32))
    print(f"TEST_SEED={seed}")
    return random.Random(seed)
