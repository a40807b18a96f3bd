"""Steady requests from several clients while something happens to the stack."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from e2e.vectors import MODEL
from stack.description import Stack
from stack.waiting import wait_until

CLIENTS = 8
# Longer than any request may take: one that takes this long hangs.
TIMEOUT_S = 30
WAIT_LIMIT_S = 60
# No request may take this long: its own limit in the hot path is 30 s, and that is for work that is queued.
HANGS_S = 20


@dataclass(frozen=True)
class Outcome:
    """What became of one request."""

    started: float  # time.monotonic()
    ended: float
    status: int | None  # None: no reply
    error: str = ""  # OpenAI's code, or the exception when there was no reply
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    body: str = ""


class Clients:
    """Threads that run from when the context is entered until it is left, which sets `_over` and waits for them."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


class Load(Clients):
    """Entered as a context, it sends requests until it is left. Each client sends its next when it has an answer."""

    def __init__(self, stack: Stack, body: Callable[[int], dict[str, object]] | None = None) -> None:
        """`body` makes the body of the n-th request of a client."""
        super().__init__()
        self._stack = stack
        self._body = body or (lambda number: {"input": f"request number {number}"})
        self._outcomes: list[Outcome] = []
        self._threads = [threading.Thread(target=self._client) for _ in range(CLIENTS)]

    @property
    def outcomes(self) -> list[Outcome]:
        return list(self._outcomes)

    def statuses(self) -> set[int | None]:
        return {outcome.status for outcome in self.outcomes}

    def wait_for(self, status: int, count: int = 1, since: float = 0) -> None:
        """Wait until `count` requests that began at `since` or later were answered with a status."""

        def enough() -> bool:
            return sum(outcome.status == status and outcome.started >= since for outcome in self.outcomes) >= count

        wait_until(f"{count} replies with status {status}", enough, WAIT_LIMIT_S)

    def _client(self) -> None:
        headers = {"authorization": f"Bearer {self._stack.keys['acme']}"}
        number = 0
        while not self._over.is_set():
            # A connection for each request: an idle one that the server closes while the client writes to it is a race
            # of HTTP itself, and no lost request.
            with httpx.Client(base_url=self._stack.url, headers=headers, timeout=TIMEOUT_S) as client:
                outcome = self._ask(client, number)
            self._outcomes.append(outcome)
            number += 1
            if outcome.status != 200:
                self._over.wait(0.05)  # a polite client; without it refusals alone would keep the machine busy

    def _ask(self, client: httpx.Client, number: int) -> Outcome:
        body = {"model": MODEL, "encoding_format": "base64", **self._body(number)}
        started = time.monotonic()
        try:
            reply = client.post("/v1/embeddings", json=body)
        except httpx.TransportError as error:
            return Outcome(started, time.monotonic(), None, f"{type(error).__name__}: {error}")
        code = "" if reply.status_code == 200 else reply.json()["error"]["code"]
        return Outcome(started, time.monotonic(), reply.status_code, code, reply.headers, reply.text)


def check_refusals(outcomes: list[Outcome]) -> None:
    """Assert that whatever did not succeed was told to come back, and when."""
    for outcome in outcomes:
        if outcome.status != 200:
            assert outcome.status == 503, outcome
            assert outcome.error in {"hotpath_unavailable", "model_not_ready"}, outcome
            assert 1 <= int(outcome.headers["retry-after"]) <= 60
        assert outcome.ended - outcome.started < HANGS_S, outcome
