"""Two gateways and two hot paths are restarted one by one under load, and nobody notices."""

import pathlib
import time
from collections.abc import Iterator

import pytest

from e2e import chats
from e2e.balanced import Balanced, Client
from e2e.vectors import MODEL
from stack.pool import Pool

BOTH = {"model-names": f"{MODEL},{chats.MODEL}", "workers": "1", "generation-threads": "1"}
EMBEDDING: dict[str, object] = {"model": MODEL, "input": ["a text of some ten tokens, of which there are many"] * 4}
CHAT = chats.body(chats.say("Count to ten."), max_tokens=4)
CLIENTS = [
    Client(tenant, path, body)
    for tenant in ("acme", "globex")
    for path, body in (
        ("/v1/embeddings", EMBEDDING),
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", {**CHAT, "stream": True}),
    )
]
LISTENS_ON = {"drain-delay": "1s"}  # the default
SOME = len(CLIENTS)  # replies that say that a gateway has its share


@pytest.fixture
def pool(native_only: None, tmp_path: pathlib.Path) -> Iterator[Pool]:
    pool = Pool(tmp_path, [BOTH, BOTH], gateway=LISTENS_ON, gateways=2)
    pool.start()
    yield pool
    pool.stop()


def test_everything_is_restarted_one_by_one_and_nobody_notices(pool: Pool) -> None:
    with Balanced(pool.describe_gateways(), CLIENTS) as load:
        for number in range(2):
            for gateway in range(2):
                load.wait_for_replies(gateway, SOME, since=time.monotonic())
            assert pool.hotpath(number).stop() == 0
            load.wait_for_replies(0, SOME, since=time.monotonic())
            pool.start_again(number)
        for number in range(2):
            load.wait_for_replies(number, SOME, since=time.monotonic())
            assert pool.gateway(number).stop() == 0
            load.wait_ready(number, False)
            load.wait_for_replies(1 - number, SOME, since=time.monotonic())
            pool.start_gateway_again(number)
            load.wait_ready(number, True)
            load.wait_for_replies(number, SOME, since=time.monotonic())
    assert load.failures() == []
