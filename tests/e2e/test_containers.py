"""What only containers have: what the engine says of each, how it mends a crash, and logs that are the engine's."""

import time
from typing import Any

import httpx
import pytest

from e2e.load import Load, check_refusals
from e2e.vectors import MODEL, embed
from stack.compose import ComposeStack
from stack.description import Stack
from stack.models import wait_until_proven
from stack.waiting import wait_until

SECRET_TEXT = "Xylophonist Quetzalcoatl whispers 4711"
SERVERS = ("gateway", "hotpath")
USER = "65532:65532"


@pytest.mark.parametrize("service", SERVERS)
def test_a_server_has_no_right_that_it_does_not_need(compose: ComposeStack, stack: Stack, service: str) -> None:
    container = compose.container(service)
    host = container.attrs["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], None)
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert container.attrs["Config"]["User"] == USER
    processes = container.top(ps_args="-eo pid,uid,gid")["Processes"]  # what is said could be not done
    assert {":".join(ids) for _, *ids in processes} == {USER}


@pytest.mark.parametrize("service", SERVERS)
def test_a_server_is_healthy_by_its_own_word(compose: ComposeStack, stack: Stack, service: str) -> None:
    def healthy() -> Any:
        state = compose.container(service).attrs["State"]
        return state if state["Health"]["Status"] == "healthy" else None

    state = wait_until("health", healthy, 60)
    assert state["Health"]["Log"][-1]["ExitCode"] == 0
    assert state["OOMKilled"] is False


@pytest.mark.parametrize("service", ["models", "tenants", "keys"])
def test_what_prepares_has_ended_well_and_once(compose: ComposeStack, stack: Stack, service: str) -> None:
    container = compose.container(service)
    assert container.attrs["State"]["Status"] == "exited"
    assert container.attrs["State"]["ExitCode"] == 0
    assert container.attrs["RestartCount"] == 0


def test_a_crashed_hotpath_is_refusals_until_the_engine_has_restarted_it(compose: ComposeStack, stack: Stack) -> None:
    before = compose.container("hotpath").attrs
    with Load(stack) as load:
        load.wait_for(200, 20)
        # From inside, as a crash; what is killed from outside counts as stopped by hand and stays down.
        compose.container("hotpath").exec_run(["sh", "-c", "kill -9 -1"])
        load.wait_for(503, 1, since=time.monotonic())
        load.wait_for(200, 20, since=time.monotonic())
    check_refusals(load.outcomes)
    after = compose.container("hotpath").attrs
    assert after["Id"] == before["Id"]
    assert after["RestartCount"] == before["RestartCount"] + 1
    assert after["State"]["StartedAt"] > before["State"]["StartedAt"]
    assert compose.container("gateway").attrs["RestartCount"] == 0
    wait_until("readiness", lambda: httpx.get(f"{stack.url}/readyz", timeout=5).status_code == 200, 60)
    wait_until_proven(stack.grpc)  # what decodes is counted by others


def test_logs_hold_request_ids_and_neither_keys_nor_texts(compose: ComposeStack, stack: Stack) -> None:
    headers = {"authorization": f"Bearer {stack.keys['acme']}", "x-request-id": "find-me-in-the-log"}
    with httpx.Client(base_url=stack.url, headers=headers) as http:
        assert embed(http, SECRET_TEXT)
        assert http.post("/v1/embeddings", json={"model": MODEL, "input": [SECRET_TEXT, ""]}).status_code == 400

    def of_servers() -> str | None:  # `keys` shows the first keys, once and on purpose
        text = compose.output("logs", "--no-color", *SERVERS)
        return text if "find-me-in-the-log" in text else None

    logs = wait_until("the log", of_servers, 30)
    assert "Xylophonist" not in logs
    assert not [key for key in stack.keys.values() if key in logs]
