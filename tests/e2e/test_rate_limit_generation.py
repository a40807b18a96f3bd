"""What a generation takes of its tenant's limits: its most while it runs, and what it used in the end."""

import json
import pathlib
import signal
from collections.abc import Callable

from e2e import limits
from e2e.chats import MODEL, body, say
from stack.native import NativeStack
from stack.waiting import wait_until

ENDLESS = body(say("Tell me a very long story."), max_tokens=1500, ignore_eos=True, stream=True)
SETTLED_S = 30

StartNative = Callable[..., NativeStack]


def test_a_stream_that_ends_early_costs_what_was_said(start_native: StartNative, tmp_path: pathlib.Path) -> None:
    plan = "{requests_per_minute: 60000, tokens_per_day: 5000, concurrent_streams: 1}"
    native = start_native(
        gateway={"tenants-file": limits.plans(tmp_path, acme=plan), "generation-timeout": "3s"},
        hotpath={"model-names": f"{MODEL},all-minilm-l6-v2"},
    )
    with limits.client(native.describe(), "acme") as http:
        # By its client.
        with http.stream("POST", "/v1/chat/completions", json=ENDLESS) as response:
            assert 3000 < int(response.headers["x-ratelimit-remaining-tokens"]) < 3500  # with all that it may say
            second = http.post("/v1/chat/completions", json=ENDLESS)
            assert (second.status_code, second.json()["error"]["code"]) == (429, "concurrency_limit_exceeded")
            said = 0
            for line in response.iter_lines():
                said += line.startswith("data: ")
                if said == 10:
                    break
        wait_until("the rest coming back", lambda: limits.tokens_left(http) > 4500, SETTLED_S)
        left = limits.tokens_left(http)
        assert 4500 < left < 5000 - said
        # By its deadline, which a hot path that stands still lets pass, however fast it is.
        assert native.hotpath is not None
        with http.stream("POST", "/v1/chat/completions", json=ENDLESS) as response:
            lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: "))
            events = [next(lines) for _ in range(10)]
            native.hotpath.signal(signal.SIGSTOP)
            try:
                events += lines
            finally:
                native.hotpath.signal(signal.SIGCONT)
        assert json.loads(events[-1])["error"]["code"] == "deadline_exceeded"
        assert limits.tokens_left(http) < left - (len(events) - 2)
