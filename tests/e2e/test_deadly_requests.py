"""A request that ends the hot path each time it runs is given up; nothing else is, whatever ran beside it."""

import contextlib
import pathlib
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import openai
import pytest

from e2e.batches import content, embed, ended, submit
from e2e.databases import Database
from e2e.vectors import MODEL
from stack.native import NativeStack
from stack.proxy import Proxy

DEADLY = "a text that no hot path survives"
LIMIT_S = 120
LINES, LINE = 600, 205  # of two segments


@contextlib.contextmanager
def mortal_hotpath(folder: pathlib.Path) -> Iterator[tuple[str, list[float]]]:
    """The address of a hot path that is killed before it reads DEADLY, and started anew; and when it was killed."""
    stack = NativeStack(folder, hotpath={"model-names": MODEL})
    first = stack.start_hotpath()
    stack.wait_hotpath_ready()
    proxy, deaths, dead, ends = Proxy(first.address("grpc")), [], threading.Event(), threading.Event()

    def look(data: bytes) -> None:
        if DEADLY.encode() in data:
            assert stack.hotpath
            stack.hotpath.kill()
            deaths.append(time.monotonic())
            dead.set()

    def revive() -> None:
        while not ends.is_set():
            if dead.wait(0.05):
                dead.clear()
                stack.start_hotpath()

    proxy.look = look
    reviving = threading.Thread(target=revive)
    reviving.start()
    try:
        yield proxy.address, deaths
    finally:
        ends.set()
        reviving.join()
        proxy.stop()
        stack.stop()


@pytest.mark.timeout(300)
def test_a_line_and_a_job_that_end_the_hot_path_are_given_up(
    database: Database, start_native: Callable[..., NativeStack], tmp_path: pathlib.Path
) -> None:
    lines = [embed(number) for number in range(LINES)]
    lines[LINE]["body"]["input"] = DEADLY
    with contextlib.ExitStack() as ending:
        address, deaths = ending.enter_context(mortal_hotpath(tmp_path / "hotpath"))
        native = start_native(gateway=database.settings, hotpath_address=address)
        stack = native.describe()
        bearer = {"Authorization": f"Bearer {stack.keys['acme']}"}
        client = ending.enter_context(openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.keys["acme"]))
        http = ending.enter_context(httpx.Client(base_url=stack.url, headers=bearer, timeout=LIMIT_S))

        asked = {"endpoint": "/v1/embeddings", "body": {"model": MODEL, "input": DEADLY}}
        job = http.post("/v1/jobs", json=asked).raise_for_status().json()
        batch_id = submit(client, lines)
        batch = ended(client, batch_id, LIMIT_S)
        while job["status"] in ("queued", "running"):
            job = http.get(f"/v1/jobs/{job['id']}", params={"wait": 30}).raise_for_status().json()
        replies, refused = content(client, batch.output_file_id), content(client, batch.error_file_id)

        assert (job["status"], job["error"]["code"]) == ("failed", "not_survived")
        assert "ended 3 times while it ran this request" in job["error"]["message"]
        assert batch.status == "completed"
        assert (batch.request_counts.completed, batch.request_counts.failed) == (LINES - 1, 1)
        assert [(line["custom_id"], line["error"]["code"]) for line in refused] == [(f"line-{LINE}", "not_survived")]
        assert refused[0]["error"]["message"].startswith(f"Line {LINE + 1}: The service has ended 3 times")
        expected = [line["custom_id"] for number, line in enumerate(lines) if number != LINE]
        assert [reply["custom_id"] for reply in replies] == expected
        # Three times for the job; five for the line: twice beside others, once in its segment, twice as its own.
        assert 6 <= len(deaths) <= 8
        assert client.embeddings.create(model=MODEL, input="a text").usage.total_tokens > 0
