"""One tenant beside another: what a small request takes while somebody else asks for all there is.

All of it through the whole stack with its default settings and models, over HTTP.
"""

import contextlib
import dataclasses
import pathlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator

import httpx

from bench.embeddings import corpus, load
from bench.embeddings.corpus import Corpus
from bench.embeddings.measures import LIST_CLIENTS, TEXTS_PER_LIST, Effort, percentile
from e2e.chats import body, say
from stack.description import Stack
from stack.native import NativeStack

GENERATIONS = 64
TIMEOUT_S = 120
BEGUN = 4  # of them before anything is measured: not all fit into the cache at once


@dataclasses.dataclass(frozen=True)
class MixedLoad:
    """Seconds of one tenant's small requests, alone and beside another tenant."""

    chat_alone_s: float  # median of chats of 8 tokens
    chat_beside_texts_s: float  # the same beside lists of texts, as many as are taken
    texts_alone: float  # texts/s of those lists
    texts_beside_chat: float  # the same while one chat after the other runs
    text_alone_s: float  # median of one short text
    text_beside_giant_p99_s: float  # the same beside one request of as many long texts as it may have
    chat_beside_generations_s: float  # median of chats of 8 tokens beside GENERATIONS long ones


def measure(texts: Corpus, folder: pathlib.Path, effort: Effort) -> MixedLoad:
    """Measure alone and beside the others in turn, and tell the medians."""
    stack = NativeStack(folder)
    seconds = effort.rounds * effort.round_s
    try:
        where = stack.start()
        lists = corpus.requests(where, texts.texts, TEXTS_PER_LIST)
        with client(where, "globex") as http:

            def chat() -> None:
                http.post("/v1/chat/completions", json=body(say("Hello!"), max_tokens=8)).raise_for_status()

            def text() -> None:
                http.post("/v1/embeddings", json={"model": corpus.MODEL, "input": "one short text"}).raise_for_status()

            def flood() -> float:
                replies = load.closed_loop(where.address, lists, LIST_CLIENTS, seconds)
                return TEXTS_PER_LIST * len(replies) / max(reply.done_at_s for reply in replies)

            chat()
            text()
            chat_alone, text_alone = timed(chat, seconds), timed(text, seconds)
            texts_alone = flood()
            with Beside(flood) as lists_beside:
                chat_beside_texts = timed(chat, until=lists_beside.ended)
            with Beside(lambda: giant(where, effort.giant_texts)) as giant_beside:
                text_beside_giant = timed(text, until=giant_beside.ended)
            with generations(where):
                chat_beside_generations = timed(chat, seconds)
    finally:
        stack.stop()
    return MixedLoad(
        chat_alone_s=statistics.median(chat_alone),
        chat_beside_texts_s=statistics.median(chat_beside_texts),
        texts_alone=texts_alone,
        texts_beside_chat=lists_beside.result,
        text_alone_s=statistics.median(text_alone),
        text_beside_giant_p99_s=percentile(text_beside_giant, 99),
        chat_beside_generations_s=statistics.median(chat_beside_generations),
    )


def client(where: Stack, tenant: str) -> httpx.Client:
    headers = {"authorization": f"Bearer {where.keys[tenant]}"}
    return httpx.Client(base_url=where.url, headers=headers, timeout=TIMEOUT_S)


def timed(ask: Callable[[], None], seconds: float = 0, until: threading.Event | None = None) -> list[float]:
    """The seconds of one request after the other, for a time or until something has ended; at least one."""
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or (not until.is_set() if until else time.perf_counter() < end):
        start = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - start)
    return taken


class Beside:
    """Runs something in a thread while the context lasts, and waits for its end."""

    def __init__(self, work: Callable[[], float]) -> None:
        self.ended = threading.Event()
        self.result = 0.0
        self._work = work
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.result = self._work()
        finally:
            self.ended.set()

    def __enter__(self) -> "Beside":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()


def giant(where: Stack, count: int) -> float:
    """One request of many inputs, each as long as the model takes."""
    with client(where, "acme") as http:
        inputs = [" ".join(["town"] * 250)] * count
        fields = {"model": corpus.MODEL, "input": inputs, "encoding_format": "base64"}
        return float(http.post("/v1/embeddings", json=fields).status_code)


@contextlib.contextmanager
def generations(where: Stack) -> Iterator[None]:
    """Many long generations of one tenant, until the context ends."""
    ended, begun = threading.Event(), threading.Semaphore(0)

    def read() -> None:
        fields = body(say("Tell me a very long story."), ignore_eos=True, max_tokens=2000, stream=True)
        with (
            contextlib.suppress(httpx.HTTPError),
            client(where, "acme") as http,
            http.stream("POST", "/v1/chat/completions", json=fields) as response,
        ):
            for number, _ in enumerate(response.iter_lines()):
                if number == 0:
                    begun.release()
                if ended.is_set():
                    return

    threads = [threading.Thread(target=read) for _ in range(GENERATIONS)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(BEGUN):
            begun.acquire(timeout=TIMEOUT_S)
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
