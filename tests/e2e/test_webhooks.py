"""Webhooks, with the official Python SDK on both sides: it sets them up, and it verifies what a receiver gets."""

import datetime
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest

from e2e import batches, metrics
from e2e.receivers import Receiver
from stack.native import NativeStack
from stack.waiting import wait_until

StartNative = Callable[..., NativeStack]

LIMIT_S = 30
NOBODY = "127.0.0.1:1"  # batches of lines that are no requests need no hot path
OWN = {
    "webhook-allow-networks": "127.0.0.0/8",
    "webhook-timeout": "500ms",
    "webhook-retries": ",".join(["100ms"] * 200),
}
ALL: Any = ["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]


def start(start_native: StartNative, **settings: str) -> NativeStack:
    return start_native(hotpath_address=NOBODY, gateway={**OWN, **settings}, wait=False)


def client_of(native: NativeStack, tenant: str = "acme") -> openai.OpenAI:
    url = f"{native.describe().url}/v1"
    return openai.OpenAI(base_url=url, api_key=native.keys[tenant], max_retries=0, timeout=LIMIT_S)


def end_batch(client: openai.OpenAI) -> str:
    """A batch that has ended."""
    return str(batches.ended(client, batches.submit(client, [{"custom_id": "a"}])).id)


def log(native: NativeStack, webhook: str, suffix: str = "", method: str = "GET", tenant: str = "acme") -> Any:
    response = httpx.request(
        method,
        f"{native.describe().url}/v1/webhook_endpoints/{webhook}/deliveries{suffix}",
        headers={"authorization": f"Bearer {native.keys[tenant]}"},
    )
    return response.raise_for_status().json()


def in_state(native: NativeStack, webhook: str, state: str, count: int = 1) -> list[dict[str, Any]]:
    def look() -> list[dict[str, Any]] | None:
        entries = log(native, webhook)["data"]
        return entries if [entry["state"] for entry in entries] == [state] * count else None

    return wait_until(f"{count} deliveries that are {state}", look, LIMIT_S)


def test_the_sdk_sets_webhooks_up_and_verifies_what_they_send(start_native: StartNative) -> None:
    native = start(start_native)
    with client_of(native) as client, Receiver() as receiver:
        assert client.webhooks.event_types.list().data[:4] == ALL
        created = client.webhooks.create(name="ours", url=receiver.url, event_types=ALL)
        assert created.signing_secret.startswith("whsec_")
        batch = end_batch(client)
        delivered = in_state(native, created.id, "delivered")[0]
        (got,) = receiver.got
        event: Any = client.webhooks.unwrap(got.body, got.headers, secret=created.signing_secret)
        assert (event.type, event.object, event.data.id) == ("batch.completed", "event", batch)
        assert abs(event.created_at - datetime.datetime.now().timestamp()) < LIMIT_S
        assert (delivered["id"], delivered["event_id"], delivered["data_id"]) == (got.id, event.id, batch)
        assert (delivered["attempts"], delivered["last_status_code"], delivered["last_error"]) == (1, 200, None)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(got.body + b" ", got.headers, secret=created.signing_secret)

        rotated = client.webhooks.rotate_secret(created.id, keep_old_secret_active_for_24_hours=True)
        assert client.webhooks.test(created.id, event_type="batch.failed").status_code == 200
        for secret in (created.signing_secret, rotated.signing_secret):
            assert client.webhooks.unwrap(receiver.got[-1].body, receiver.got[-1].headers, secret=secret)
        rotated = client.webhooks.rotate_secret(created.id, keep_old_secret_active_for_24_hours=False)
        client.webhooks.test(created.id, event_type="batch.failed")
        assert client.webhooks.unwrap(receiver.got[-1].body, receiver.got[-1].headers, secret=rotated.signing_secret)
        with pytest.raises(openai.InvalidWebhookSignatureError):
            client.webhooks.unwrap(receiver.got[-1].body, receiver.got[-1].headers, secret=created.signing_secret)

        log(native, created.id, f"/{got.id}/replay", "POST")
        wait_until("the same once more", lambda: len(receiver.got) == 4, LIMIT_S)
        assert (receiver.got[3].id, receiver.got[3].body) == (got.id, got.body)

        assert client.webhooks.update(created.id, event_types=["batch.expired"]).event_types == ["batch.expired"]
        assert [hook.id for hook in client.webhooks.list()] == [created.id]
        assert "signing_secret" not in client.webhooks.retrieve(created.id).to_dict()
        with client_of(native, "globex") as other, pytest.raises(openai.NotFoundError):
            other.webhooks.retrieve(created.id)
        assert client.webhooks.delete(created.id).deleted
    written = native.processes()[0].log.read_text()
    assert "whsec_" not in written
    assert receiver.url not in written


def test_what_a_receiver_cannot_take_comes_again_and_goes_nowhere_else(start_native: StartNative) -> None:
    native = start(start_native)
    with client_of(native) as client, Receiver(answer=lambda before: [500, 302, 200][before]) as receiver:
        hook = client.webhooks.create(name="a", url=receiver.url, event_types=ALL)
        end_batch(client)
        (delivered,) = in_state(native, hook.id, "delivered")
        assert delivered["attempts"] == 3
        assert {got.id for got in receiver.got} == {delivered["id"]}
        assert len({got.body for got in receiver.got}) == 1
    with pytest.raises(openai.BadRequestError, match="not public"), client_of(native) as client:
        client.webhooks.create(name="a", url="https://[::ffff:10.0.0.1]/", event_types=ALL)


def test_a_name_that_leads_inward_is_not_asked(start_native: StartNative) -> None:
    """Another network is allowed, so a name is taken, which is refused once it is resolved."""
    native = start(start_native, **{"webhook-allow-networks": "127.0.0.2/32", "webhook-retries": "1h"})
    with client_of(native) as client, Receiver() as receiver:
        hook = client.webhooks.create(name="a", url=f"https://localhost:{receiver.port}/", event_types=ALL)
        with pytest.raises(openai.BadRequestError, match="not public"):
            client.webhooks.test(hook.id, event_type="batch.failed")
        end_batch(client)

        def attempted() -> Any:
            (entry,) = log(native, hook.id)["data"]
            return entry if entry["attempts"] == 1 else None

        entry = wait_until("an attempt", attempted, LIMIT_S)
        assert (entry["state"], entry["last_status_code"]) == ("pending", None)
        assert "not public" in entry["last_error"]
        assert receiver.got == []


def test_nothing_is_lost_while_a_receiver_is_down_and_the_gateway_is_killed(start_native: StartNative) -> None:
    native = start(start_native)
    down = Receiver()
    down.close()
    with client_of(native) as client, Receiver() as other:
        hook = client.webhooks.create(name="down", url=down.url, event_types=ALL)
        up = client.webhooks.create(name="up", url=other.url, event_types=ALL)
        ended = [end_batch(client) for _ in range(3)]
        native.processes()[0].kill()  # some attempts have failed, and maybe none of the last one's was made
        native.start_gateway()
        in_state(native, up.id, "delivered", 3)
        assert {entry["state"] for entry in log(native, hook.id)["data"]} == {"pending"}
        with Receiver(port=down.port) as back:
            told = {entry["id"]: entry["data_id"] for entry in in_state(native, hook.id, "delivered", 3)}
            assert {got.id for got in back.got} == set(told)
        assert sorted(told.values()) == sorted(ended)
        events: list[Any] = [
            client.webhooks.unwrap(got.body, got.headers, secret=hook.signing_secret) for got in back.got
        ]
        assert {event.data.id for event in events} == set(ended)
    assert metrics.read(native.describe().metrics_url)["gateway_webhook_attempts_total"] >= 3
