"""Webhooks, with the official Python SDK on both sides: it sets them up, and it verifies what a receiver gets."""

import contextlib
import datetime
import os
import subprocess
import threading
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import openai
import pytest

from e2e import batches, metrics
from e2e.databases import Database
from e2e.names import NAME, Names
from e2e.receivers import Receiver
from stack.native import GATEWAY, NativeStack
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


def start(
    start_native: StartNative, settings: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> NativeStack:
    gateway = {**OWN, **settings}
    return start_native(hotpath_address=NOBODY, gateway=gateway, gateway_environment=environment, wait=False)


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
    native = start(start_native, {})
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


def attempted(native: NativeStack, webhook: str, times: int) -> dict[str, Any]:
    """The newest delivery, once it was tried so often."""

    def look() -> dict[str, Any] | None:
        newest: dict[str, Any] = log(native, webhook)["data"][0]
        return newest if newest["attempts"] >= times else None

    return wait_until(f"{times} attempts", look, LIMIT_S)


def test_however_a_receiver_fails_it_is_asked_again_and_nobody_else_is(
    database: Database, start_native: StartNative
) -> None:
    """One hangs, one refuses connections, one answers 500, and one says that another, inside, is to be asked."""
    native = start(start_native, database.settings)
    well = threading.Event()
    with contextlib.ExitStack() as ending:
        client = ending.enter_context(client_of(native))
        inside, good = (ending.enter_context(Receiver()) for _ in range(2))
        down = Receiver()
        down.close()
        answers: dict[str, Callable[[int], int]] = {
            "did not answer within 500ms": lambda _: 200 if well.wait(LIMIT_S) else 500,
            "the receiver answered 500": lambda _: 200 if well.is_set() else 500,
            "a redirect, and those are not followed": lambda _: 200 if well.is_set() else 307,
        }
        receivers = {
            says: ending.enter_context(Receiver(answer=answer, location=inside.url)) for says, answer in answers.items()
        }
        receivers["refused the connection"] = down
        hooks = {
            says: client.webhooks.create(name="a", url=receiver.url, event_types=ALL).id
            for says, receiver in receivers.items()
        }
        beside = client.webhooks.create(name="b", url=good.url, event_types=ALL).id
        batch = end_batch(client)
        assert in_state(native, beside, "delivered")[0]["attempts"] == 1
        for says, hook in hooks.items():
            entry = attempted(native, hook, 2)
            assert (entry["state"], entry["data_id"]) == ("pending", batch)
            assert says in entry["last_error"]
        receivers["refused the connection"] = ending.enter_context(Receiver(port=down.port))
        well.set()
        for says, hook in hooks.items():
            (delivered,) = in_state(native, hook, "delivered")
            assert {got.id for got in receivers[says].got} == {delivered["id"]}
            assert len({got.body for got in receivers[says].got}) == 1
        assert inside.got == []


def test_an_address_that_is_not_public_is_no_webhook(start_native: StartNative) -> None:
    with client_of(start(start_native, {})) as client, pytest.raises(openai.BadRequestError, match="not public"):
        client.webhooks.create(name="a", url="https://[::ffff:10.0.0.1]/", event_types=ALL)


def test_a_name_that_leads_inward_is_not_asked(start_native: StartNative) -> None:
    """Another network is allowed, so a name is taken, which is refused once it is resolved."""
    native = start(start_native, {"webhook-allow-networks": "127.0.0.2/32", "webhook-retries": "1h"})
    with client_of(native) as client, Receiver() as receiver:
        hook = client.webhooks.create(name="a", url=f"https://localhost:{receiver.port}/", event_types=ALL)
        with pytest.raises(openai.BadRequestError, match="not public"):
            client.webhooks.test(hook.id, event_type="batch.failed")
        end_batch(client)
        entry = attempted(native, hook.id, 1)
        assert (entry["state"], entry["last_status_code"]) == ("pending", None)
        assert "not public" in entry["last_error"]
        assert receiver.got == []


def test_a_name_that_turns_inward_is_not_asked_again(
    database: Database, names: Names, start_native: StartNative
) -> None:
    """127.0.0.1 is as good as a public address here, and 127.0.0.2, where the receiver listens as well, is inside."""
    settings = {**database.settings, "webhook-allow-networks": "127.0.0.1/32"}
    native = start(start_native, settings, names.environment)
    with client_of(native) as client, Receiver(listens_on="0.0.0.0") as receiver:  # noqa: S104
        names.lead_to("127.0.0.1")
        hook = client.webhooks.create(name="a", url=f"http://{NAME}:{receiver.port}/", event_types=ALL)
        end_batch(client)
        in_state(native, hook.id, "delivered")
        names.lead_to("127.0.0.2")
        end_batch(client)
        entry = attempted(native, hook.id, 2)
        assert (entry["state"], entry["last_status_code"]) == ("pending", None)
        assert "out of the networks that it is allowed for" in entry["last_error"]
        client.webhooks.update(hook.id, url=f"https://{NAME}:{receiver.port}/")
        with pytest.raises(openai.BadRequestError, match="not public"):
            client.webhooks.test(hook.id, event_type="batch.failed")
        assert len(receiver.got) == 1
        client.webhooks.update(hook.id, url=f"http://{NAME}:{receiver.port}/")
        names.lead_to("127.0.0.1")
        in_state(native, hook.id, "delivered", 2)
        assert len(receiver.got) == 2


def test_no_proxy_of_the_environment_is_asked(names: Names, start_native: StartNative) -> None:
    """For webhooks, the health check, and what asks the admin API: by a name, since Go takes none to loopback."""
    names.lead_to("127.0.0.1")
    with Receiver() as proxy, Receiver() as receiver:
        proxies = {f"{kind}_PROXY": proxy.url for kind in ("HTTP", "HTTPS", "ALL")}
        environment = names.environment | proxies | {"NO_PROXY": "", "no_proxy": ""}
        environment |= {name.lower(): value for name, value in proxies.items()}
        native = start(start_native, {}, environment)
        with client_of(native) as client:
            secure = client.webhooks.create(name="s", url=f"https://{NAME}:{receiver.port}/", event_types=ALL)
            hook = client.webhooks.create(name="a", url=f"http://{NAME}:{receiver.port}/", event_types=ALL)
            end_batch(client)
            (delivered,) = in_state(native, hook.id, "delivered")
            assert [got.id for got in receiver.got] == [delivered["id"]]
            assert "TLS with the receiver failed" in attempted(native, secure.id, 2)["last_error"]

        def run(*command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run([GATEWAY, *command], env=os.environ | environment, capture_output=True, text=True)

        metrics_address, admin_address = (
            f"{NAME}:{native.addresses[listener].rpartition(':')[2]}" for listener in ("gateway_metrics", "admin")
        )
        assert "503" in run("healthcheck", f"--metrics-address={metrics_address}").stderr  # there is no hot path
        token = f"--admin-token-file={native.describe().admin_token_file}"
        explained = run("limits", "explain", "--tenant=acme", f"--admin-address={admin_address}", token)
        assert (explained.returncode, explained.stderr) == (0, "")
        assert proxy.got == []


def test_nothing_is_lost_while_a_receiver_is_down_and_the_gateway_is_killed(
    database: Database, start_native: StartNative
) -> None:
    native = start(start_native, database.settings)
    down = Receiver()
    down.close()
    with client_of(native) as client, Receiver() as other:
        hook = client.webhooks.create(name="down", url=down.url, event_types=ALL)
        up = client.webhooks.create(name="up", url=other.url, event_types=ALL)
        ended = [end_batch(client) for _ in range(3)]
        native.replace_gateway()  # some attempts have failed, and maybe none of the last one's was made
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
