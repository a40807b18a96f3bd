"""Files and batches as a client sees them: nothing of a large file is held."""

import contextlib
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx

from bench.gateway import tenants
from stack.description import Stack
from stack.waiting import StackError, wait_until

TENANT = "acme"
TERMINAL = ("completed", "failed", "expired", "cancelled")
LIMIT_S = 300
POLL_S = 0.02


def settings(folder: pathlib.Path) -> Mapping[str, str]:
    """The gateway's settings for a tenant that no limit of a minute holds up."""
    return tenants.write(folder, {TENANT: {**tenants.ROOMY, "batch": {"requests_per_minute": 1_000_000}}})


class Client:
    def __init__(self, where: Stack) -> None:
        self.http = httpx.Client(
            base_url=where.url, headers={"authorization": f"Bearer {where.keys[TENANT]}"}, timeout=LIMIT_S
        )

    def ask(self, method: str, path: str, **arguments: Any) -> Any:
        reply = self.http.request(method, path, **arguments)
        if reply.status_code != httpx.codes.OK:
            raise StackError(f"{method} {path}: {reply.status_code} {reply.text}")
        return reply.json()

    def upload(self, path: pathlib.Path) -> str:
        with path.open("rb") as content:
            asked = self.ask("POST", "/v1/files", data={"purpose": "batch"}, files={"file": ("in.jsonl", content)})
        return str(asked["id"])

    def submit(self, endpoint: str, file: str) -> str:
        body = {"input_file_id": file, "endpoint": endpoint, "completion_window": "24h"}
        return str(self.ask("POST", "/v1/batches", json=body)["id"])

    def look(self, batch: str) -> Any:
        return self.ask("GET", f"/v1/batches/{batch}")

    def cancel(self, batch: str) -> None:
        self.ask("POST", f"/v1/batches/{batch}/cancel")

    def wait(self, batch: str, *, results: bool = False) -> Any:
        """The batch once its lines have run; with `results` once these are in files."""

        def done() -> Any:
            found = self.look(batch)
            counts = found["request_counts"]
            ran = counts["total"] == counts["completed"] + counts["failed"]
            return found if found["status"] in TERMINAL or (ran and not results) else None

        found = wait_until("the end of the batch", done, LIMIT_S, POLL_S)
        if found["request_counts"]["failed"] or found["status"] == "failed":
            raise StackError(f"lines of the batch failed: {found}")
        return found

    @contextlib.contextmanager
    def running(self, endpoint: str, file: str) -> Iterator[None]:
        """A batch runs meanwhile, which must not end by itself."""
        batch = self.submit(endpoint, file)
        yield
        if self.look(batch)["status"] != "in_progress":
            raise StackError("a batch that was to run beside requests ended before them")
        self.cancel(batch)
        wait_until("the end of a cancelled batch", lambda: self.look(batch)["status"] == "cancelled", LIMIT_S)


def write(path: pathlib.Path, endpoint: str, bodies: Iterable[Mapping[str, Any]]) -> None:
    """Write a file of requests."""
    with path.open("w") as file:
        for number, body in enumerate(bodies):
            line = {"custom_id": str(number), "method": "POST", "url": endpoint, "body": body}
            file.write(json.dumps(line) + "\n")
