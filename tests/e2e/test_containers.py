"""What only containers have: a crash is mended by the engine, and logs are the engine's."""

import time

import httpx

from e2e.load import Load, check_refusals
from e2e.vectors import MODEL, embed
from stack.compose import ComposeStack
from stack.description import Stack
from stack.waiting import wait_until

SECRET_TEXT = "Xylophonist Quetzalcoatl whispers 4711"


def test_a_crashed_hotpath_is_refusals_until_the_engine_has_restarted_it(compose: ComposeStack, stack: Stack) -> None:
    with Load(stack) as load:
        load.wait_for(200, 20)
        # From inside, as a crash; what is killed from outside counts as stopped by hand and stays down.
        compose.output("exec", "-T", "hotpath", "sh", "-c", "kill -9 -1 || true")
        load.wait_for(503, 1, since=time.monotonic())
        load.wait_for(200, 20, since=time.monotonic())
    check_refusals(load.outcomes)
    wait_until("readiness", lambda: httpx.get(f"{stack.url}/readyz", timeout=5).status_code == 200, 60)


def test_logs_hold_request_ids_and_neither_keys_nor_texts(compose: ComposeStack, stack: Stack) -> None:
    headers = {"authorization": f"Bearer {stack.keys['acme']}", "x-request-id": "find-me-in-the-log"}
    with httpx.Client(base_url=stack.url, headers=headers) as http:
        assert embed(http, SECRET_TEXT)
        assert http.post("/v1/embeddings", json={"model": MODEL, "input": [SECRET_TEXT, ""]}).status_code == 400
    logs = wait_until("the log", lambda: text if "find-me-in-the-log" in (text := compose.logs()) else None, 30)
    assert "Xylophonist" not in logs
    assert not [key for key in stack.keys.values() if key in logs]
