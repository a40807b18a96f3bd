"""One tenant keeps no other one out, and whoever is refused is told."""

import contextlib
import pathlib
import socket
import subprocess
from collections.abc import Callable

import httpx
import pytest

from e2e import raw
from e2e.vectors import MODEL
from stack.description import Stack
from stack.native import GATEWAY, TENANTS, NativeStack
from stack.waiting import wait_until

StartNative = Callable[..., NativeStack]
PLACES = 32
LARGE = 8 << 20  # bytes: as large as bodies may be
TINY_RATE = 20  # requests a minute
STATE_LIMIT_S = 30


def status_of(stack: Stack, tenant: str) -> int:
    headers = {"authorization": f"Bearer {stack.keys[tenant]}"}
    body = {"model": MODEL, "input": "a"}
    return httpx.post(f"{stack.url}/v1/embeddings", json=body, headers=headers, timeout=60).status_code


@pytest.mark.parametrize("announced", [1000, LARGE], ids=["small", "large"])
def test_half_sent_bodies_of_one_tenant_keep_nobody_out(start_native: StartNative, announced: int) -> None:
    stack = start_native(gateway={"max-inflight-requests": str(PLACES)}).describe()
    half = raw.post(stack.address, "/v1/embeddings", stack.keys["acme"], b" " * announced)[: -announced + 1]
    with contextlib.ExitStack() as connections:
        for _ in range(3 * PLACES):
            connection = connections.enter_context(socket.create_connection(stack.address, timeout=30))
            connection.sendall(half)
        assert [status_of(stack, "globex") for _ in range(10)] == [200] * 10


def test_a_client_in_the_middle_of_a_large_body_sees_its_refusal(start_native: StartNative) -> None:
    stack = start_native().describe()
    statuses = [status_of(stack, "tiny") for _ in range(TINY_RATE + 1)]
    assert statuses[-1] == 429
    with socket.create_connection(stack.address, timeout=30) as connection:
        connection.sendall(raw.post(stack.address, "/v1/embeddings", stack.keys["tiny"], b" " * LARGE))
        assert connection.recv(100).startswith(b"HTTP/1.1 429 ")


def test_a_broken_tenants_file_keeps_no_revoked_key_alive(start_native: StartNative, tmp_path: pathlib.Path) -> None:
    tenants = tmp_path / "tenants.yaml"
    tenants.write_text(TENANTS.read_text())
    native = start_native(gateway={"tenants-file": str(tenants)})
    stack = native.describe()
    tenants.write_text("plans: [")
    wait_until(
        "the broken file in the metrics",
        lambda: 'gateway_source_stale_seconds{source="tenants"} 0\n' not in httpx.get(stack.metrics_url).text,
        STATE_LIMIT_S,
    )
    assert status_of(stack, "acme") == 200
    key_id = stack.keys["acme"].split("_")[1]
    flags = [f"--data={native.data}", f"--tenants-file={tenants}"]
    revoked = subprocess.run(
        [str(GATEWAY), "keys", "revoke", key_id, *flags], capture_output=True, text=True, check=True
    )
    assert "warning" in revoked.stderr
    wait_until("the end of the key", lambda: status_of(stack, "acme") == 401, STATE_LIMIT_S)
    assert status_of(stack, "globex") == 200
