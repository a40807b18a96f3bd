"""Clients of several gateways, as behind a balancer that asks each whether it is ready."""

import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx

from e2e.load import TIMEOUT_S, WAIT_LIMIT_S, Clients, Outcome
from stack.description import Stack
from stack.waiting import wait_until

# How often the balancer asks; the gateway goes on for longer than that once it has said no.
CHECK_S = 0.1


@dataclass(frozen=True)
class Client:
    """One that sends its next request when it has an answer, on connections that it keeps."""

    tenant: str
    path: str
    body: dict[str, object]  # a stream where it says so


class Balanced(Clients):
    """Entered as a context, it has clients send requests until it is left, to those gateways in turn that are ready."""

    def __init__(self, stacks: Sequence[Stack], clients: Sequence[Client]) -> None:
        super().__init__()
        self._stacks = stacks
        self._ready = [True] * len(stacks)
        self._outcomes: list[tuple[int, Outcome]] = []  # with the gateway
        self._threads = [threading.Thread(target=self._check, args=[number]) for number in range(len(stacks))]
        self._threads += [threading.Thread(target=self._ask, args=[client]) for client in clients]

    def failures(self) -> list[Outcome]:
        return [outcome for _, outcome in self._outcomes if outcome.status != 200]

    def wait_for_replies(self, gateway: int, count: int, since: float = 0) -> None:
        """Wait until so many requests that began at `since` or later were answered by a gateway."""

        def enough() -> bool:
            mine = [outcome for number, outcome in list(self._outcomes) if number == gateway]
            return sum(outcome.started >= since for outcome in mine) >= count

        wait_until(f"{count} replies of gateway {gateway}", enough, WAIT_LIMIT_S)

    def wait_ready(self, gateway: int, ready: bool) -> None:
        """Wait until the balancer knows whether a gateway is ready."""
        wait_until(f"gateway {gateway} being ready: {ready}", lambda: self._ready[gateway] is ready, WAIT_LIMIT_S)

    def _check(self, number: int) -> None:
        while not self._over.wait(CHECK_S):
            try:
                self._ready[number] = httpx.get(f"{self._stacks[number].url}/readyz", timeout=5).status_code == 200
            except httpx.TransportError:
                self._ready[number] = False

    def _next_ready(self) -> Iterator[int]:
        for number in itertools.cycle(range(len(self._stacks))):
            if self._over.is_set():
                return
            if self._ready[number]:
                yield number
            elif not any(self._ready):
                self._over.wait(CHECK_S)

    def _ask(self, client: Client) -> None:
        connections = []
        for stack in self._stacks:
            headers = {"authorization": f"Bearer {stack.keys[client.tenant]}"}
            connections.append(httpx.Client(base_url=stack.url, headers=headers, timeout=TIMEOUT_S))
        for number in self._next_ready():
            self._outcomes.append((number, ask(connections[number], client)))
        for connection in connections:
            connection.close()


def ask(http: httpx.Client, client: Client) -> Outcome:
    """Send one request. A stream that does not come to its end is no reply."""
    started = time.monotonic()
    try:
        with http.stream("POST", client.path, json=client.body) as reply:
            text = reply.read().decode()
    except httpx.TransportError as error:
        return Outcome(started, time.monotonic(), None, f"{type(error).__name__}: {error}")
    ended = time.monotonic()
    if reply.status_code != 200:
        return Outcome(started, ended, reply.status_code, json.loads(text)["error"]["code"], reply.headers, text)
    if client.body.get("stream") and not text.endswith("data: [DONE]\n\n"):
        return Outcome(started, ended, None, "the stream broke off", reply.headers, text)
    return Outcome(started, ended, 200, "", reply.headers, text)
